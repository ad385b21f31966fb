//! Remarks on a Dockerfile that builds, under BuildKit's rule names
//! (<https://docs.docker.com/reference/build-checks/>).

use std::collections::BTreeSet;

use crate::expand::{self, NoVariables};
use crate::instruction::{Dockerfile, Instruction, ShellOrExec, Source, Stage};
use crate::platform::Platform;
use crate::position::Position;
use crate::suggest;

/// A remark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub position: Position,
    /// What is remarked on, with the names from the file.
    pub message: String,
}

macro_rules! rules {
    ($($name:ident: $doc:literal,)*) => {
        /// The rules, under the names that `# check=skip=` takes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $doc] $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// BuildKit's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

rules! {
    ConsistentInstructionCasing: "All keywords are in upper case, or all in lower case.",
    DuplicateStageName: "No two stages have the same name.",
    ExposeInvalidFormat: "`EXPOSE` names neither an address nor a host port.",
    ExposeProtoCasing: "`EXPOSE` names protocols in lower case.",
    FromAsCasing: "`AS` has the case of `FROM`.",
    FromPlatformFlagConstDisallowed: "`FROM --platform` is no fixed platform, unless the stage is named for it.",
    InvalidBaseImagePlatform: "An image that a build is based on is for the platform that was asked for.",
    JSONArgsRecommended: "`CMD` and `ENTRYPOINT` are JSON arrays, so that signals arrive.",
    LegacyKeyValueFormat: "`ENV` and `LABEL` are written with `=`.",
    MaintainerDeprecated: "An author is a label.",
    MultipleInstructionsDisallowed: "`CMD`, `ENTRYPOINT` and `HEALTHCHECK` stand once in a stage.",
    NoEmptyContinuation: "No blank line stands inside an instruction.",
    RedundantTargetPlatform: "`FROM --platform` does not say what is meant without it.",
    ReservedStageName: "No stage is named `scratch` or `context`.",
    SecretsUsedInArgOrEnv: "No `ARG` or `ENV` is named like a secret: everyone who has the image reads it.",
    StageNameCasing: "Stage names are lower case.",
    UndefinedArgInFrom: "`FROM` uses only `ARG`s that were declared before it.",
    UndefinedVar: "A variable is declared before it is used.",
    WorkdirRelativePath: "A relative `WORKDIR` follows an absolute one.",
}

/// The remarks on a file, after `# check=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of the file.
    pub warnings: Vec<Warning>,
    /// `# check=error=true`: remarks fail the build.
    pub fail: bool,
}

/// Checks a file. `base_env` gives the names of the variables that the image of a `FROM` sets, or
/// `None` when it is not known; then [`Rule::UndefinedVar`] is silent about stages on it.
pub fn check(dockerfile: &Dockerfile, base_env: &dyn Fn(&str) -> Option<Vec<String>>) -> Report {
    let mut warnings = dockerfile.warnings.clone();
    from_words(dockerfile, &mut warnings);
    platforms(dockerfile, &mut warnings);
    secrets(dockerfile, &mut warnings);
    stage_names(dockerfile, &mut warnings);
    for stage in &dockerfile.stages {
        repeated(stage, &mut warnings);
        forms(stage, &mut warnings);
    }
    workdirs(dockerfile, &mut warnings);
    undefined(dockerfile, base_env, &mut warnings);
    warnings.retain(|warning| !is_skipped(dockerfile, warning.rule));
    warnings.sort_by_key(|warning| warning.position);
    Report {
        warnings,
        fail: option(directive(dockerfile), "error").eq_ignore_ascii_case("true"),
    }
}

/// Whether `# check=skip=` names a rule.
#[must_use]
pub fn is_skipped(dockerfile: &Dockerfile, rule: Rule) -> bool {
    let skipped = option(directive(dockerfile), "skip");
    let mut names = skipped.split(',').map(str::trim);
    names.any(|name| name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case(rule.name()))
}

fn directive(dockerfile: &Dockerfile) -> &str {
    let check = dockerfile.directives.check.as_ref();
    check.map_or("", |check| check.value.as_str())
}

/// The value of `name` in `name=value;name=value`.
fn option<'d>(directive: &'d str, name: &str) -> &'d str {
    directive
        .split(';')
        .filter_map(|option| option.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map_or("", |(_, value)| value.trim())
}

/// Each keyword in one case, and all in the case of most.
pub(crate) fn keyword_casing(keywords: &[(String, Position)]) -> Vec<Warning> {
    let is_lower = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_upper = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let lower = keywords.iter().filter(|(word, _)| is_lower(word)).count();
    let upper = keywords.iter().filter(|(word, _)| is_upper(word)).count();
    let (right, case): (&dyn Fn(&str) -> bool, _) = if lower > upper {
        (&is_lower, "lower")
    } else {
        (&is_upper, "upper")
    };
    keywords
        .iter()
        .filter(|(word, _)| !right(word))
        .map(|(word, position)| Warning {
            rule: Rule::ConsistentInstructionCasing,
            position: *position,
            message: format!("`{word}` is not in {case} case as the other instructions are"),
        })
        .collect()
}

