//! Flags against the table of an instruction.

use super::lines::LogicalLine;
use super::statement::{RawFlag, Statement};
use super::{ParseError, Problem};
use crate::position::Position;
use crate::suggest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, `true` or `false`.
    Switch,
    /// One value.
    Value,
    /// One value, and the flag may be repeated.
    Values,
}

/// The flags of an instruction by name.
pub(super) type Table = &'static [(&'static str, Takes)];

/// The flags of a statement, checked against a table.
pub(super) struct Flags {
    given: Vec<(&'static str, String, Position)>,
}

impl Flags {
    pub fn check(
        line: &LogicalLine,
        statement: &Statement<'_>,
        table: Table,
    ) -> Result<Self, ParseError> {
        let mut given: Vec<(&'static str, String, Position)> = Vec::new();
        for flag in &statement.flags {
            let position = line.position(flag.at);
            let (name, value) = Self::one(flag, statement.name, table)
                .map_err(|problem| ParseError::new(position, problem))?;
            let repeatable = table.contains(&(name, Takes::Values));
            if !repeatable && given.iter().any(|(other, ..)| *other == name) {
                return Err(ParseError::new(
                    position,
                    Problem::DuplicateFlag(name.to_owned()),
                ));
            }
            given.push((name, value, position));
        }
        Ok(Self { given })
    }

    fn one(flag: &RawFlag, keyword: &str, table: Table) -> Result<(&'static str, String), Problem> {
        let Some((name, takes)) = table.iter().find(|(name, _)| *name == flag.name) else {
            return Err(Problem::UnknownFlag {
                keyword: keyword.to_owned(),
                flag: flag.name.clone(),
                nearest: suggest::nearest(&flag.name, table.iter().map(|(name, _)| *name)),
            });
        };
        let missing = || Problem::FlagWithoutValue(flag.name.clone());
        let value = match (takes, &flag.value) {
            (Takes::Switch, None) => "true".to_owned(),
            (Takes::Switch, Some(value)) => match value.to_ascii_lowercase().as_str() {
                "" => return Err(missing()),
                lower @ ("true" | "false") => lower.to_owned(),
                _ => {
                    return Err(Problem::BadFlagValue {
                        flag: flag.name.clone(),
                        value: value.clone(),
                        expected: "true or false",
                    });
                }
            },
            (Takes::Value | Takes::Values, Some(value)) => value.clone(),
            (Takes::Value | Takes::Values, None) => return Err(missing()),
        };
        Ok((name, value))
    }

    /// The value of a flag that is given once; an empty value counts as none.
    pub fn value(&self, name: &str) -> Option<String> {
        self.located(name).map(|(value, _)| value.to_owned())
    }

    /// The same with its place.
    pub fn located(&self, name: &str) -> Option<(&str, Position)> {
        let found = self
            .given
            .iter()
            .find(|(given, value, _)| *given == name && !value.is_empty());
        found.map(|(_, value, position)| (value.as_str(), *position))
    }

    /// Whether a switch was given, and how.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.located(name).map(|(value, _)| value == "true")
    }

    /// Every value of a flag that may be repeated.
    pub fn values<'f>(&'f self, name: &'f str) -> impl Iterator<Item = (&'f str, Position)> {
        self.given
            .iter()
            .filter(move |(given, ..)| *given == name)
            .map(|(_, value, position)| (value.as_str(), *position))
    }
}
