//! Go's regular expressions (package regexp/syntax), as far as patterns become them: read by Go's rules and handed on in
//! the regex crate's words. The two differ in classes and escapes.

use regex::Regex;

use crate::glob::push_literal;

/// Why a text is no regular expression of Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No `]`.
    #[error("a `[` is not closed")]
    OpenClass,
    /// `[b-a]`
    #[error("the range `{0}-{1}` is empty")]
    Range(char, char),
    /// `[:name:]` within a class.
    #[error("`[:{0}:]` is no class of characters")]
    Name(String),
    /// A letter, a digit or what is not ASCII behind a backslash.
    #[error("`\\{0}` has no meaning; leave out the backslash where the character itself is meant")]
    Escape(char),
    /// `\p`: the tables of Unicode are not here.
    #[error("`\\{0}` stands for a class of Unicode, which is not known here; list the characters")]
    Unicode(char),
    /// `|{2}`, or `{2}` behind another repetition.
    #[error("`{0}` has nothing to repeat")]
    Nothing(String),
    /// More than a thousand, or `{2,1}`.
    #[error("`{0}` is no number of times")]
    Times(String),
    /// A backslash at the end.
    #[error("nothing follows the last backslash")]
    Backslash,
    /// Too much for the matching engine.
    #[error("there are too many wildcards")]
    Size,
}

pub(super) fn compile(expression: &str) -> Result<Regex, Fault> {
    let mut text = String::new();
    let mut rest = expression;
    // Whether a `{2}` has something in front, which must not be a repetition itself.
    let (mut something, mut repeated) = (false, false);
    while let Some(ch) = rest.chars().next() {
        let after = &rest[ch.len_utf8()..];
        let next = match ch {
            '[' => class(after, &mut text)?,
            '\\' => escape(after, &mut text)?,
            '{' => match Times::read(after) {
                Some((times, after)) => {
                    let written = &rest[..rest.len() - after.len()];
                    if !times.is_possible() {
                        return Err(Fault::Times(written.to_owned()));
                    }
                    if !something || repeated {
                        return Err(Fault::Nothing(written.to_owned()));
                    }
                    text.push_str(written);
                    after
                }
                None => {
                    push_literal(&mut text, ch);
                    after
                }
            },
            // Stars and groups come from wildcards alone, where they repeat what may be repeated.
            '^' | '$' | '.' | '*' | '?' | '(' | ')' | '|' => {
                text.push(ch);
                after
            }
            ch => {
                push_literal(&mut text, ch);
                after
            }
        };
        let read = &rest[..rest.len() - next.len()];
        something = ch != '|' && (something || read != r"\Q\E");
        repeated = matches!(ch, '*' | '?') || (ch == '{' && read.len() > 1);
        rest = next;
    }
    Regex::new(&text).map_err(|_| Fault::Size)
}

/// `{2}`, `{2,}` or `{2,3}`; `None` for a number that is more than Go repeats.
struct Times {
    least: Option<u32>,
    most: Option<u32>,
}

impl Times {
    /// Reads what follows a `{`; without the form the brace is a character.
    fn read(text: &str) -> Option<(Self, &str)> {
        let (least, rest) = number(text)?;
        let (most, rest) = match rest.strip_prefix(',') {
            None => (least, rest),
            Some(rest) if rest.starts_with('}') => (least, rest),
            Some(rest) => number(rest)?,
        };
        Some((Self { least, most }, rest.strip_prefix('}')?))
    }

    fn is_possible(&self) -> bool {
        matches!((self.least, self.most), (Some(least), Some(most)) if least <= most)
    }
}

/// A number without zeros in front, as in [`Times`].
fn number(text: &str) -> Option<(Option<u32>, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(digits);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().ok().filter(|number| *number <= 1000), rest))
}

