//! Split statements become typed instructions.

use super::flags::{Flags, Table, Takes};
use super::lines::LogicalLine;
use super::sources;
use super::statement::{Piece, Statement, refuse_trigger};
use super::words::{Json, blank_separated, json, quoted_words};
use super::{ParseError, Problem};
use crate::healthcheck::{self, Healthcheck};
use crate::instruction::{
    ArgDeclaration, Escape, Heredoc, Instruction, KeyValue, Network, Onbuild, Run, Security,
    ShellOrExec,
};
use crate::mount::MountFlag;

const RUN: Table = &[
    ("device", Takes::Values),
    ("mount", Takes::Values),
    ("network", Takes::Value),
    ("security", Takes::Value),
];

const HEALTHCHECK: Table = &[
    ("interval", Takes::Value),
    ("retries", Takes::Value),
    ("start-interval", Takes::Value),
    ("start-period", Takes::Value),
    ("timeout", Takes::Value),
];

/// What the typed step needs to know about the file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parser {
    pub escape: Escape,
}

impl Parser {
    /// Any instruction but `FROM`.
    pub fn instruction(
        self,
        line: &LogicalLine,
        statement: &Statement<'_>,
        heredocs: Vec<Heredoc>,
    ) -> Result<Instruction, ParseError> {
        match statement.name {
            "ADD" => return sources::add(line, statement, &heredocs).map(Instruction::Add),
            "COPY" => return sources::copy(line, statement, &heredocs).map(Instruction::Copy),
            "RUN" => return self.run(line, statement, heredocs).map(Instruction::Run),
            "HEALTHCHECK" => return health(line, statement).map(Instruction::Healthcheck),
            _ => {}
        }
        Flags::check(line, statement, &[])?;
        match statement.name {
            "ARG" => self.args(line, statement).map(Instruction::Arg),
            "CMD" => command(line, statement, statement.rest).map(Instruction::Cmd),
            "ENTRYPOINT" => command(line, statement, statement.rest).map(Instruction::Entrypoint),
            "ENV" => self.pairs(line, statement).map(Instruction::Env),
            "EXPOSE" => list(line, statement, Json::No).map(Instruction::Expose),
            "LABEL" => self.pairs(line, statement).map(Instruction::Label),
            "MAINTAINER" => text(line, statement).map(Instruction::Maintainer),
            "ONBUILD" => self
                .onbuild(line, statement, heredocs)
                .map(Instruction::Onbuild),
            "SHELL" => shell(line, statement).map(Instruction::Shell),
            "STOPSIGNAL" => text(line, statement).map(Instruction::StopSignal),
            "USER" => text(line, statement).map(Instruction::User),
            "VOLUME" => volume(line, statement).map(Instruction::Volume),
            "WORKDIR" => text(line, statement).map(Instruction::Workdir),
            // FROM opens a stage before this is asked, and is refused as a trigger.
            other => Err(at(
                line,
                statement.keyword,
                Problem::NotATrigger(other.to_owned()),
            )),
        }
    }

    fn args(
        self,
        line: &LogicalLine,
        statement: &Statement<'_>,
    ) -> Result<Vec<ArgDeclaration>, ParseError> {
        let words = quoted_words(statement.rest, self.escape);
        if words.is_empty() {
            return Err(no_arguments(line, statement));
        }
        let declaration = |(word, offset): (String, usize)| match word.split_once('=') {
            Some(("", _)) => {
                let problem = Problem::BlankName("ARG".to_owned());
                Err(ParseError::new(line.position(offset), problem))
            }
            Some((name, default)) => Ok(ArgDeclaration {
                name: name.to_owned(),
                default: Some(default.to_owned()),
            }),
            None => Ok(ArgDeclaration {
                name: word,
                default: None,
            }),
        };
        words.into_iter().map(declaration).collect()
    }

