//! `--secret`, as buildx reads it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{CliError, wrong};
use crate::cli::Env;
use crate::cli::args::Args;
use crate::request::Secret;

const FLAG: &str = "secret";
const FORM: &str = "expected id=ID[,src=FILE][,env=NAME][,type=file|env]";
/// BuildKit's `MaxSecretSize`.
const LARGEST: u64 = 500 * 1024;

/// The secrets by their ids.
pub(super) fn secrets(args: &Args, env: &Env) -> Result<BTreeMap<String, Secret>, CliError> {
    let read = |text: &String| secret(text, env);
    args.all(FLAG).iter().map(read).collect()
}

/// `id=ID[,src=FILE][,env=NAME][,type=file|env]`; without a source it is the variable of that name, else the file.
fn secret(text: &str, env: &Env) -> Result<(String, Secret), CliError> {
    let (mut id, mut file, mut name, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let field = field.split_once('=').filter(|(_, value)| !value.is_empty());
        match field.ok_or_else(|| wrong(FLAG, text, FORM))? {
            ("id", value) => id = Some(value),
            ("src" | "source", value) => file = Some(value),
            ("env", value) => name = Some(value),
            ("type", value) => kind = Some(value),
            (other, _) => return Err(wrong(FLAG, text, format!("unknown field {other}: {FORM}"))),
        }
    }
    let id = id.ok_or_else(|| wrong(FLAG, text, "it needs an id"))?;
    let variable = |name: &str| -> Result<Vec<u8>, CliError> {
        let missing = || wrong(FLAG, text, format!("the variable {name} is not set"));
        let value = env.get(name).ok_or_else(missing)?;
        Ok(value.clone().into_bytes())
    };
    let value = match (kind, file, name) {
        (None | Some("file"), Some(path), _) => content(Path::new(path))?,
        (Some("file"), None, _) => content(Path::new(id))?,
        (Some("env"), source, name) => variable(name.or(source).unwrap_or(id))?,
        (None, None, Some(name)) => variable(name)?,
        (None, None, None) if env.contains_key(id) => variable(id)?,
        (None, None, None) if Path::new(id).exists() => content(Path::new(id))?,
        (None, None, None) => {
            let why = format!("there is neither a variable nor a file {id}: {FORM}");
            return Err(wrong(FLAG, text, why));
        }
        (Some(kind), ..) => {
            let why = format!("unknown type {kind}: expected file or env");
            return Err(wrong(FLAG, text, why));
        }
    };
    if value.len() as u64 > LARGEST {
        let why = "it is too large: a secret has 500 KiB at most";
        return Err(wrong(FLAG, text, why));
    }
    Ok((id.to_owned(), Secret(value)))
}

/// What a file holds, up to one byte more than is taken: it may be a pipe or a device.
fn content(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut content = Vec::new();
    let read = |content: &mut Vec<u8>| -> io::Result<()> {
        File::open(path)?.take(LARGEST + 1).read_to_end(content)?;
        Ok(())
    };
    read(&mut content).map_err(|source| CliError::Read {
        what: "the secret",
        path: PathBuf::from(path),
        source,
    })?;
    Ok(content)
}