fn stage_names(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    let mut seen = BTreeSet::new();
    for stage in &dockerfile.stages {
        let Some(name) = stage.name.as_deref() else {
            continue;
        };
        let mut warn = |rule, message| {
            warnings.push(Warning {
                rule,
                position: stage.position,
                message,
            });
        };
        if matches!(name, "scratch" | "context") {
            warn(
                Rule::ReservedStageName,
                format!("`{name}` has a meaning of its own"),
            );
        }
        if !seen.insert(name) {
            warn(
                Rule::DuplicateStageName,
                format!("an earlier stage is named `{name}` too"),
            );
        }
    }
}

fn from_words(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    let declared: BTreeSet<&str> = dockerfile
        .meta_args
        .iter()
        .map(|arg| arg.value.name.as_str())
        .chain(AUTOMATIC)
        .collect();
    for stage in &dockerfile.stages {
        for word in [Some(&stage.base), stage.platform.as_ref()]
            .into_iter()
            .flatten()
        {
            for name in unset(word, dockerfile) {
                if !declared.contains(name.as_str()) {
                    let message = format!("no ARG before the first FROM declares `{name}`");
                    let position = stage.position;
                    warnings.push(Warning {
                        rule: Rule::UndefinedArgInFrom,
                        position,
                        message,
                    });
                }
            }
        }
    }
}

/// Words of `FROM --platform`.
fn platforms(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    for stage in &dockerfile.stages {
        let Some(word) = &stage.platform else {
            continue;
        };
        let name = stage.name.as_deref().unwrap_or_default();
        let is_named_for =
            |platform: &Platform| name.contains(&platform.os) || name.contains(&platform.arch);
        let (rule, message) = if matches!(word.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = format!("--platform={word} is what is meant without it");
            (Rule::RedundantTargetPlatform, message)
        } else if !word.contains('$')
            && Platform::parse(word).is_ok_and(|platform| !is_named_for(&platform))
        {
            let message = format!("--platform={word} is the same in every build");
            (Rule::FromPlatformFlagConstDisallowed, message)
        } else {
            continue;
        };
        warnings.push(Warning {
            rule,
            position: stage.position,
            message,
        });
    }
}

/// Parts of a name that say that its value is a secret, and one that says that it is none (BuildKit's
/// `validateNoSecretKey`).
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const NO_SECRET: &str = "public";

/// Names of `ARG` and `ENV`.
fn secrets(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    let is_secret = |name: &str| {
        let name = name.to_lowercase();
        let has = |word: &str| name.split('_').any(|part| part == word);
        SECRET.into_iter().any(has) && !has(NO_SECRET)
    };
    for located in dockerfile
        .stages
        .iter()
        .flat_map(|stage| &stage.instructions)
    {
        let names: Vec<&str> = match &located.value {
            Instruction::Arg(args) => args.iter().map(|arg| arg.name.as_str()).collect(),
            Instruction::Env(pairs) => pairs.iter().map(|pair| pair.key.as_str()).collect(),
            _ => continue,
        };
        let keyword = located.value.keyword();
        for name in names.into_iter().filter(|name| is_secret(name)) {
            warnings.push(Warning {
                rule: Rule::SecretsUsedInArgOrEnv,
                position: located.position,
                message: format!(
                    "`{name}` sounds like a secret, and {keyword} shows it to all who have the image"
                ),
            });
        }
    }
}

fn port_remark(port: &str) -> Option<(Rule, String)> {
    if port.contains(':') {
        let message = format!("`{port}`: only the port of the container is part of an image");
        return Some((Rule::ExposeInvalidFormat, message));
    }
    let (_, protocol) = port.split_once('/')?;
    let is_lower = protocol.contains('$') || protocol == protocol.to_lowercase();
    let message = format!("`{port}`: a protocol is written in lower case");
    (!is_lower).then_some((Rule::ExposeProtoCasing, message))
}

const AUTOMATIC: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// The names that a word reads without a default.
fn unset(word: &str, dockerfile: &Dockerfile) -> BTreeSet<String> {
    let expansion = expand::expansion(word, &NoVariables, dockerfile.directives.escape);
    expansion
        .map(|expansion| expansion.unset)
        .unwrap_or_default()
}

/// Of several `CMD`, `ENTRYPOINT` or `HEALTHCHECK` only the last counts; the others are remarked
/// on.
fn repeated(stage: &Stage, warnings: &mut Vec<Warning>) {
    for keyword in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let found: Vec<Position> = stage
            .instructions
            .iter()
            .filter(|located| located.value.keyword() == keyword)
            .map(|located| located.position)
            .collect();
        let Some((_, earlier)) = found.split_last() else {
            continue;
        };
        warnings.extend(earlier.iter().map(|position| Warning {
            rule: Rule::MultipleInstructionsDisallowed,
            position: *position,
            message: format!("a later {keyword} of this stage replaces this one"),
        }));
    }
}

