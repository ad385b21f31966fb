//! The context, the Dockerfile and the `.dockerignore`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kiln_dockerfile::Dockerfile;
use kiln_dockerfile::ignore::Patterns;
use kiln_store::{Scratch, Store};

use super::{CliError, wrong};
use crate::cli::args::Args;
use crate::layer::dir::Form;
use crate::layer::unpack;
use crate::plan::{Directory, NamedContext};

/// kaniko's default.
const DEFAULT: &str = "/workspace/";
/// Kinds of contexts that are fetched from elsewhere.
const REMOTE: [&str; 6] = ["gs://", "s3://", "https://", "http://", "git://", "az://"];

/// The directory that `--context` names. `dir://workspace` means `/workspace`: kaniko's tutorial
/// writes it like that.
pub(super) fn directory(args: &Args) -> Result<PathBuf, CliError> {
    let text = args
        .one("context")
        .filter(|text| !text.is_empty())
        .unwrap_or(DEFAULT);
    if let Some(scheme) = REMOTE.iter().find(|scheme| text.starts_with(**scheme)) {
        let expected =
            format!("contexts from {scheme} are not fetched yet: use a directory or a tar");
        return Err(wrong("context", text, expected));
    }
    let path = match text.strip_prefix("dir://") {
        Some(path) => Path::new("/").join(path.trim_start_matches('/')),
        None => PathBuf::from(text),
    };
    let mut name = path.into_os_string();
    while name.len() > 1 && name.as_encoded_bytes().ends_with(b"/") {
        let text = name.to_string_lossy().trim_end_matches('/').to_owned();
        name = if text.is_empty() {
            "/".into()
        } else {
            text.into()
        };
    }
    Ok(PathBuf::from(name))
}

/// The context's directory, absolute and without links; an archive is unpacked into the store.
pub(super) fn open(args: &Args, store: &Store) -> Result<(PathBuf, Option<Scratch>), CliError> {
    let text = args.one("context").unwrap_or_default();
    let (dir, scratch) = match text.strip_prefix("tar://") {
        Some(path) => {
            let scratch = store.scratch()?;
            let path = PathBuf::from(path);
            let failed = |source| CliError::Read {
                what: "the context",
                path: path.clone(),
                source,
            };
            let input: Box<dyn io::Read + Send> = if path == Path::new("stdin") {
                Box::new(io::stdin())
            } else {
                Box::new(File::open(&path).map_err(failed)?)
            };
            unpack::unpack(input, scratch.path(), Form::Applied)
                .map_err(|error| failed(io::Error::other(error)))?;
            (scratch.path().to_owned(), Some(scratch))
        }
        None => (directory(args)?, None),
    };
    let dir = match args.one("context-sub-path") {
        Some(sub) => dir.join(sub.trim_start_matches('/')),
        None => dir,
    };
    let real = dir.canonicalize().map_err(|source| CliError::Read {
        what: "the context",
        path: dir.clone(),
        source,
    })?;
    Ok((real, scratch))
}

/// `--build-context NAME=DIRECTORY` and `NAME=docker-image://IMAGE`.
pub(super) fn named(args: &Args) -> Result<BTreeMap<String, NamedContext>, CliError> {
    const FLAG: &str = "build-context";
    let mut contexts = BTreeMap::new();
    for text in args.all(FLAG) {
        let (name, place) = match text.split_once('=') {
            Some((name, place)) if !name.is_empty() && !place.is_empty() => (name, place),
            _ => {
                return Err(wrong(
                    FLAG,
                    text,
                    "expected NAME=DIRECTORY or NAME=docker-image://IMAGE",
                ));
            }
        };
        let context = match place.split_once("://") {
            Some(("docker-image", image)) => NamedContext::Image(image.to_owned()),
            Some((scheme, _)) => {
                let why = format!(
                    "named contexts from {scheme}:// are not fetched: use a directory or docker-image://"
                );
                return Err(wrong(FLAG, text, why));
            }
            None => {
                let dir = Path::new(place)
                    .canonicalize()
                    .map_err(|source| CliError::Read {
                        what: "the named context",
                        path: PathBuf::from(place),
                        source,
                    })?;
                let ignore = read_ignore(dir.join(".dockerignore"))?.flatten();
                NamedContext::Directory(Directory { dir, ignore })
            }
        };
        let name = name.to_lowercase();
        let name = name.strip_suffix(":latest").unwrap_or(&name);
        contexts.insert(name.to_owned(), context);
    }
    Ok(contexts)
}

/// Reads the Dockerfile: `--dockerfile` as a path from here, else within the context.
pub(super) fn dockerfile(args: &Args, context: &Path) -> Result<(PathBuf, Dockerfile), CliError> {
    let name = args
        .one("dockerfile")
        .filter(|name| !name.is_empty())
        .unwrap_or("Dockerfile");
    if name.starts_with("https://") || name.starts_with("http://") {
        return Err(wrong(
            "dockerfile",
            name,
            "it is not fetched from the web: put it into the context",
        ));
    }
    let here = PathBuf::from(name);
    let given = args.one("dockerfile").is_some_and(|name| !name.is_empty());
    let path = if given && here.is_file() {
        here
    } else {
        context.join(name)
    };
    let text = fs::read_to_string(&path).map_err(|source| CliError::Read {
        what: "the Dockerfile",
        path: path.clone(),
        source,
    })?;
    let dockerfile = kiln_dockerfile::parse(&text).map_err(|error| CliError::Parse {
        dockerfile: shown(&path, context),
        error: Box::new(error),
    })?;
    Ok((path, dockerfile))
}

/// A Dockerfile's name in messages: relative to the context, which people know under another
/// path, when it lies there.
pub(super) fn shown(dockerfile: &Path, context: &Path) -> String {
    let real = dockerfile.canonicalize().ok();
    let within = real
        .as_deref()
        .and_then(|real| real.strip_prefix(context).ok());
    within.unwrap_or(dockerfile).display().to_string()
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
pub(super) fn ignore(
    dockerfile: &Path,
    context: &Path,
) -> Result<Option<(Patterns, String)>, CliError> {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    for path in [PathBuf::from(beside), context.join(".dockerignore")] {
        if let Some(ignore) = read_ignore(path)? {
            return Ok(ignore);
        }
    }
    Ok(None)
}

/// `None` when there is no such file, `Some(None)` when it leaves nothing out.
fn read_ignore(path: PathBuf) -> Result<Option<Option<(Patterns, String)>>, CliError> {
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CliError::Read {
                what: "the ignore file",
                path,
                source,
            });
        }
    };
    let file = path.display().to_string();
    let patterns = Patterns::parse(&text).map_err(|source| CliError::Ignore {
        file: file.clone(),
        source,
    })?;
    Ok(Some((!patterns.is_empty()).then_some((patterns, file))))
}
