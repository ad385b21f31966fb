//! The ways in which instructions split the text behind their flags.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::statement::Piece;
use crate::instruction::Escape;

/// Words between blanks; quotes mean nothing.
pub(super) fn blank_separated(piece: Piece<'_>) -> Vec<Piece<'_>> {
    let blank = |ch: char| matches!(ch, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r');
    let mut words = Vec::new();
    let mut at = 0;
    for word in piece.text.split(blank) {
        if !word.is_empty() {
            words.push(Piece {
                text: word,
                at: piece.at + at,
            });
        }
        at += word.len() + 1;
    }
    words
}

/// Words between blanks that are not quoted. The quotes and escapes stay; only an escape at the
/// very end is dropped.
pub(super) fn quoted_words(piece: Piece<'_>, escape: Escape) -> Vec<(String, usize)> {
    let escape = escape.char();
    let mut words = Vec::new();
    let mut word: Option<(String, usize)> = None;
    let mut quote = None;
    let mut chars = piece.text.char_indices().peekable();
    while let Some((at, ch)) = chars.next() {
        if quote.is_none() && ch.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let (text, _) = word.get_or_insert_with(|| (String::new(), piece.at + at));
        let escapes = ch == escape && quote != Some('\'');
        match quote {
            None if matches!(ch, '\'' | '"') => quote = Some(ch),
            Some(open) if ch == open => quote = None,
            _ => {}
        }
        if escapes {
            match chars.next() {
                Some((_, escaped)) => {
                    text.push(ch);
                    text.push(escaped);
                }
                None => break,
            }
        } else {
            text.push(ch);
        }
    }
    words.extend(word.filter(|(text, _)| !text.is_empty()));
    words
}

/// What a text is as a JSON array.
pub(super) enum Json {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array with other elements.
    NotStrings,
    /// No array: the text is meant as it is.
    No,
}

/// Reads the whole text as a JSON array. Text that merely starts with `[` is no array, as in
/// `[ -f x ] && y`.
pub(super) fn json(text: &str) -> Json {
    if !text.starts_with('[') {
        return Json::No;
    }
    let text = with_whole_characters(text);
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(&text) else {
        return Json::No;
    };
    let strings: Option<Vec<String>> = values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        })
        .collect();
    strings.map_or(Json::NotStrings, Json::Strings)
}

/// The text with `\ufffd` for each escape of half a character, which Go's `encoding/json` reads so
/// and ours refuses.
fn with_whole_characters(text: &str) -> Cow<'_, str> {
    let mut whole = String::new();
    let mut taken = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        let escape = at + found;
        let is_pair = unit(text, escape).is_some_and(|first| HIGH.contains(&first))
            && unit(text, escape + UNIT).is_some_and(|second| LOW.contains(&second));
        at = match unit(text, escape) {
            Some(_) if is_pair => escape + 2 * UNIT,
            Some(half) if HIGH.contains(&half) || LOW.contains(&half) => {
                whole.push_str(&text[taken..escape]);
                whole.push_str("\\ufffd");
                taken = escape + UNIT;
                taken
            }
            // Behind the backslash stands what it escapes, perhaps another one.
            _ => escape + 1 + text[escape + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    if taken == 0 {
        return Cow::Borrowed(text);
    }
    whole.push_str(&text[taken..]);
    Cow::Owned(whole)
}

/// The first halves of the characters that UTF-16 writes as two.
const HIGH: RangeInclusive<u16> = 0xd800..=0xdbff;
/// Their second halves.
const LOW: RangeInclusive<u16> = 0xdc00..=0xdfff;
/// The length of `\u0000`.
const UNIT: usize = 6;

/// The code unit whose escape stands at this place.
fn unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + UNIT)?.strip_prefix("\\u")?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}
