//! The character-level work of [`super::expand`].

use std::collections::BTreeSet;

use super::{ExpandError, Expansion, MAX_GROWTH, MAX_NESTING, Variables, pattern};

/// How quotes, escapes and unset variables are treated; the default is an ordinary word.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mode {
    /// Quotes work but stay in the result.
    pub raw_quotes: bool,
    /// Escapes work but stay in the result.
    pub raw_escapes: bool,
    /// Quotes are ordinary characters.
    pub literal_quotes: bool,
    /// A reference to an unset variable stays as it is written.
    pub keep_unset: bool,
}

/// One expansion.
pub(crate) struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    variables: &'a dyn Variables,
    escape: char,
    mode: Mode,
    depth: usize,
    /// The most bytes of the result.
    limit: usize,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

/// Splits at blanks while the text is produced, because quoted blanks do not split.
#[derive(Default)]
struct Words {
    current: String,
    done: Vec<String>,
}

impl Words {
    fn push(&mut self, ch: char) {
        if ch.is_whitespace() {
            self.close();
        } else {
            self.current.push(ch);
        }
    }

    fn close(&mut self) {
        if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(word: &str, variables: &'a dyn Variables, escape: char, mode: Mode) -> Self {
        Self {
            chars: word.chars().collect(),
            at: 0,
            variables,
            escape,
            mode,
            depth: 0,
            limit: word.len() + MAX_GROWTH,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
        }
    }

    pub(crate) fn run(mut self) -> Result<Expansion, ExpandError> {
        let (text, words) = self.until(None, self.mode.raw_escapes)?;
        Ok(Expansion {
            text,
            words,
            used: self.used,
            unset: self.unset,
        })
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.peek();
        self.at += usize::from(ch.is_some());
        ch
    }

    /// Reads up to `stop`, which is consumed, or to the end.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        let outer = std::mem::replace(&mut self.mode.raw_escapes, raw_escapes);
        let result = self.until_stop(stop);
        self.mode.raw_escapes = outer;
        result
    }

    fn until_stop(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(ch) = self.peek() {
            match ch {
                _ if stop == Some(ch) => {
                    self.next();
                    words.close();
                    return Ok((text, words.done));
                }
                '\'' | '"' if !self.mode.literal_quotes => {
                    let quoted = if ch == '"' {
                        self.double_quoted()?
                    } else {
                        self.single_quoted()?
                    };
                    self.check(text.len() + quoted.len())?;
                    text.push_str(&quoted);
                    words.current.push_str(&quoted);
                }
                '$' => {
                    let value = self.dollar()?;
                    self.check(text.len() + value.len())?;
                    value.chars().for_each(|ch| words.push(ch));
                    text.push_str(&value);
                }
                _ => {
                    self.next();
                    if ch == self.escape {
                        self.escaped(&mut text, &mut words);
                    } else {
                        words.push(ch);
                        text.push(ch);
                    }
                }
            }
        }
        match stop {
            Some('/') => Err(ExpandError::MissingSlash),
            Some(_) => Err(ExpandError::MissingBrace),
            None => {
                words.close();
                Ok((text, words.done))
            }
        }
    }

