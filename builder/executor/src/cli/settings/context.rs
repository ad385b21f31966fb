//! The context, the Dockerfile and the `.dockerignore`.

mod opened;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use kiln_dockerfile::Dockerfile;
use kiln_dockerfile::ignore::Patterns;
use kiln_store::Store;

use super::{CliError, wrong};
use crate::cli::Env;
use crate::cli::args::Args;
use crate::fetch::{self, GitChoices, Place};
use crate::git;
use crate::plan::{Directory, NamedContext};
use crate::remote::Remote;
pub(super) use opened::{Fetched, Opened};

/// kaniko's default.
const DEFAULT: &str = "/workspace/";
/// The longest Dockerfile that is fetched.
const LONGEST_DOCKERFILE: u64 = 16 << 20;

/// What `--context` and `--bucket` name.
pub(super) fn place(args: &Args) -> Result<Place, CliError> {
    let given = args.one("context").filter(|text| !text.is_empty());
    let bucket = args.one("bucket").filter(|text| !text.is_empty());
    let text = match (given, bucket) {
        (None, None) => DEFAULT.to_owned(),
        (Some(context), None) => context.to_owned(),
        (None, Some(bucket)) if bucket.contains("://") => bucket.to_owned(),
        (None, Some(bucket)) => format!("gs://{bucket}"),
        (Some(_), Some(bucket)) => {
            return Err(wrong(
                "bucket",
                bucket,
                "--context says where the context is: give one of the two",
            ));
        }
    };
    Place::parse(&text).map_err(|error| wrong("context", &text, error.to_string()))
}

/// The directory that `--context` names, where it is one.
pub(super) fn directory(args: &Args) -> Result<PathBuf, CliError> {
    match place(args)? {
        Place::Directory(path) => Ok(without_slash(path)),
        _ => Err(wrong(
            "await-context",
            args.one("context").unwrap_or_default(),
            "only a directory is waited for",
        )),
    }
}

fn without_slash(path: PathBuf) -> PathBuf {
    let text = path.as_os_str().to_string_lossy();
    match text.trim_end_matches('/') {
        "" => path,
        trimmed => PathBuf::from(trimmed),
    }
}

/// The context; what is elsewhere is brought into the store.
pub(super) fn open(
    args: &Args,
    env: &Env,
    store: &Store,
    remote: &Remote,
) -> Result<Opened, CliError> {
    let place = place(args)?;
    let sub = args.one("context-sub-path").unwrap_or_default();
    let git = git_choices(args)?;
    if let Place::Directory(path) = place {
        return Opened::local(&match sub {
            "" => path,
            sub => path.join(sub.trim_start_matches('/')),
        });
    }
    let scratch = store.scratch()?;
    fetch::fetch(&place, remote, (env, &git), scratch.path()).map_err(|source| {
        CliError::Fetch {
            what: "the context",
            place: fetch::shown(
                args.one("context")
                    .or(args.one("bucket"))
                    .unwrap_or_default(),
            ),
            source: Box::new(source),
        }
    })?;
    Opened::fetched(scratch, Path::new(sub))
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
                let context = Opened::local(&dir)?;
                let ignore = read_ignore(&context, &dir.join(".dockerignore"))?.flatten();
                NamedContext::Directory(Directory { dir, ignore })
            }
        };
        let name = name.to_lowercase();
        let name = name.strip_suffix(":latest").unwrap_or(&name);
        contexts.insert(name.to_owned(), context);
    }
    Ok(contexts)
}

/// `--git key=value`, each once or several separated by commas.
fn git_choices(args: &Args) -> Result<GitChoices, CliError> {
    let mut choices = GitChoices::default();
    // kaniko fetches everything unless it is told otherwise; what was built is the same.
    choices.extent.branches = git::Branches::One;
    for text in args
        .all("git")
        .iter()
        .flat_map(|text| text.split(','))
        .filter(|text| !text.is_empty())
    {
        let expected =
            "expected branch=, single-branch=, depth=, recurse-submodules= or insecure-skip-tls=";
        let Some((key, value)) = text.split_once('=') else {
            return Err(wrong("git", text, expected));
        };
        let on = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong("git", text, "expected true or false")),
        };
        let extent = &mut choices.extent;
        match key {
            "branch" => choices.branch = (!value.is_empty()).then(|| value.to_owned()),
            "single-branch" => {
                on()?;
            }
            "depth" => {
                let depth = value
                    .parse()
                    .map_err(|_| wrong("git", text, "expected a number"))?;
                extent.depth = (depth > 0).then_some(depth);
            }
            "recurse-submodules" if on()? => extent.submodules = git::Submodules::Recursive,
            "insecure-skip-tls" if on()? => extent.certificate = git::Certificate::Any,
            "recurse-submodules" | "insecure-skip-tls" => {}
            _ => return Err(wrong("git", text, expected)),
        }
    }
    // Only the files are wanted.
    if choices.extent.depth.is_none() {
        choices.extent.depth = Some(1);
    }
    Ok(choices)
}

/// Reads the Dockerfile: `--dockerfile` as an address, as a path from here, else within the context.
pub(super) fn dockerfile(
    args: &Args,
    context: &Opened,
    remote: &Remote,
) -> Result<(PathBuf, Dockerfile), CliError> {
    const WHAT: &str = "the Dockerfile";
    let name = args
        .one("dockerfile")
        .filter(|name| !name.is_empty())
        .unwrap_or("Dockerfile");
    let (path, text) = if name.starts_with("https://") || name.starts_with("http://") {
        let url = name
            .parse()
            .map_err(|_| wrong("dockerfile", name, "this is not an address"))?;
        let text =
            fetch::text(remote, &url, LONGEST_DOCKERFILE).map_err(|source| CliError::Fetch {
                what: WHAT,
                place: fetch::shown(name),
                source: Box::new(source),
            })?;
        (PathBuf::from(name), text)
    } else {
        let here = PathBuf::from(name);
        let given = args.one("dockerfile").is_some_and(|name| !name.is_empty());
        let path = if given && here.is_file() {
            here
        } else {
            context.dir.join(name)
        };
        let missing = || CliError::Read {
            what: WHAT,
            path: path.clone(),
            source: io::Error::from_raw_os_error(2),
        };
        let text = context.text(WHAT, &path)?.ok_or_else(missing)?;
        (path, text)
    };
    let dockerfile = kiln_dockerfile::parse(&text).map_err(|error| CliError::Parse {
        dockerfile: shown(&path, &context.dir),
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
        .and_then(|real| real.strip_prefix(context).ok())
        .or(dockerfile.strip_prefix(context).ok());
    within.unwrap_or(dockerfile).display().to_string()
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
pub(super) fn ignore(
    dockerfile: &Path,
    context: &Opened,
) -> Result<Option<(Patterns, String)>, CliError> {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    for path in [PathBuf::from(beside), context.dir.join(".dockerignore")] {
        if let Some(ignore) = read_ignore(context, &path)? {
            return Ok(ignore);
        }
    }
    Ok(None)
}

/// `None` when there is no such file, `Some(None)` when it leaves nothing out.
fn read_ignore(
    context: &Opened,
    path: &Path,
) -> Result<Option<Option<(Patterns, String)>>, CliError> {
    let Some(text) = context.text("the ignore file", path)? else {
        return Ok(None);
    };
    let file = path.display().to_string();
    let patterns = Patterns::parse(&text).map_err(|source| CliError::Ignore {
        file: file.clone(),
        source,
    })?;
    Ok(Some((!patterns.is_empty()).then_some((patterns, file))))
}
