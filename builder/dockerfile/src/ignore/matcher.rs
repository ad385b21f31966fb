//! What a pattern is compared by. The shortcuts and the translation are moby's (patternmatcher 0.6.1), and part of the
//! semantics: characters are translated one by one, within a class too.

use regex::Regex;

use super::expression::{self, Fault};

/// How a pattern is compared.
#[derive(Debug, Clone)]
pub(super) enum Matcher {
    /// No special character: the path itself.
    Exact,
    /// `text**`: everything that starts with the text.
    Prefix(String),
    /// `**text`: everything that ends with the text, or is the text without its `/`.
    Suffix(String),
    Regex(Regex),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

impl Matcher {
    /// The fault comes with the expression that has it.
    pub(super) fn of(text: &str) -> Result<Self, (String, Fault)> {
        let (kind, expression) = translate(text);
        Ok(match kind {
            Kind::Exact => Self::Exact,
            Kind::Prefix => Self::Prefix(text.strip_suffix("**").unwrap_or(text).to_owned()),
            Kind::Suffix => Self::Suffix(text.strip_prefix("**").unwrap_or(text).to_owned()),
            Kind::Regex => match expression::compile(&expression) {
                Ok(regex) => Self::Regex(regex),
                Err(fault) => return Err((expression, fault)),
            },
        })
    }

    pub(super) fn matches(&self, text: &str, path: &str) -> bool {
        match self {
            Self::Exact => path == text,
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

/// The kind, and the expression where it is one.
fn translate(text: &str) -> (Kind, String) {
    let mut kind = Kind::Exact;
    let mut expression = String::from("^");
    // Go's scanner skips a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = text.chars().peekable();
    let mut first = true;
    while let Some(ch) = rest.next() {
        match ch {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    expression.push_str("(.*/)?");
                    kind = Kind::Regex;
                } else if kind == Kind::Exact {
                    kind = Kind::Prefix;
                } else {
                    expression.push_str(".*");
                    kind = Kind::Regex;
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                expression.push_str("[^/]*");
                kind = Kind::Regex;
            }
            '?' => {
                expression.push_str("[^/]");
                kind = Kind::Regex;
            }
            // Not `|`, `{` and `}`: moby means to escape them too, but its table of characters loses them.
            '.' | '+' | '(' | ')' | '$' => {
                expression.push('\\');
                expression.push(ch);
            }
            '\\' => {
                expression.push('\\');
                if let Some(escaped) = rest.next() {
                    expression.push(escaped);
                    kind = Kind::Regex;
                }
            }
            ch => {
                expression.push(ch);
                if matches!(ch, '[' | ']') {
                    kind = Kind::Regex;
                }
            }
        }
        first = false;
    }
    expression.push('$');
    (kind, expression)
}
