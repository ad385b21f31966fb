//! Reads flags as cobra does: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`,
//! `--switch`, `--switch=false`; after `--` nothing is a flag.

use std::collections::BTreeMap;
use std::slice::Iter;

use super::flags::{Flag, Kind};

/// Why a command line is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// `--help` or `-h`, wherever it stands.
    #[error("help was asked for")]
    Help,
    /// A flag that does not exist.
    #[error("unknown flag {flag}{}", did_you_mean(nearest.as_ref()))]
    Unknown {
        /// As written.
        flag: String,
        /// A flag with a similar name.
        nearest: Option<String>,
    },
    /// A flag at the end that needs a value.
    #[error("the flag {0} needs a value")]
    NoValue(String),
    /// A switch with something else than true or false.
    #[error("{flag}={value}: a switch is true or false")]
    Switch {
        /// As written.
        flag: String,
        /// Its value.
        value: String,
    },
    /// A word that belongs to no flag.
    #[error("unexpected argument {0:?}: the executor takes flags only")]
    Positional(String),
    /// A flag that this version refuses.
    #[error("--{flag} is not supported: {why}")]
    Refused {
        /// Its name.
        flag: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
}

fn did_you_mean(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean --{name}?"))
}

/// The flags that were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    values: BTreeMap<&'static str, Vec<String>>,
}