    /// The character after an escape; at the end of the word the escape disappears.
    fn escaped(&mut self, text: &mut String, words: &mut Words) {
        if self.mode.raw_escapes {
            text.push(self.escape);
            words.current.push(self.escape);
        }
        if let Some(ch) = self.next() {
            text.push(ch);
            words.current.push(ch);
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.next();
        if self.mode.raw_quotes {
            text.push('\'');
        }
        loop {
            match self.next() {
                None => return Err(ExpandError::UnclosedQuote('\'')),
                Some('\'') => {
                    if self.mode.raw_quotes {
                        text.push('\'');
                    }
                    return Ok(text);
                }
                Some(ch) => text.push(ch),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.next();
        if self.mode.raw_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => return Err(ExpandError::UnclosedQuote('"')),
                Some('"') => {
                    self.next();
                    if self.mode.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    self.check(text.len() + value.len())?;
                    text.push_str(&value);
                }
                Some(ch) => {
                    self.next();
                    if ch == self.escape {
                        self.escaped_in_quotes(&mut text);
                    } else {
                        text.push(ch);
                    }
                }
            }
        }
    }

    /// Inside double quotes only `"`, `$` and the escape itself are escaped; before anything else
    /// the escape is an ordinary character.
    fn escaped_in_quotes(&mut self, text: &mut String) {
        if self.mode.raw_escapes {
            text.push(self.escape);
        }
        match self.peek() {
            None => {}
            Some(ch) if ch == '"' || ch == '$' || ch == self.escape => {
                self.next();
                text.push(ch);
            }
            Some(_) => text.push(self.escape),
        }
    }

    fn check(&self, length: usize) -> Result<(), ExpandError> {
        if length > self.limit {
            return Err(ExpandError::TooLong);
        }
        Ok(())
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.lookup(&name) {
                None if self.mode.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.next();
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(ExpandError::TooDeep);
        }
        let value = self.braces();
        self.depth -= 1;
        value
    }

    /// After `${`.
    fn braces(&mut self) -> Result<String, ExpandError> {
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(ExpandError::MissingBrace),
            Some('}') => Ok(match self.lookup(&name) {
                None if self.mode.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => match self.next() {
                Some(ch @ ('-' | '+' | '?')) => self.conditional(&name, ch, true),
                Some(ch) => Err(ExpandError::UnknownModifier(format!(":{ch}"))),
                None => Err(ExpandError::MissingBrace),
            },
            Some(ch @ ('-' | '+' | '?')) => self.conditional(&name, ch, false),
            Some(side @ ('#' | '%')) => self.trimmed(&name, side),
            Some('/') => self.replaced(&name),
            Some(ch) => Err(ExpandError::UnknownModifier(ch.to_string())),
        }
    }

    /// `${name-word}` and its kin; `null_is_unset` is the colon.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        null_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let (word, _) = self.until(Some('}'), false)?;
        let value = self.variables.value(name).map(str::to_owned);
        if value.is_some() {
            self.used.insert(name.to_owned());
        } else if self.mode.keep_unset {
            let colon = if null_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let is_set = value.is_some();
        let value = value.filter(|value| !(null_is_unset && value.is_empty()));
        match (modifier, value) {
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('?', None) => Err(ExpandError::Required {
                name: name.to_owned(),
                message: match (word.is_empty(), is_set) {
                    (false, _) => word,
                    (true, false) => "is not allowed to be unset".to_owned(),
                    (true, true) => "is not allowed to be empty".to_owned(),
                },
            }),
            (_, Some(value)) => Ok(value),
            (_, None) => Ok(String::new()),
        }
    }

    /// `${name#pattern}` and its kin.
    fn trimmed(&mut self, name: &str, side: char) -> Result<String, ExpandError> {
        let (word, _) = self.until(Some('}'), true)?;
        let value = match self.lookup(name) {
            None if self.mode.keep_unset => return Ok(format!("${{{name}{side}{word}}}")),
            value => value.unwrap_or_default(),
        };
        let (pattern, longest) = match word.strip_prefix(side) {
            Some(rest) => (rest, true),
            None => (word.as_str(), false),
        };
        if side == '#' {
            pattern::trim_prefix(pattern, &value, longest)
        } else {
            pattern::trim_suffix(pattern, &value, longest)
        }
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (pattern, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = match self.lookup(name) {
            None if self.mode.keep_unset => {
                return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
            }
            value => value.unwrap_or_default(),
        };
        let most = self.limit;
        pattern::replace(&pattern, &value, (&replacement, all), most)
    }

    /// A name: letters, digits and `_`; or digits alone; or one special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(ch) = self.peek() {
            if name.is_empty() && ch.is_ascii_digit() {
                while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
                    name.push(digit);
                    self.next();
                }
                return name;
            }
            if name.is_empty() && matches!(ch, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
                self.next();
                return ch.to_string();
            }
            if !ch.is_alphanumeric() && ch != '_' {
                break;
            }
            name.push(ch);
            self.next();
        }
        name
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        match self.variables.value(name) {
            Some(value) => {
                self.used.insert(name.to_owned());
                Some(value.to_owned())
            }
            None => {
                self.unset.insert(name.to_owned());
                None
            }
        }
    }
}
