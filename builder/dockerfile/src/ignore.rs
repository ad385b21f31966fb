//! `.dockerignore` and `COPY --exclude`, as moby's patternmatcher has them.
//!
//! This is not gitignore: a pattern is anchored at the root of the context, the last match wins,
//! a match on a directory covers what is below it, and `!` takes back what an earlier pattern
//! covered, also below an ignored directory.

mod check;
mod expression;
mod matcher;

pub use expression::Fault;
use matcher::Matcher;

/// A set of patterns, compiled.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// Cleaned, without `!`.
    text: String,
    exception: bool,
    line: u32,
    matcher: Matcher,
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `!` alone.
    #[error("line {line}: `!` without a pattern; name what is not to be ignored")]
    LoneException {
        /// 1-based line, or place in the list.
        line: u32,
    },
    /// An open class, an empty range or a lone escape.
    #[error(
        "line {line}: `{pattern}` is no valid pattern; close its `[`, or escape it with a backslash"
    )]
    Syntax {
        /// 1-based line, or place in the list.
        line: u32,
        /// The pattern.
        pattern: String,
    },
    /// What moby finds out at the first path that it compares; here it is said at once, also
    /// where no path would get that far.
    #[error(
        "line {line}: `{pattern}` is no valid pattern: it stands for the regular expression `{expression}`, in which {fault}"
    )]
    Expression {
        /// 1-based line, or place in the list.
        line: u32,
        /// The pattern.
        pattern: String,
        /// What it becomes.
        expression: String,
        /// What is wrong with that.
        fault: Fault,
    },
}

/// A rule that decided about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The pattern, cleaned, with its `!`.
    pub pattern: String,
    /// 1-based line in the file, or place in the list.
    pub line: u32,
}

/// The outcome for one path, to be handed on to the paths below it.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Whether the path is ignored.
    pub ignored: bool,
    matched: Vec<bool>,
    decisive: Option<usize>,
}

impl Patterns {
    /// Reads the text of a `.dockerignore`: a byte order mark is skipped, `#` in the first column
    /// is a comment, blanks at both ends and a leading `/` are dropped.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (line, text) in (1_u32..).zip(text.lines()) {
            if text.starts_with('#') {
                continue;
            }
            let text = text.trim();
            let (mark, text) = match text.strip_prefix('!') {
                Some(rest) => ("!", rest.trim()),
                None => ("", text),
            };
            let cleaned = if text.is_empty() {
                String::new()
            } else {
                clean(text)
            };
            let anchored = match cleaned.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => rest,
                _ => &cleaned,
            };
            // The mark is read again from the result: moby takes `/!a` for an exception too.
            patterns.extend(Pattern::read(&format!("{mark}{anchored}"), line)?);
        }
        Ok(Self { patterns })
    }

    /// Takes the patterns of a list, as `COPY --exclude` gives them; places count from 1.
    pub fn from_list<'p>(list: impl IntoIterator<Item = &'p str>) -> Result<Self, PatternError> {
        let mut patterns = Vec::new();
        for (place, text) in (1_u32..).zip(list) {
            patterns.extend(Pattern::read(text, place)?);
        }
        Ok(Self { patterns })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` (relative to the root, with `/`) is ignored. The same as walking down to it
    /// with [`Patterns::verdict`].
    pub fn ignored(&self, path: &str) -> bool {
        self.explain(path).ignored
    }

    /// The verdict on `path` from scratch, by walking down to it.
    pub fn explain(&self, path: &str) -> Verdict {
        let path = clean(path);
        if path == "." {
            return Verdict::default();
        }
        let mut verdict = None;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            verdict = Some(self.verdict(&path[..end], verdict.as_ref()));
        }
        verdict.unwrap_or_default()
    }

    /// The verdict on `path`, given the one on its parent directory (`None` at the top).
    ///
    /// This is moby's `MatchesUsingParentResults`, which BuildKit sends contexts with: a pattern
    /// that is not consulted for the parent, because it could not have changed anything there,
    /// does not cover the child either.
    pub fn verdict(&self, path: &str, parent: Option<&Verdict>) -> Verdict {
        let mut verdict = Verdict {
            ignored: false,
            matched: vec![false; self.patterns.len()],
            decisive: None,
        };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let from_parent = parent.is_some_and(|parent| parent.matched.get(index) == Some(&true));
            let matched =
                from_parent || (pattern.exception == verdict.ignored && pattern.matches(path));
            verdict.matched[index] = matched;
            if matched {
                verdict.ignored = !pattern.exception;
                verdict.decisive = Some(index);
            }
        }
        verdict
    }

    /// The rule behind a verdict, when any pattern matched.
    pub fn rule(&self, verdict: &Verdict) -> Option<Rule> {
        let pattern = &self.patterns[verdict.decisive?];
        let mark = if pattern.exception { "!" } else { "" };
        Some(Rule {
            pattern: format!("{mark}{}", pattern.text),
            line: pattern.line,
        })
    }

    /// Whether something below the ignored directory `dir` can still be wanted. When not, a walk
    /// need not enter it.
    ///
    /// An exception without wildcards can only reach what lies on its own path; any other is
    /// taken to reach everything below the part before its first wildcard.
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        let dir = clean(dir);
        let below = |path: &str| path == dir || path.starts_with(&format!("{dir}/"));
        self.patterns
            .iter()
            .filter(|pattern| pattern.exception)
            .any(|pattern| {
                // An expression with one of these may begin anywhere.
                if pattern.text.contains(['|', '{', '^', '\u{feff}']) {
                    return true;
                }
                let special = pattern.text.find(['*', '?', '[', '\\']);
                match special {
                    None => below(&pattern.text),
                    Some(at) => {
                        let fixed = pattern.text[..at]
                            .rsplit_once('/')
                            .map_or("", |(dirs, _)| dirs);
                        fixed.is_empty()
                            || fixed == dir
                            || below(fixed)
                            || dir.starts_with(&format!("{fixed}/"))
                    }
                }
            })
    }
}

impl Pattern {
    /// `None` for a blank pattern.
    fn read(text: &str, line: u32) -> Result<Option<Self>, PatternError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let cleaned = clean(text);
        let (exception, text) = match cleaned.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, cleaned.as_str()),
        };
        if text.is_empty() {
            return Err(PatternError::LoneException { line });
        }
        let pattern = text.to_owned();
        if !check::passes(text) {
            return Err(PatternError::Syntax { line, pattern });
        }
        let matcher =
            Matcher::of(text).map_err(|(expression, fault)| PatternError::Expression {
                line,
                pattern,
                expression,
                fault,
            })?;
        Ok(Some(Self {
            text: text.to_owned(),
            exception,
            line,
            matcher,
        }))
    }

    fn matches(&self, path: &str) -> bool {
        self.matcher.matches(&self.text, path)
    }
}

/// Go's `filepath.Clean`: no empty parts, no `.`, `..` resolved where it can be.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
