//! `COPY` and `ADD`.

use super::flags::{Flags, Table, Takes};
use super::heredoc::Opening;
use super::lines::LogicalLine;
use super::statement::Statement;
use super::words::{Json, blank_separated, json};
use super::{ParseError, Problem};
use crate::instruction::{Add, Copy, Heredoc, Source};

const COPY: Table = &[
    ("chmod", Takes::Value),
    ("chown", Takes::Value),
    ("exclude", Takes::Values),
    ("from", Takes::Value),
    ("link", Takes::Switch),
    ("parents", Takes::Switch),
];

const ADD: Table = &[
    ("checksum", Takes::Value),
    ("chmod", Takes::Value),
    ("chown", Takes::Value),
    ("exclude", Takes::Values),
    ("keep-git-dir", Takes::Switch),
    ("link", Takes::Switch),
    ("unpack", Takes::Switch),
];

pub(super) fn copy(
    line: &LogicalLine,
    statement: &Statement<'_>,
    heredocs: &[Heredoc],
) -> Result<Copy, ParseError> {
    let flags = Flags::check(line, statement, COPY)?;
    if let Some((from, position)) = flags.located("from")
        && from.contains('$')
    {
        return Err(ParseError::new(
            position,
            Problem::VariableFrom(from.to_owned()),
        ));
    }
    let (sources, dest) = sources_and_dest(line, statement, heredocs)?;
    Ok(Copy {
        sources,
        dest,
        from: flags.value("from"),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags
            .values("exclude")
            .map(|(pattern, _)| pattern.to_owned())
            .collect(),
    })
}

pub(super) fn add(
    line: &LogicalLine,
    statement: &Statement<'_>,
    heredocs: &[Heredoc],
) -> Result<Add, ParseError> {
    let flags = Flags::check(line, statement, ADD)?;
    let (sources, dest) = sources_and_dest(line, statement, heredocs)?;
    Ok(Add {
        sources,
        dest,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        exclude: flags
            .values("exclude")
            .map(|(pattern, _)| pattern.to_owned())
            .collect(),
        keep_git_dir: flags.switch("keep-git-dir"),
        checksum: flags.value("checksum"),
        unpack: flags.switch("unpack"),
    })
}

/// The words of the JSON or the plain form; only a plain word can open a here-document.
fn sources_and_dest(
    line: &LogicalLine,
    statement: &Statement<'_>,
    heredocs: &[Heredoc],
) -> Result<(Vec<Source>, String), ParseError> {
    let keyword = || statement.name.to_owned();
    let (mut words, plain) = match json(statement.rest.text) {
        Json::Strings(words) => (
            words
                .into_iter()
                .map(|word| (word, statement.rest.at))
                .collect::<Vec<_>>(),
            false,
        ),
        Json::NotStrings => {
            let position = line.position(statement.rest.at);
            return Err(ParseError::new(position, Problem::NotStrings(keyword())));
        }
        Json::No => {
            let words = blank_separated(statement.rest);
            (
                words
                    .into_iter()
                    .map(|word| (word.text.to_owned(), word.at))
                    .collect(),
                true,
            )
        }
    };
    let dest = words.pop().filter(|_| !words.is_empty());
    let Some((dest, dest_at)) = dest else {
        let position = line.position(statement.keyword.at);
        return Err(ParseError::new(position, Problem::NoDestination(keyword())));
    };
    if plain && Opening::parse(&dest).is_some() {
        let problem = Problem::HeredocDestination(keyword());
        return Err(ParseError::new(line.position(dest_at), problem));
    }
    let source = |word: String| {
        let opening = Opening::parse(&word).filter(|_| plain);
        // As BuildKit, by name: two here-documents of one name are both the later one.
        let heredoc = opening.and_then(|opening| {
            heredocs
                .iter()
                .rev()
                .find(|heredoc| heredoc.name == opening.name)
        });
        heredoc.map_or(Source::Path(word), |heredoc| {
            Source::Heredoc(heredoc.clone())
        })
    };
    Ok((
        words.into_iter().map(|(word, _)| source(word)).collect(),
        dest,
    ))
}
