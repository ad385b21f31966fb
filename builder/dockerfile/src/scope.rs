//! The variables that are in force at a point of the file: `ARG`s before the first `FROM`, then
//! `ARG` and `ENV` of a stage in the order of the instructions.

use std::collections::BTreeMap;

use crate::expand::{self, ExpandError, Expansion, Variables};
use crate::instruction::{ArgDeclaration, Dockerfile, Escape, KeyValue};
use crate::platform::Platform;
use crate::position::{Located, Position};

/// Build arguments that a `RUN` sees without an `ARG`, and that are neither part of the history
/// nor of a cache key unless they are declared, each in both of its cases.
/// <https://docs.docker.com/reference/dockerfile/#predefined-args>
pub const PROXY_ARGS: [[&str; 2]; 5] = [
    ["HTTP_PROXY", "http_proxy"],
    ["HTTPS_PROXY", "https_proxy"],
    ["FTP_PROXY", "ftp_proxy"],
    ["NO_PROXY", "no_proxy"],
    ["ALL_PROXY", "all_proxy"],
];

/// An expansion that failed, with the place of the instruction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: cannot expand `{word}`")]
pub struct ScopeError {
    /// Where the instruction starts.
    pub position: Position,
    /// The word as written.
    pub word: String,
    /// Why.
    #[source]
    pub source: ExpandError,
}

/// The platforms of a build, and the stage it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFor {
    /// The platform of the machine that builds.
    pub build: Platform,
    /// The platform of the image.
    pub target: Platform,
    /// The requested stage (`--target`), if any.
    pub stage: Option<String>,
}

/// The global scope: the automatic platform arguments and the `ARG`s before the first `FROM`,
/// with their values. `FROM` words are expanded in it; a stage sees one of its names only after
/// an `ARG` without a default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Globals {
    values: BTreeMap<String, String>,
    build_args: BTreeMap<String, String>,
    escape: Escape,
}

impl Globals {
    /// Evaluates the `ARG`s before the first `FROM`. A build argument beats a default and an
    /// automatic argument of the same name.
    pub fn evaluate(
        dockerfile: &Dockerfile,
        build: &BuildFor,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Self, ScopeError> {
        let mut values = BTreeMap::new();
        let last = dockerfile.stages.last();
        let last = last.and_then(|stage| stage.name.as_deref());
        let stage = build.stage.as_deref().or(last);
        for (name, value) in Platform::automatic_args(&build.build, &build.target, stage) {
            let value = build_args.get(name).cloned().unwrap_or(value);
            values.insert(name.to_owned(), value);
        }
        let escape = dockerfile.directives.escape;
        for Located {
            value: arg,
            position,
            ..
        } in &dockerfile.meta_args
        {
            let value = match (build_args.get(&arg.name), &arg.default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => {
                    expand::expand(default, &values, escape).map_err(|source| ScopeError {
                        position: *position,
                        word: default.clone(),
                        source,
                    })?
                }
                (None, None) => continue,
            };
            values.insert(arg.name.clone(), value);
        }
        Ok(Self {
            values,
            build_args: build_args.clone(),
            escape,
        })
    }

    /// Expands a word of a `FROM` line.
    pub fn expand(&self, word: &str) -> Result<String, ExpandError> {
        expand::expand(word, self, self.escape)
    }

    /// The scope at the start of a stage whose base image has this environment.
    pub fn stage(&self, base_env: impl IntoIterator<Item = (String, String)>) -> Scope<'_> {
        let image_env: Vec<(String, String)> = base_env.into_iter().collect();
        let mut scope = Scope {
            globals: self,
            visible: Vec::new(),
            image_env: Vec::new(),
            args: Vec::new(),
        };
        for (name, value) in image_env {
            set(&mut scope.visible, &name, &value);
            set(&mut scope.image_env, &name, &value);
        }
        scope
    }
}

impl Variables for Globals {
    fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// The variables of a stage at one point. `ENV` and an `ARG` that has a value set the same
/// variable, and the later instruction wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope<'g> {
    globals: &'g Globals,
    visible: Vec<(String, String)>,
    image_env: Vec<(String, String)>,
    args: Vec<(String, Option<String>)>,
}

impl Scope<'_> {
    /// The scope at the start of a stage that is built `FROM` the stage whose end this is: its
    /// arguments are inherited, and its environment is set again on top of them.
    /// <https://docs.docker.com/build/building/variables/#scoping>
    pub fn child(&self) -> Self {
        let mut child = self.clone();
        for (name, value) in &self.image_env {
            set(&mut child.visible, name, value);
        }
        child
    }

    /// `ARG`: the value is the build argument, else the default, else the value of the global
    /// scope; without any of them nothing changes (an earlier `ENV` of that name stays).
    pub fn declare(&mut self, arg: &ArgDeclaration) -> Result<(), ExpandError> {
        let globals = self.globals;
        let value = match (globals.build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.expand(default)?),
            (None, None) => globals.values.get(&arg.name).cloned(),
        };
        if let Some(value) = &value {
            set(&mut self.visible, &arg.name, value);
        }
        match self.args.iter_mut().find(|(name, _)| *name == arg.name) {
            Some(entry) => entry.1 = value,
            None => self.args.push((arg.name.clone(), value)),
        }
        Ok(())
    }

    /// `ENV`: every pair is expanded in the scope before the instruction, then all are set.
    pub fn set_env(&mut self, pairs: &[KeyValue]) -> Result<(), ExpandError> {
        let expanded: Vec<(String, String)> = pairs
            .iter()
            .map(|pair| Ok((self.expand(&pair.key)?, self.expand(&pair.value)?)))
            .collect::<Result<_, ExpandError>>()?;
        for (name, value) in expanded {
            set(&mut self.visible, &name, &value);
            set(&mut self.image_env, &name, &value);
        }
        Ok(())
    }

    /// Expands a word.
    pub fn expand(&self, word: &str) -> Result<String, ExpandError> {
        expand::expand(word, self, self.globals.escape)
    }

    /// Expands a word, splits it at unquoted blanks and says which names it read.
    pub fn expansion(&self, word: &str) -> Result<Expansion, ExpandError> {
        expand::expansion(word, self, self.globals.escape)
    }

    /// Expands the body of a `COPY` or `ADD` here-document.
    pub fn expand_heredoc(&self, body: &str) -> Result<String, ExpandError> {
        expand::expand_heredoc(body, self)
    }

    /// The environment of the image: the base's and every `ENV`, in the order of their first
    /// appearance. What goes into the config.
    pub fn image_env(&self) -> &[(String, String)] {
        &self.image_env
    }

    /// The environment of a `RUN`: [`Scope::image_env`] overlaid by the declared arguments that
    /// have a value. [`PROXY_ARGS`] come on top and are the caller's to add.
    pub fn run_env(&self) -> &[(String, String)] {
        &self.visible
    }

    /// The arguments that were declared so far, with their values; for the history and for keys.
    pub fn declared_args(&self) -> &[(String, Option<String>)] {
        &self.args
    }
}

impl Variables for Scope<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.visible
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

fn set(list: &mut Vec<(String, String)>, name: &str, value: &str) {
    match list.iter_mut().find(|(key, _)| key == name) {
        Some(entry) => value.clone_into(&mut entry.1),
        None => list.push((name.to_owned(), value.to_owned())),
    }
}
