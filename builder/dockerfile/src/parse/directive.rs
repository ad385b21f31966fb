//! Parser directives: `# syntax=`, `# escape=` and `# check=` at the top of the file.

use super::lines::without_end;
use super::{ParseError, Problem};
use crate::instruction::{Directives, Escape};
use crate::position::{Located, Position};

/// Reads the directives; the second value is the number of lines they take.
///
/// The first line that is none ends them, an unknown name or an ordinary comment included. A
/// `#!` line before them is skipped; BuildKit then reads `syntax` and `check`, not `escape`.
pub(super) fn read(text: &str) -> Result<(Directives, u32), ParseError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_other_formats(text)?;
    let mut directives = Directives::default();
    let mut seen: Vec<String> = Vec::new();
    let mut shebang = false;
    let mut count = 0;
    for (number, line) in (1_u32..).zip(text.lines()) {
        if number == 1 && line.starts_with("#!") {
            shebang = true;
            count = 1;
            continue;
        }
        let Some((name, value)) = split(line, "#") else {
            break;
        };
        let position = Position::new(number, 1);
        let name = name.to_ascii_lowercase();
        if !matches!(name.as_str(), "syntax" | "escape" | "check") {
            break;
        }
        if seen.contains(&name) {
            return Err(ParseError::new(position, Problem::DuplicateDirective(name)));
        }
        let located = || Located {
            value: value.to_owned(),
            position,
            last_line: number,
            source: without_end(line).to_owned(),
        };
        match name.as_str() {
            "syntax" => {
                refuse_other_frontend(value, position)?;
                directives.syntax = Some(located());
            }
            "check" => directives.check = Some(located()),
            _ if shebang => {}
            _ => {
                directives.escape = match value {
                    "\\" => Escape::Backslash,
                    "`" => Escape::Backtick,
                    _ => return Err(ParseError::new(position, Problem::Escape(value.to_owned()))),
                };
            }
        }
        seen.push(name);
        count = number;
    }
    Ok((directives, count))
}

/// `<comment> name = value`.
fn split<'l>(line: &'l str, comment: &str) -> Option<(&'l str, &'l str)> {
    let (name, value) = line
        .trim_start()
        .strip_prefix(comment)?
        .trim_start()
        .split_once('=')?;
    let (name, value) = (name.trim_end(), value.trim());
    let letter = name.chars().next()?.is_ascii_alphabetic();
    let word = name.chars().all(|ch| ch.is_ascii_alphanumeric());
    (letter && word && !value.is_empty()).then_some((name, value))
}

/// Files of other frontends may use `// syntax=` or `{"syntax": …}`.
fn refuse_other_formats(text: &str) -> Result<(), ParseError> {
    let first = text.lines().next().unwrap_or_default();
    let position = Position::new(1, 1);
    if let Some((name, value)) = split(first, "//")
        && name.eq_ignore_ascii_case("syntax")
    {
        return refuse_other_frontend(value, position);
    }
    if text.trim_start().starts_with('{')
        && let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text)
        && let Some(syntax) = object.get("syntax").and_then(serde_json::Value::as_str)
    {
        return refuse_other_frontend(syntax, position);
    }
    Ok(())
}

/// The official frontend, from any registry and at any version, is the built-in one.
fn refuse_other_frontend(value: &str, position: Position) -> Result<(), ParseError> {
    let image = value.split_whitespace().next().unwrap_or_default();
    let name = image.split('@').next().unwrap_or_default();
    let (path, last) = name.rsplit_once('/').unwrap_or(("", name));
    let last = last.split(':').next().unwrap_or_default();
    let official = matches!(last, "dockerfile" | "dockerfile-upstream")
        && path.rsplit('/').next() == Some("docker");
    if official {
        Ok(())
    } else {
        Err(ParseError::new(
            position,
            Problem::Frontend(image.to_owned()),
        ))
    }
}