/// What follows a backslash outside of a class; returns what comes after.
fn escape<'e>(rest: &'e str, text: &mut String) -> Result<&'e str, Fault> {
    let Some(ch) = rest.chars().next() else {
        return Err(Fault::Backslash);
    };
    let after = &rest[ch.len_utf8()..];
    match ch {
        'A' => text.push_str(r"\A"),
        'z' => text.push_str(r"\z"),
        // Go's words are ASCII.
        'b' => text.push_str(r"(?-u:\b)"),
        'B' => text.push_str(r"(?-u:\B)"),
        'p' | 'P' => return Err(Fault::Unicode(ch)),
        'Q' => {
            let (literal, after) = after.split_once(r"\E").unwrap_or((after, ""));
            literal.chars().for_each(|ch| push_literal(text, ch));
            return Ok(after);
        }
        ch => match group(ch) {
            Some(group) => text.push_str(group),
            None => {
                let (ch, after) = character(rest)?;
                push_literal(text, ch);
                return Ok(after);
            }
        },
    }
    Ok(after)
}

/// Perl's classes, of ASCII in Go.
fn group(ch: char) -> Option<&'static str> {
    Some(match ch {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\x0C\r ]",
        'S' => r"[^\t\n\x0C\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// The names between `[:` and `:]`, which the regex crate knows too.
const NAMES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// A class behind its `[`; returns what comes after. A `]` in front is a character.
fn class<'e>(rest: &'e str, text: &mut String) -> Result<&'e str, Fault> {
    text.push('[');
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix('^') {
        text.push('^');
        rest = after;
    }
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        // The end may be anywhere behind, in another class too.
        let named = rest
            .strip_prefix("[:")
            .and_then(|rest| rest.split_once(":]"));
        if let Some((name, after)) = named {
            if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                return Err(Fault::Name(name.to_owned()));
            }
            text.push_str(&format!("[:{name}:]"));
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix('\\')
            && let Some(ch) = after.chars().next()
        {
            if matches!(ch, 'p' | 'P') {
                return Err(Fault::Unicode(ch));
            }
            if let Some(group) = group(ch) {
                text.push_str(group);
                rest = &after[1..];
                continue;
            }
        }
        let (low, after) = member(rest)?;
        let (high, after) = match after.strip_prefix('-') {
            Some(after) if !after.is_empty() && !after.starts_with(']') => member(after)?,
            _ => (low, after),
        };
        if high < low {
            return Err(Fault::Range(low, high));
        }
        text.push_str(&format!(
            "\\x{{{:x}}}-\\x{{{:x}}}",
            u32::from(low),
            u32::from(high)
        ));
        rest = after;
    }
    text.push(']');
    Ok(&rest[1..])
}

/// A character of a class.
fn member(rest: &str) -> Result<(char, &str), Fault> {
    match rest.chars().next() {
        None => Err(Fault::OpenClass),
        Some('\\') => character(&rest[1..]),
        Some(ch) => Ok((ch, &rest[ch.len_utf8()..])),
    }
}

/// The character that is written behind a backslash.
fn character(rest: &str) -> Result<(char, &str), Fault> {
    let Some(ch) = rest.chars().next() else {
        return Err(Fault::Backslash);
    };
    let after = &rest[ch.len_utf8()..];
    let octal = |most| {
        let digits = rest.bytes().take(most);
        digits
            .take_while(|byte| matches!(byte, b'0'..=b'7'))
            .count()
    };
    let hexadecimal = |(digits, after): (&str, _)| Some((code(digits, 16)?, after));
    let found = match ch {
        ch if ch.is_ascii() && !ch.is_ascii_alphanumeric() => Some((ch, after)),
        // One digit alone would refer to a group.
        '0'..='7' if ch == '0' || octal(2) == 2 => {
            let (digits, after) = rest.split_at(octal(3));
            code(digits, 8).map(|ch| (ch, after))
        }
        'x' => match after.strip_prefix('{') {
            Some(after) => after.split_once('}').and_then(hexadecimal),
            None => after.split_at_checked(2).and_then(hexadecimal),
        },
        'a' => Some(('\x07', after)),
        'f' => Some(('\x0C', after)),
        'n' => Some(('\n', after)),
        'r' => Some(('\r', after)),
        't' => Some(('\t', after)),
        'v' => Some(('\x0B', after)),
        _ => None,
    };
    found.ok_or(Fault::Escape(ch))
}

fn code(digits: &str, radix: u32) -> Option<char> {
    // Rust's numbers may have a sign.
    let digits = Some(digits).filter(|digits| !digits.starts_with('+'))?;
    char::from_u32(u32::from_str_radix(digits, radix).ok()?)
}
