//! Values to text, byte for byte as `yaml.v2` writes them: two spaces, lists
//! at the level of their key, keys in natural order, long lines folded.

use std::cmp::Ordering;

use super::plain::{Analysis, analyze, is_break, is_printable};
use super::resolve::{Rules, Scalar, is_base60, is_old_bool, resolve};
use super::value::Value;

/// Writes a document with sorted keys.
pub(crate) fn document(value: &Value) -> String {
    let mut writer = Writer::new(Rules::V2);
    writer.node(value, Place::Root);
    writer.finish()
}

/// Writes a document by the rules of `yaml.v3`, keys in the order in which
/// they are.
pub(crate) fn in_order(value: &Value) -> String {
    let mut writer = Writer::new(Rules::V3);
    writer.node(value, Place::Root);
    writer.finish()
}

/// Lines are folded at the first space behind this column.
const WIDTH: usize = 80;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// An item of a list.
    Item,
    /// A key that fits on a line.
    SimpleKey,
    /// A value of a mapping, or a key behind a question mark.
    Mapping,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

struct Writer {
    out: String,
    rules: Rules,
    indent: Option<usize>,
    column: usize,
    whitespace: bool,
    indention: bool,
}

impl Writer {
    fn new(rules: Rules) -> Self {
        Self {
            out: String::new(),
            rules,
            indent: None,
            column: 0,
            whitespace: true,
            indention: true,
        }
    }