impl Args {
    /// Reads a command line. Old spellings count as their new ones.
    pub fn parse(words: &[String], flags: &'static [Flag]) -> Result<Self, ArgError> {
        let mut args = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                };
                let flag = flags.iter().find(|flag| flag.name == name);
                let flag = flag.ok_or_else(|| unknown(&format!("--{name}"), flags))?;
                args.take(flag, (&format!("--{name}"), value), &mut words)?;
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                args.letters(letters, flags, &mut words)?;
            } else {
                return Err(ArgError::Positional(word.clone()));
            }
        }
        match words.next() {
            None => Ok(args),
            Some(word) => Err(ArgError::Positional(word.clone())),
        }
    }

    /// Reads what follows one dash: switches, and at the end a flag with its value.
    fn letters(
        &mut self,
        letters: &str,
        flags: &'static [Flag],
        words: &mut Iter<'_, String>,
    ) -> Result<(), ArgError> {
        let name = letters.split('=').next().unwrap_or(letters);
        // A long name with one dash too few would be the value of its first letter.
        if name.len() > 1 && flags.iter().any(|flag| flag.name == name) {
            return Err(unknown(&format!("-{name}"), flags));
        }
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let flag = flags.iter().find(|flag| flag.short == Some(letter));
            let flag = flag.ok_or_else(|| match letter {
                'h' => ArgError::Help,
                _ => unknown(&format!("-{name}"), flags),
            })?;
            let value = match (rest.strip_prefix('='), flag.kind) {
                (Some(value), _) => Some(value),
                (None, Kind::Switch(_)) => None,
                (None, _) => Some(rest).filter(|rest| !rest.is_empty()),
            };
            self.take(flag, (&format!("-{letter}"), value), words)?;
            if value.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Keeps the value of a flag, which is the next word where it does not stand with the flag.
    fn take(
        &mut self,
        flag: &'static Flag,
        (name, value): (&str, Option<&str>),
        words: &mut Iter<'_, String>,
    ) -> Result<(), ArgError> {
        if let Some(why) = flag.refused() {
            return Err(ArgError::Refused {
                flag: flag.name,
                why,
            });
        }
        let value = match (flag.kind, value) {
            (_, Some(value)) => value.to_owned(),
            (Kind::Switch(_), None) => "true".to_owned(),
            (_, None) => words
                .next()
                .cloned()
                .ok_or_else(|| ArgError::NoValue(name.to_owned()))?,
        };
        let value = if matches!(flag.kind, Kind::Switch(_)) {
            let switched = boolean(&value);
            let wrong = || ArgError::Switch {
                flag: name.to_owned(),
                value,
            };
            switched.ok_or_else(wrong)?.to_string()
        } else {
            value
        };
        self.values.entry(flag.canonical()).or_default().push(value);
        Ok(())
    }

    /// The value of a flag that takes one; the last one counts.
    pub fn one(&self, name: &'static str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str)
    }

    /// All values of a flag.
    pub fn all(&self, name: &'static str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a switch is on; one that was not given is off.
    pub fn is_on(&self, name: &'static str) -> bool {
        self.one(name) == Some("true")
    }

    /// Whether a flag was given at all.
    pub fn is_given(&self, name: &'static str) -> bool {
        self.values.contains_key(name)
    }
}

/// Go's `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What is said of a flag that does not exist.
fn unknown(flag: &str, flags: &[Flag]) -> ArgError {
    if flag == "--help" {
        return ArgError::Help;
    }
    ArgError::Unknown {
        flag: flag.to_owned(),
        nearest: nearest(flag.trim_start_matches('-'), flags),
    }
}

/// The known name that is the fewest edits away, when that is at most a third of its letters.
fn nearest(name: &str, flags: &[Flag]) -> Option<String> {
    flags
        .iter()
        .map(|flag| (distance(name, flag.name), flag.name))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min()
        .map(|(_, known)| known.to_owned())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::flags::FLAGS;
    use super::*;

    fn parse(line: &str) -> Result<Args, ArgError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Args::parse(&words, &FLAGS)
    }

    #[test]
    fn the_forms_of_a_flag() {
        let args = parse("--destination a/b:1 -d=c -d d --no-push --cache=false -f x").unwrap();
        assert_eq!(args.all("destination"), ["a/b:1", "c", "d"]);
        assert_eq!(args.one("dockerfile"), Some("x"));
        assert!(args.is_on("no-push") && args.is_given("cache") && !args.is_on("cache"));
        let args = parse("--build-arg A=b=c --label=x=y").unwrap();
        assert_eq!(
            (args.one("build-arg"), args.one("label")),
            (Some("A=b=c"), Some("x=y"))
        );
    }

    /// As pflag, which cobra reads flags with.
    #[test]
    fn values_stand_with_their_letter_and_two_dashes_end_the_flags() {
        let args = parse("-da/b:1 -vdebug -fx=y --no-push --").unwrap();
        assert_eq!(args.one("destination"), Some("a/b:1"));
        assert_eq!(args.one("verbosity"), Some("debug"));
        assert_eq!(args.one("dockerfile"), Some("x=y"));
        let after = parse("--no-push -- --cache").unwrap_err();
        assert_eq!(after, ArgError::Positional("--cache".to_owned()));
        assert_eq!(
            parse("-dockerfile=x").unwrap_err().to_string(),
            "unknown flag -dockerfile, did you mean --dockerfile?"
        );
    }

    #[test]
    fn help_is_asked_for_anywhere_but_as_a_value() {
        for line in ["--help", "-h", "--no-push -h", "-d x --help --nonsense"] {
            assert_eq!(parse(line), Err(ArgError::Help), "{line}");
        }
        assert_eq!(
            parse("-d --help").unwrap().one("destination"),
            Some("--help")
        );
    }

    #[test]
    fn old_spellings_count_as_the_new_ones() {
        let args =
            parse("--tarPath out.tar --snapshotMode redo --customPlatform linux/arm64").unwrap();
        assert_eq!(args.one("tar-path"), Some("out.tar"));
        assert_eq!(args.one("snapshot-mode"), Some("redo"));
        assert_eq!(args.one("custom-platform"), Some("linux/arm64"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, expected) in [
            (
                "--destinatoin x",
                "unknown flag --destinatoin, did you mean --destination?",
            ),
            ("--zzzzzzzzzzzz", "unknown flag --zzzzzzzzzzzz"),
            ("-q", "unknown flag -q"),
            ("--destination", "the flag --destination needs a value"),
            (
                "--no-push=maybe",
                "--no-push=maybe: a switch is true or false",
            ),
            (
                "x",
                "unexpected argument \"x\": the executor takes flags only",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), expected);
        }
    }
}
