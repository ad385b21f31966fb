//! Statements become stages.

use super::flags::{Flags, Table, Takes};
use super::instructions::{Parser, legacy_pair};
use super::lines::{Lines, LogicalLine};
use super::statement::Statement;
use super::words::{blank_separated, quoted_words};
use super::{ParseError, Problem, heredoc};
use crate::instruction::{ArgDeclaration, Directives, Dockerfile, Heredoc, Instruction, Stage};
use crate::lint::{self, Rule, Warning};
use crate::position::{Located, Position};

const FROM: Table = &[("platform", Takes::Value)];

/// A Dockerfile while it is read.
pub(super) struct Assembly {
    parser: Parser,
    dockerfile: Dockerfile,
    keywords: Vec<(String, Position)>,
}

impl Assembly {
    pub fn new(directives: Directives) -> Self {
        Self {
            parser: Parser {
                escape: directives.escape,
            },
            dockerfile: Dockerfile {
                directives,
                meta_args: Vec::new(),
                stages: Vec::new(),
                warnings: Vec::new(),
            },
            keywords: Vec::new(),
        }
    }

    pub fn read(mut self, text: &str) -> Result<Dockerfile, ParseError> {
        let mut lines = Lines::new(text, self.parser.escape);
        while let Some(line) = lines.next_line() {
            let statement = Statement::split(&line)?;
            let heredocs = heredoc::read(&mut lines, &line, &statement)?;
            self.statement(&line, &statement, heredocs, lines.last_line())?;
        }
        if self.dockerfile.stages.is_empty() {
            let position = Position::new(lines.last_line().max(1), 1);
            return Err(ParseError::new(position, Problem::NoInstructions));
        }
        self.dockerfile
            .warnings
            .extend(lint::keyword_casing(&self.keywords));
        self.dockerfile
            .warnings
            .sort_by_key(|warning| warning.position);
        Ok(self.dockerfile)
    }

    fn statement(
        &mut self,
        line: &LogicalLine,
        statement: &Statement<'_>,
        heredocs: Vec<Heredoc>,
        last_line: u32,
    ) -> Result<(), ParseError> {
        let position = line.position(statement.keyword.at);
        self.keywords
            .push((statement.keyword.text.to_owned(), position));
        for position in &line.empty_continuations {
            let message = "a blank line inside an instruction".to_owned();
            self.warn(Rule::NoEmptyContinuation, *position, message);
        }
        if statement.name == "FROM" {
            let stage = self.from(line, statement)?;
            self.dockerfile.stages.push(stage);
            return Ok(());
        }
        self.warn_legacy(statement, position);
        let value = self.parser.instruction(line, statement, heredocs)?;
        let source = line.text.trim().to_owned();
        match (self.dockerfile.stages.last_mut(), value) {
            (Some(stage), value) => {
                stage.instructions.push(Located {
                    value,
                    position,
                    last_line,
                    source,
                });
            }
            (None, Instruction::Arg(declarations)) => {
                let located = |value: ArgDeclaration| Located {
                    value,
                    position,
                    last_line,
                    source: source.clone(),
                };
                self.dockerfile
                    .meta_args
                    .extend(declarations.into_iter().map(located));
            }
            (None, other) => {
                let problem = Problem::BeforeFrom {
                    keyword: other.keyword().to_owned(),
                };
                return Err(ParseError::new(position, problem));
            }
        }
        Ok(())
    }

    fn from(&mut self, line: &LogicalLine, statement: &Statement<'_>) -> Result<Stage, ParseError> {
        let flags = Flags::check(line, statement, FROM)?;
        let words = blank_separated(statement.rest);
        let position = line.position(statement.keyword.at);
        let (base, name) = match words[..] {
            [base] => (base, None),
            [base, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
                self.warn_names(statement, keyword.text, (name.text, line.position(name.at)));
                (base, Some(name))
            }
            _ => return Err(ParseError::new(position, Problem::FromArguments)),
        };
        let name = match name {
            Some(name) if !is_stage_name(name.text) => {
                let problem = Problem::StageName(name.text.to_owned());
                return Err(ParseError::new(line.position(name.at), problem));
            }
            name => name.map(|name| name.text.to_lowercase()),
        };
        Ok(Stage {
            index: self.dockerfile.stages.len(),
            name,
            base: base.text.to_owned(),
            platform: flags.value("platform"),
            instructions: Vec::new(),
            position,
            source: line.text.trim().to_owned(),
        })
    }

    fn warn(&mut self, rule: Rule, position: Position, message: String) {
        self.dockerfile.warnings.push(Warning {
            rule,
            position,
            message,
        });
    }

    fn warn_names(&mut self, statement: &Statement<'_>, keyword: &str, name: (&str, Position)) {
        let from = statement.keyword.text;
        let (name, position) = name;
        let lower = |text: &str| text.chars().all(|ch| ch.is_ascii_lowercase());
        if lower(from) != lower(keyword) {
            let message = format!("`{keyword}` and `{from}` differ in case");
            self.warn(Rule::FromAsCasing, position, message);
        }
        if name != name.to_lowercase() {
            let message = format!("the stage name `{name}` is not in lower case");
            self.warn(Rule::StageNameCasing, position, message);
        }
    }

    fn warn_legacy(&mut self, statement: &Statement<'_>, position: Position) {
        if !matches!(statement.name, "ENV" | "LABEL") {
            return;
        }
        let words = quoted_words(statement.rest, self.parser.escape);
        let legacy = words.first().is_some_and(|(word, _)| !word.contains('='));
        if let Some((key, _)) = legacy_pair(statement.rest).filter(|_| legacy) {
            let message = format!("write {} {key}=<value>", statement.name);
            self.warn(Rule::LegacyKeyValueFormat, position, message);
        }
    }
}

/// The longest path of a repository that an image's name may have, without `library/`.
const MOST_OF_A_NAME: usize = 247;

/// BuildKit's `^[a-z][a-z0-9-_.]*$`, in any case. As a named context may stand for any stage, the
/// name also has to be one of a repository (distribution's grammar of references): between letters
/// and digits stands one `.`, one or two `_`, or any number of `-`.
fn is_stage_name(name: &str) -> bool {
    let is_separator =
        |part: &str| matches!(part, "" | "." | "_" | "__") || part.bytes().all(|byte| byte == b'-');
    name.starts_with(|ch: char| ch.is_ascii_alphabetic())
        && name.ends_with(|ch: char| ch.is_ascii_alphanumeric())
        && name.len() <= MOST_OF_A_NAME
        && name
            .split(|ch: char| ch.is_ascii_alphanumeric())
            .all(is_separator)
}
