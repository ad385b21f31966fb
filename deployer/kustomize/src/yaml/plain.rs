//! Which styles a text allows: the analysis that libyaml makes before it
//! writes a scalar.

/// What may be done with a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Analysis {
    pub(crate) multiline: bool,
    pub(crate) flow_plain: bool,
    pub(crate) block_plain: bool,
    pub(crate) single_quoted: bool,
    pub(crate) block: bool,
}

#[derive(Default)]
struct Seen {
    block_indicators: bool,
    flow_indicators: bool,
    line_breaks: bool,
    special: bool,
    outer_blank: bool,
    trailing_space: bool,
    break_space: bool,
    space_break: bool,
}

/// Analyzes a text.
pub(crate) fn analyze(text: &str) -> Analysis {
    if text.is_empty() {
        return Analysis {
            multiline: false,
            flow_plain: false,
            block_plain: true,
            single_quoted: true,
            block: false,
        };
    }
    let seen = look(text);
    let special = seen.space_break || seen.special;
    let no_plain = seen.outer_blank || seen.break_space || special || seen.line_breaks;
    Analysis {
        multiline: seen.line_breaks,
        flow_plain: !(no_plain || seen.flow_indicators),
        block_plain: !(no_plain || seen.block_indicators),
        single_quoted: !(seen.break_space || special),
        block: !(seen.trailing_space || special),
    }
}

fn look(text: &str) -> Seen {
    let mut seen = Seen::default();
    if text.starts_with("---") || text.starts_with("...") {
        seen.block_indicators = true;
        seen.flow_indicators = true;
    }
    let mut before_is_blank = true;
    let mut previous_space = false;
    let mut previous_break = false;
    let mut chars = text.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        let blank_follows = next.is_none_or(is_blank);
        if first {
            first_indicators(c, blank_follows, &mut seen);
        } else {
            inner_indicators(c, before_is_blank, blank_follows, &mut seen);
        }
        seen.special |= !is_printable(c);
        if c == ' ' {
            seen.outer_blank |= first || next.is_none();
            seen.trailing_space |= next.is_none();
            seen.break_space |= previous_break;
            previous_space = true;
            previous_break = false;
        } else if is_break(c) {
            seen.line_breaks = true;
            seen.outer_blank |= first || next.is_none();
            seen.space_break |= previous_space;
            previous_space = false;
            previous_break = true;
        } else {
            previous_space = false;
            previous_break = false;
        }
        before_is_blank = is_blank(c) || is_break(c) || c == '\0';
        first = false;
    }
    seen
}

fn first_indicators(c: char, blank_follows: bool, seen: &mut Seen) {
    match c {
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
        | '@' | '`' => {
            seen.flow_indicators = true;
            seen.block_indicators = true;
        }
        '?' | ':' => {
            seen.flow_indicators = true;
            seen.block_indicators |= blank_follows;
        }
        '-' if blank_follows => {
            seen.flow_indicators = true;
            seen.block_indicators = true;
        }
        _ => {}
    }
}

fn inner_indicators(c: char, before_is_blank: bool, blank_follows: bool, seen: &mut Seen) {
    match c {
        ',' | '?' | '[' | ']' | '{' | '}' => seen.flow_indicators = true,
        ':' => {
            seen.flow_indicators = true;
            seen.block_indicators |= blank_follows;
        }
        '#' if before_is_blank => {
            seen.flow_indicators = true;
            seen.block_indicators = true;
        }
        _ => {}
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// Line breaks of YAML 1.1.
pub(crate) fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What libyaml calls printable: the tab is not, and nothing beyond the basic
/// plane is.
pub(crate) fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && c != '\u{feff}'
}
