//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and escapes, no classes.

use regex::Regex;

use super::ExpandError;

enum Token {
    Literal(char),
    AnyChar,
    AnyText,
}

fn tokens(pattern: &str) -> Result<Vec<Token>, ExpandError> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(ch) = chars.next() {
        tokens.push(match ch {
            '*' => Token::AnyText,
            '?' => Token::AnyChar,
            '\\' => match chars.next() {
                Some(ch @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(ch),
                escaped => {
                    return Err(ExpandError::BadPattern {
                        pattern: pattern.to_owned(),
                        escaped: escaped.unwrap_or(' '),
                    });
                }
            },
            ch => Token::Literal(ch),
        });
    }
    Ok(tokens)
}

fn regex(tokens: &[Token], anchored: bool, longest: bool) -> Option<Regex> {
    let mut text = String::from(if anchored { "^" } else { "" });
    for token in tokens {
        match token {
            Token::Literal(ch) => text.push_str(&regex::escape(ch.encode_utf8(&mut [0; 4]))),
            Token::AnyChar => text.push('.'),
            Token::AnyText => text.push_str(if longest { ".*" } else { ".*?" }),
        }
    }
    // Every token is valid on its own; only the size limit of the regex crate can refuse, and a
    // pattern beyond it matches nothing that fits a Dockerfile.
    Regex::new(&text).ok()
}

pub(super) fn trim_prefix(
    pattern: &str,
    value: &str,
    longest: bool,
) -> Result<String, ExpandError> {
    let found = regex(&tokens(pattern)?, true, longest).and_then(|re| re.find(value));
    Ok(value[found.map_or(0, |found| found.end())..].to_owned())
}

/// A suffix of the value is a prefix of the reversed value, under the reversed pattern.
pub(super) fn trim_suffix(
    pattern: &str,
    value: &str,
    longest: bool,
) -> Result<String, ExpandError> {
    let mut tokens = tokens(pattern)?;
    tokens.reverse();
    let reversed: String = value.chars().rev().collect();
    let found = regex(&tokens, true, longest).and_then(|re| re.find(&reversed));
    let cut = found.map_or(0, |found| found.end());
    Ok(value[..value.len() - cut].to_owned())
}

/// Replaces the first or every match; the result may have `most` bytes.
pub(super) fn replace(
    pattern: &str,
    value: &str,
    (replacement, all): (&str, bool),
    most: usize,
) -> Result<String, ExpandError> {
    let Some(regex) = regex(&tokens(pattern)?, false, true) else {
        return Ok(value.to_owned());
    };
    let mut text = String::new();
    let mut end = 0;
    let count = if all { usize::MAX } else { 1 };
    for found in regex.find_iter(value).take(count) {
        text.push_str(&value[end..found.start()]);
        text.push_str(replacement);
        end = found.end();
        if text.len() > most {
            return Err(ExpandError::TooLong);
        }
    }
    text.push_str(&value[end..]);
    Ok(text)
}
