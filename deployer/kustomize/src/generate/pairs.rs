//! Keys and values from literals, files and environment files.

use std::collections::BTreeMap;

use super::Generator;
use crate::Error;
use crate::load::Loader;
use crate::work::Work;

/// The longest line of an environment file that kustomize reads, with its end.
const LONGEST_LINE: usize = 64 * 1024;

type Pair = (String, Vec<u8>);

/// All pairs of a generator; a key may stand once.
pub(super) fn read(
    work: &mut Work,
    loader: &Loader<'_>,
    generator: &Generator,
) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut all = Vec::new();
    for (at, path) in generator.envs.iter().enumerate() {
        let content = loader
            .read(path)
            .map_err(|error| Error::from(error).in_field(format!("envs[{at}]")))?;
        let pairs = env_pairs(work, path, &content)
            .map_err(|error| error.in_field(format!("envs[{at}]")))?;
        all.extend(pairs);
    }
    for (at, literal) in generator.literals.iter().enumerate() {
        all.push(pair(literal).ok_or_else(|| {
            Error::Literal {
                literal: literal.clone(),
            }
            .in_field(format!("literals[{at}]"))
        })?);
    }
    for (at, source) in generator.files.iter().enumerate() {
        let in_field = |error: Error| error.in_field(format!("files[{at}]"));
        let (key, path) = file_source(source).map_err(in_field)?;
        let content = loader.read(path).map_err(|error| in_field(error.into()))?;
        all.push((key.to_owned(), content));
    }
    let mut data = BTreeMap::new();
    for (key, value) in all {
        if data.contains_key(&key) {
            return Err(Error::RepeatedKey {
                name: generator.name.clone(),
                key,
            });
        }
        data.insert(key, value);
    }
    Ok(data)
}

/// `key=value`; quotes around the value are taken off.
fn pair(literal: &str) -> Option<Pair> {
    let (key, value) = literal.split_once('=').filter(|(key, _)| !key.is_empty())?;
    let bare = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((key.to_owned(), bare.unwrap_or(value).as_bytes().to_vec()))
}

/// `[key=]path`; without a key the name of the file is the key.
fn file_source(source: &str) -> Result<(&str, &str), Error> {
    let wrong = |problem| Error::FileSource {
        source_text: source.to_owned(),
        problem,
    };
    match source.split_once('=') {
        None => {
            let trimmed = source.trim_end_matches('/');
            let name = trimmed.rsplit('/').next().unwrap_or(trimmed);
            Ok((if name.is_empty() { "/" } else { name }, source))
        }
        Some((_, path)) if path.contains('=') => Err(wrong("a key or path contains `=`")),
        Some(("", _)) => Err(wrong("the key is missing")),
        Some((_, "")) => Err(wrong("the path is missing")),
        Some((key, path)) => Ok((key, path)),
    }
}

/// Lines `KEY=value`; empty lines and those that start with `#` count nothing.
fn env_pairs(work: &mut Work, path: &str, content: &[u8]) -> Result<Vec<Pair>, Error> {
    let mut pairs = Vec::new();
    for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if line.len() >= LONGEST_LINE {
            work.warn(format!(
                "{path}: line {} is longer than {LONGEST_LINE} bytes; it and all after it are left out, as kustomize does",
                at + 1
            ));
            break;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut line = std::str::from_utf8(line).map_err(|_| Error::EnvNotText {
            path: path.to_owned(),
            line: at + 1,
        })?;
        if at == 0 {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !key.is_empty() {
            pairs.push((key.to_owned(), value.as_bytes().to_vec()));
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_lose_their_quotes() {
        let value = |literal| pair(literal).map(|(_, value)| String::from_utf8(value).unwrap());
        assert_eq!(value("a=\"b c\""), Some("b c".to_owned()));
        assert_eq!(value("a='b=c'"), Some("b=c".to_owned()));
        assert_eq!(value("a=\""), Some("\"".to_owned()));
        assert_eq!(value("a="), Some(String::new()));
        assert_eq!(value("a"), None);
        assert_eq!(value("=a"), None);
    }

    #[test]
    fn files_are_keyed_by_their_name() {
        assert_eq!(file_source("a/b.txt").unwrap(), ("b.txt", "a/b.txt"));
        assert_eq!(file_source("k=a/b.txt").unwrap(), ("k", "a/b.txt"));
        for wrong in ["=a", "a=", "a=b=c"] {
            assert!(file_source(wrong).is_err(), "{wrong}");
        }
    }
}