fn forms(stage: &Stage, warnings: &mut Vec<Warning>) {
    let has_shell = stage
        .instructions
        .iter()
        .any(|located| matches!(located.value, Instruction::Shell(_)));
    for located in &stage.instructions {
        let (rule, message) = match &located.value {
            Instruction::Maintainer(_) => (
                Rule::MaintainerDeprecated,
                "write LABEL org.opencontainers.image.authors=… instead".to_owned(),
            ),
            Instruction::Cmd(ShellOrExec::Shell(_))
            | Instruction::Entrypoint(ShellOrExec::Shell(_))
                if !has_shell =>
            {
                let keyword = located.value.keyword();
                let message =
                    format!("write {keyword} as a JSON array: a shell in between keeps signals");
                (Rule::JSONArgsRecommended, message)
            }
            Instruction::Expose(ports) => match ports.iter().find_map(|port| port_remark(port)) {
                Some(remark) => remark,
                None => continue,
            },
            _ => continue,
        };
        warnings.push(Warning {
            rule,
            position: located.position,
            message,
        });
    }
}

/// The stage of this file that `stage` is built from, when its name is no variable.
fn base_stage<'d>(dockerfile: &'d Dockerfile, stage: &Stage) -> Option<&'d Stage> {
    let name = stage.base.to_lowercase();
    let earlier = &dockerfile.stages[..stage.index];
    earlier
        .iter()
        .rev()
        .find(|earlier| earlier.name.as_deref() == Some(name.as_str()))
}

fn workdirs(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    let mut absolute: Vec<bool> = Vec::new();
    for stage in &dockerfile.stages {
        let mut known = base_stage(dockerfile, stage).is_some_and(|base| absolute[base.index]);
        for located in &stage.instructions {
            let Instruction::Workdir(path) = &located.value else {
                continue;
            };
            // A variable may hold an absolute path.
            if path.starts_with(['/', '$']) {
                known = true;
            } else if !known {
                warnings.push(Warning {
                    rule: Rule::WorkdirRelativePath,
                    position: located.position,
                    message: format!("`{path}` depends on the working directory of the base"),
                });
            }
        }
        absolute.push(known);
    }
}

fn undefined(
    dockerfile: &Dockerfile,
    base_env: &dyn Fn(&str) -> Option<Vec<String>>,
    warnings: &mut Vec<Warning>,
) {
    // The names in force at the end of each stage; `None` where the base's are not known.
    let mut ends: Vec<Option<BTreeSet<String>>> = Vec::new();
    for stage in &dockerfile.stages {
        let mut names = match base_stage(dockerfile, stage) {
            Some(base) => ends[base.index].clone(),
            None if stage.base == "scratch" => Some(BTreeSet::new()),
            None => base_env(&stage.base).map(BTreeSet::from_iter),
        };
        if let Some(names) = &mut names {
            // BuildKit gives every stage a PATH.
            names.insert("PATH".to_owned());
            for located in &stage.instructions {
                let read = words(&located.value);
                let missing = read.iter().flat_map(|word| unset(word, dockerfile));
                for name in missing
                    .filter(|name| !names.contains(name))
                    .collect::<BTreeSet<_>>()
                {
                    let nearest = suggest::nearest(&name, names.iter().map(String::as_str));
                    let hint = nearest
                        .map(|nearest| format!("; did you mean `{nearest}`?"))
                        .unwrap_or_default();
                    warnings.push(Warning {
                        rule: Rule::UndefinedVar,
                        position: located.position,
                        message: format!("nothing declares `{name}`{hint}"),
                    });
                }
                declare(&located.value, names);
            }
        }
        ends.push(names);
    }
}

fn declare(instruction: &Instruction, names: &mut BTreeSet<String>) {
    match instruction {
        Instruction::Arg(args) => names.extend(args.iter().map(|arg| arg.name.clone())),
        Instruction::Env(pairs) => names.extend(pairs.iter().map(|pair| pair.key.clone())),
        _ => {}
    }
}

/// The words of an instruction that are expanded.
fn words(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Add(add) => {
            let flags = [&add.chown, &add.chmod, &add.checksum];
            source_words(&add.sources, &add.dest, &flags)
        }
        Instruction::Copy(copy) => {
            source_words(&copy.sources, &copy.dest, &[&copy.chown, &copy.chmod])
        }
        Instruction::Arg(args) => args
            .iter()
            .filter_map(|arg| arg.default.as_deref())
            .collect(),
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            pairs.iter().map(|pair| pair.value.as_str()).collect()
        }
        Instruction::Expose(words) | Instruction::Volume(words) => {
            words.iter().map(String::as_str).collect()
        }
        Instruction::StopSignal(word) | Instruction::User(word) | Instruction::Workdir(word) => {
            vec![word]
        }
        _ => Vec::new(),
    }
}

fn source_words<'i>(
    sources: &'i [Source],
    dest: &'i str,
    flags: &[&'i Option<String>],
) -> Vec<&'i str> {
    let paths = sources.iter().filter_map(|source| match source {
        Source::Path(path) => Some(path.as_str()),
        Source::Heredoc(_) => None,
    });
    let flags = flags.iter().filter_map(|flag| flag.as_deref());
    paths.chain([dest]).chain(flags).collect()
}

#[cfg(test)]
#[path = "lint_tests.rs"]
mod tests;