    /// `name=value …`, or the old form `name the rest`.
    fn pairs(
        self,
        line: &LogicalLine,
        statement: &Statement<'_>,
    ) -> Result<Vec<KeyValue>, ParseError> {
        let words = quoted_words(statement.rest, self.escape);
        let Some((first, first_at)) = words.first() else {
            return Err(no_arguments(line, statement));
        };
        let keyword = || statement.name.to_owned();
        if !first.contains('=') {
            return match legacy_pair(statement.rest) {
                Some((key, value)) => Ok(vec![KeyValue {
                    key: key.to_owned(),
                    value: value.to_owned(),
                }]),
                None => {
                    let problem = Problem::NoValue {
                        keyword: keyword(),
                        name: first.clone(),
                    };
                    Err(ParseError::new(line.position(*first_at), problem))
                }
            };
        }
        let pair = |(word, offset): (String, usize)| match word.split_once('=') {
            None => Err(ParseError::new(
                line.position(offset),
                Problem::NoEquals { word },
            )),
            Some(("", _)) => Err(ParseError::new(
                line.position(offset),
                Problem::BlankName(keyword()),
            )),
            Some((key, value)) => Ok(KeyValue {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
        };
        words.into_iter().map(pair).collect()
    }

    fn run(
        self,
        line: &LogicalLine,
        statement: &Statement<'_>,
        heredocs: Vec<Heredoc>,
    ) -> Result<Run, ParseError> {
        let flags = Flags::check(line, statement, RUN)?;
        let mounts = flags
            .values("mount")
            .map(|(text, position)| {
                MountFlag::parse(text, position)
                    .map_err(|error| ParseError::new(position, error.into()))
            })
            .collect::<Result<_, _>>()?;
        let network = choice(
            &flags,
            "network",
            &[
                ("default", Network::Default),
                ("none", Network::None),
                ("host", Network::Host),
            ],
            "default, none or host",
        )?;
        let security = choice(
            &flags,
            "security",
            &[
                ("sandbox", Security::Sandbox),
                ("insecure", Security::Insecure),
            ],
            "sandbox or insecure",
        )?;
        let devices = flags
            .values("device")
            .map(|(device, _)| device.to_owned())
            .collect();
        let command = command(line, statement, statement.rest)?;
        Ok(Run {
            command,
            heredocs,
            mounts,
            network,
            security,
            devices,
        })
    }

    fn onbuild(
        self,
        line: &LogicalLine,
        statement: &Statement<'_>,
        heredocs: Vec<Heredoc>,
    ) -> Result<Onbuild, ParseError> {
        if statement.rest.text.is_empty() {
            return Err(no_arguments(line, statement));
        }
        let inner = Statement::split_piece(line, statement.rest)?;
        refuse_trigger(line, &inner)?;
        // Blanks at its end stay (BuildKit).
        let whole = line.text.get(statement.rest.at..);
        let mut trigger = whole.unwrap_or(statement.rest.text).to_owned();
        for heredoc in &heredocs {
            trigger.push('\n');
            trigger.push_str(&heredoc.content);
            trigger.push_str(&heredoc.name);
        }
        let instruction = Box::new(self.instruction(line, &inner, heredocs)?);
        Ok(Onbuild {
            trigger,
            instruction,
        })
    }
}

/// `name value with blanks`, the form of `ENV` and `LABEL` before `name=value`.
pub(super) fn legacy_pair(piece: Piece<'_>) -> Option<(&str, &str)> {
    let blank = |ch: char| matches!(ch, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r');
    let (key, value) = piece.text.split_once(blank)?;
    Some((key, value.trim_start_matches(blank)))
}

fn at(line: &LogicalLine, piece: Piece<'_>, problem: Problem) -> ParseError {
    ParseError::new(line.position(piece.at), problem)
}

fn no_arguments(line: &LogicalLine, statement: &Statement<'_>) -> ParseError {
    at(
        line,
        statement.keyword,
        Problem::NoArguments(statement.name.to_owned()),
    )
}

/// The shell or the JSON form. An empty shell form is allowed, as in BuildKit.
fn command(
    line: &LogicalLine,
    statement: &Statement<'_>,
    piece: Piece<'_>,
) -> Result<ShellOrExec, ParseError> {
    match json(piece.text) {
        Json::Strings(argv) => Ok(ShellOrExec::Exec(argv)),
        Json::NotStrings => Err(at(
            line,
            piece,
            Problem::NotStrings(statement.name.to_owned()),
        )),
        Json::No => Ok(ShellOrExec::Shell(piece.text.to_owned())),
    }
}

/// The whole rest as one argument.
fn text(line: &LogicalLine, statement: &Statement<'_>) -> Result<String, ParseError> {
    if statement.rest.text.is_empty() {
        return Err(no_arguments(line, statement));
    }
    Ok(statement.rest.text.to_owned())
}

fn list(
    line: &LogicalLine,
    statement: &Statement<'_>,
    form: Json,
) -> Result<Vec<String>, ParseError> {
    let words: Vec<String> = match form {
        Json::Strings(words) => words,
        Json::NotStrings => {
            let problem = Problem::NotStrings(statement.name.to_owned());
            return Err(at(line, statement.rest, problem));
        }
        Json::No => blank_separated(statement.rest)
            .iter()
            .map(|word| word.text.to_owned())
            .collect(),
    };
    if words.is_empty() {
        Err(no_arguments(line, statement))
    } else {
        Ok(words)
    }
}

fn volume(line: &LogicalLine, statement: &Statement<'_>) -> Result<Vec<String>, ParseError> {
    let volumes = list(line, statement, json(statement.rest.text))?;
    let volumes: Vec<String> = volumes
        .iter()
        .map(|volume| volume.trim().to_owned())
        .collect();
    if volumes.iter().any(String::is_empty) {
        return Err(at(line, statement.rest, Problem::EmptyVolume));
    }
    Ok(volumes)
}

fn shell(line: &LogicalLine, statement: &Statement<'_>) -> Result<Vec<String>, ParseError> {
    match json(statement.rest.text) {
        Json::No if !statement.rest.text.is_empty() => {
            Err(at(line, statement.rest, Problem::ShellNotJson))
        }
        form => list(line, statement, form),
    }
}

fn choice<T: Copy + Default>(
    flags: &Flags,
    flag: &str,
    table: &[(&str, T)],
    expected: &'static str,
) -> Result<T, ParseError> {
    let Some((value, position)) = flags.values(flag).next() else {
        return Ok(T::default());
    };
    let found = table
        .iter()
        .find(|(name, _)| *name == value)
        .map(|(_, item)| *item);
    found.ok_or_else(|| {
        let problem = Problem::BadFlagValue {
            flag: flag.to_owned(),
            value: value.to_owned(),
            expected,
        };
        ParseError::new(position, problem)
    })
}

fn health(line: &LogicalLine, statement: &Statement<'_>) -> Result<Healthcheck, ParseError> {
    let flags = Flags::check(line, statement, HEALTHCHECK)?;
    let rest = statement.rest;
    let end = rest
        .text
        .find(char::is_whitespace)
        .unwrap_or(rest.text.len());
    let argument = rest.from(end).trim();
    match rest.text[..end].to_ascii_uppercase().as_str() {
        "" => return Err(no_arguments(line, statement)),
        "NONE" if argument.text.is_empty() => return Ok(Healthcheck::None),
        "NONE" => return Err(at(line, argument, Problem::HealthcheckNone)),
        "CMD" => {}
        _ => {
            return Err(at(
                line,
                rest,
                Problem::HealthcheckType(rest.text[..end].to_owned()),
            ));
        }
    }
    let command = command(line, statement, argument)?;
    let empty = match &command {
        ShellOrExec::Shell(text) => text.is_empty(),
        ShellOrExec::Exec(argv) => argv.is_empty(),
    };
    if empty {
        return Err(at(line, rest, Problem::HealthcheckCommand));
    }
    let bad = |flag: &str, value: &str, expected: &'static str| Problem::BadFlagValue {
        flag: flag.to_owned(),
        value: value.to_owned(),
        expected,
    };
    let duration = |flag: &'static str| match flags.located(flag) {
        None => Ok(std::time::Duration::ZERO),
        Some((value, position)) => healthcheck::interval(value).ok_or_else(|| {
            let expected = "a duration of at least 1ms, for example 30s or 1m30s";
            ParseError::new(position, bad(flag, value, expected))
        }),
    };
    let retries = match flags.located("retries") {
        None => 0,
        Some((value, position)) => {
            let number: Option<i32> = value.parse().ok();
            let number = number.and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| {
                ParseError::new(position, bad("retries", value, "a number, 0 or greater"))
            })?
        }
    };
    Ok(Healthcheck::Command {
        command,
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries,
    })
}