    fn finish(mut self) -> String {
        self.indent = None;
        self.write_indent();
        self.out
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn put_break(&mut self, c: char) {
        self.out.push(c);
        self.column = 0;
    }

    fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(
        &mut self,
        text: &str,
        needs_space: bool,
        is_whitespace: bool,
        is_indention: bool,
    ) {
        if needs_space && !self.whitespace {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        self.whitespace = is_whitespace;
        self.indention = self.indention && is_indention;
    }

    fn deeper(&self, indentless: bool) -> Option<usize> {
        match self.indent {
            None => Some(0),
            Some(indent) if indentless => Some(indent),
            Some(indent) => Some(indent + 2),
        }
    }

    fn node(&mut self, value: &Value, place: Place) {
        match value {
            Value::Null => self.scalar("null", Style::Plain, place),
            Value::Bool(value) => {
                self.scalar(if *value { "true" } else { "false" }, Style::Plain, place);
            }
            Value::Number(number) => self.scalar(&number.to_yaml(), Style::Plain, place),
            Value::String(text) => self.string(text, place),
            Value::List(items) => self.list(items, place),
            Value::Map(fields) => self.mapping(fields),
        }
    }

    fn list(&mut self, items: &[Value], place: Place) {
        if items.is_empty() {
            self.indicator("[", true, true, false);
            self.indicator("]", false, false, false);
            return;
        }
        let outer = self.indent;
        self.indent = self.deeper(place == Place::Mapping && !self.indention);
        for item in items {
            self.write_indent();
            self.indicator("-", true, false, true);
            self.node(item, Place::Item);
        }
        self.indent = outer;
    }

    fn mapping(&mut self, fields: &[(String, Value)]) {
        if fields.is_empty() {
            self.indicator("{", true, true, false);
            self.indicator("}", false, false, false);
            return;
        }
        let mut sorted: Vec<&(String, Value)> = fields.iter().collect();
        if self.rules == Rules::V2 {
            sorted.sort_by(|a, b| natural(&a.0, &b.0));
        }
        let outer = self.indent;
        self.indent = self.deeper(false);
        for (key, value) in sorted {
            self.write_indent();
            if !analyze(key).multiline && key.len() <= 128 {
                self.string(key, Place::SimpleKey);
                self.indicator(":", false, false, false);
            } else {
                self.indicator("?", true, false, true);
                self.string(key, Place::Mapping);
                self.write_indent();
                self.indicator(":", true, false, true);
            }
            self.node(value, Place::Mapping);
        }
        self.indent = outer;
    }

    fn string(&mut self, text: &str, place: Place) {
        let style = if text.contains('\n') {
            Style::Literal
        } else if self.resolves_to_string(text) {
            Style::Plain
        } else {
            Style::Double
        };
        self.scalar(text, style, place);
    }

    fn resolves_to_string(&self, text: &str) -> bool {
        resolve(text, self.rules) == Scalar::String
            && !is_base60(text)
            && (self.rules == Rules::V2 || !is_old_bool(text))
    }

    fn scalar(&mut self, text: &str, wanted: Style, place: Place) {
        let allowed = analyze(text);
        let style = choose(text, wanted, place == Place::SimpleKey, allowed);
        let outer = self.indent;
        self.indent = match self.indent {
            None => Some(2),
            Some(indent) => Some(indent + 2),
        };
        let folds = place != Place::SimpleKey && self.rules == Rules::V2;
        match style {
            Style::Plain => self.plain(text, folds),
            Style::Single => self.single_quoted(text, folds),
            Style::Double => self.double_quoted(text, folds),
            Style::Literal => self.literal(text),
        }
        self.indent = outer;
    }

    /// Whether a line is broken at a space.
    fn is_fold(&self, folds: bool, after_space: bool, next: Option<char>) -> bool {
        folds && !after_space && self.column > WIDTH && next != Some(' ')
    }

    fn plain(&mut self, text: &str, folds: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        let mut spaces = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ' ' && self.is_fold(folds, spaces, chars.peek().copied()) {
                self.write_indent();
            } else {
                self.put(c);
                self.indention = false;
            }
            spaces = c == ' ';
        }
        self.whitespace = false;
        self.indention = false;
    }

    fn single_quoted(&mut self, text: &str, folds: bool) {
        self.indicator("'", true, false, false);
        let mut breaks = false;
        let mut spaces = false;
        let mut first = true;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let next = chars.peek().copied();
            let inner = !first && next.is_some();
            first = false;
            if c == ' ' {
                if inner && self.is_fold(folds, spaces, next) {
                    self.write_indent();
                } else {
                    self.put(c);
                }
                spaces = true;
                continue;
            }
            if is_break(c) {
                if !breaks && c == '\n' {
                    self.put_break('\n');
                }
                self.put_break(c);
                self.indention = true;
                breaks = true;
                continue;
            }
            if breaks {
                self.write_indent();
            }
            if c == '\'' {
                self.put('\'');
            }
            self.put(c);
            self.indention = false;
            breaks = false;
            spaces = false;
        }
        self.indicator("'", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn double_quoted(&mut self, text: &str, folds: bool) {
        self.indicator("\"", true, false, false);
        let mut spaces = false;
        let mut first = true;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let next = chars.peek().copied();
            let inner = !first && next.is_some();
            first = false;
            if c == ' ' {
                if inner && folds && !spaces && self.column > WIDTH {
                    self.write_indent();
                    if next == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                spaces = true;
                continue;
            }
            spaces = false;
            if is_printable(c) && !is_break(c) && !matches!(c, '"' | '\\' | '\u{feff}') {
                self.put(c);
            } else {
                escape(c).chars().for_each(|c| self.put(c));
            }
        }
        self.indicator("\"", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn literal(&mut self, text: &str) {
        self.indicator("|", true, false, false);
        if text.starts_with(|c: char| c == ' ' || is_break(c)) {
            self.indicator("2", false, false, false);
        }
        let mut ends = text.chars().rev();
        let last_breaks = ends.next().is_some_and(is_break);
        if !last_breaks {
            self.indicator("-", false, false, false);
        } else if ends.next().is_none_or(is_break) {
            self.indicator("+", false, false, false);
        }
        self.put_break('\n');
        self.indention = true;
        self.whitespace = true;
        let mut breaks = true;
        for c in text.chars() {
            if is_break(c) {
                self.put_break(c);
                self.indention = true;
                breaks = true;
                continue;
            }
            if breaks {
                self.write_indent();
            }
            self.put(c);
            self.indention = false;
            breaks = false;
        }
    }
}

fn choose(text: &str, wanted: Style, simple_key: bool, allowed: Analysis) -> Style {
    let mut style = wanted;
    if simple_key && allowed.multiline {
        style = Style::Double;
    }
    if style == Style::Plain && (!allowed.block_plain || (text.is_empty() && simple_key)) {
        style = Style::Single;
    }
    if style == Style::Single && !allowed.single_quoted {
        style = Style::Double;
    }
    if style == Style::Literal && (!allowed.block || simple_key) {
        style = Style::Double;
    }
    style
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c => {
            let code = u32::from(c);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}

/// The order of keys: letters after other characters, runs of digits by
/// their number.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let left: Vec<char> = a.chars().collect();
    let right: Vec<char> = b.chars().collect();
    let Some(at) = left.iter().zip(&right).position(|(a, b)| a != b) else {
        return left.len().cmp(&right.len());
    };
    let (l, r) = (left[at], right[at]);
    match (l.is_alphabetic(), r.is_alphabetic()) {
        (true, true) => return l.cmp(&r),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let mut start = 0i64;
    if l == '0' || r == '0' {
        let leading = left[..at].iter().rev().take_while(|c| is_digit(**c));
        start = i64::from(leading.into_iter().any(|c| *c != '0'));
    }
    let (left_number, left_end) = number(&left, at, start);
    let (right_number, right_end) = number(&right, at, start);
    left_number
        .cmp(&right_number)
        .then(left_end.cmp(&right_end))
        .then(l.cmp(&r))
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn number(chars: &[char], at: usize, start: i64) -> (i64, usize) {
    let mut value = start;
    let mut end = at;
    while let Some(digit) = chars.get(end).and_then(|c| c.to_digit(10)) {
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
        end += 1;
    }
    (value, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_natural_order() {
        let mut keys = ["a10", "a2", "B", "a", "_x", "a-b", "ab", "1"];
        keys.sort_by(|a, b| natural(a, b));
        assert_eq!(keys, ["_x", "1", "B", "a", "a-b", "a2", "a10", "ab"]);
    }
}
