//! What a Dockerfile asks for, from its text alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kiln_dockerfile::graph::{Reference, StageGraph};
use kiln_dockerfile::ignore::Patterns;
use kiln_dockerfile::instruction::{Dockerfile, Instruction, Run, Script, ShellOrExec, Source};
use kiln_dockerfile::mount::MountKind;
use kiln_dockerfile::scope::{Globals, Scope, ScopeError};
use kiln_dockerfile::{ExpandError, Located, Position, parse_onbuild};

use super::{OnbuildKnowledge, Request, SourcesError};

/// What a Dockerfile asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The paths and patterns, in the order of the stages.
    pub selections: Vec<Selection>,
    /// Why everything is wanted, when it is.
    pub whole: Option<Reason>,
}

/// A source of a `COPY`, `ADD` or `RUN --mount=type=bind`.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The line of the instruction.
    pub line: u32,
    /// The path or pattern, relative to the context and clean; empty for the context itself.
    pub path: String,
    /// `--parents`: the pattern below `path` that decides what is taken.
    pub below: Option<String>,
    /// `--exclude`.
    pub exclude: Patterns,
    /// Whether wildcards mean anything (not in a mount).
    pub wildcards: bool,
}

/// Why everything in the context belongs to an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// An instruction works in the folder where the context lies in the pod.
    NamesContext {
        /// The line; of the `FROM` when it is a trigger's.
        line: u32,
        /// The keyword.
        keyword: &'static str,
    },
    /// A `RUN` sees a variable that holds the path of the context in the pod.
    VariableNamesContext {
        /// The line of the `RUN`.
        line: u32,
        /// The variable.
        name: String,
    },
    /// A source holds a variable that only the base image can set.
    UnknownVariable {
        /// The line.
        line: u32,
        /// The variable.
        name: String,
    },
    /// The `ONBUILD` triggers of a base image are not known.
    UnknownTriggers {
        /// The line of the `FROM`.
        line: u32,
        /// The image.
        image: String,
    },
    /// An `ONBUILD` trigger of a base image cannot be read.
    UnreadableTrigger {
        /// The line of the `FROM`.
        line: u32,
        /// The trigger.
        trigger: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamesContext { line, keyword } => {
                write!(
                    f,
                    "{keyword} in line {line} uses the context's own folder in the pod"
                )
            }
            Self::VariableNamesContext { line, name } => {
                write!(
                    f,
                    "RUN in line {line} sees the context's own folder in `{name}`"
                )
            }
            Self::UnknownVariable { line, name } => {
                write!(
                    f,
                    "only the base image can say what `{name}` in line {line} is"
                )
            }
            Self::UnknownTriggers { line, image } => {
                write!(
                    f,
                    "the ONBUILD triggers of `{image}` (line {line}) are not known yet"
                )
            }
            Self::UnreadableTrigger { line, trigger } => {
                write!(
                    f,
                    "the ONBUILD trigger `{trigger}` of the base in line {line} is not valid"
                )
            }
        }
    }
}

/// Works out what the target stage needs.
///
/// # Errors
///
/// As [`super::find`], without those of the file system.
pub fn wanted(
    request: &Request<'_>,
    onbuild: &dyn Fn(&str) -> OnbuildKnowledge,
) -> Result<Wanted, SourcesError> {
    let globals = Globals::evaluate(request.dockerfile, request.build, request.build_args)?;
    let graph = StageGraph::new(request.dockerfile, &globals)?;
    let target = graph.target(request.build.stage.as_deref())?;
    let mut survey = Survey {
        dockerfile: request.dockerfile,
        globals: &globals,
        graph: &graph,
        onbuild,
        pod_context: request.pod_context.trim_end_matches('/'),
        ends: BTreeMap::new(),
        pending: graph.needed(target)?.into_iter().collect(),
        wanted: Wanted {
            selections: Vec::new(),
            whole: None,
        },
    };
    // In the order of the file, because triggers can ask for further stages: those come earlier,
    // and are visited when the stage that asks for them is done.
    while let Some(stage) = survey.pending.pop_first() {
        survey.stage(stage)?;
    }
    Ok(survey.wanted)
}

/// The state at the end of a stage.
#[derive(Clone)]
struct End<'g> {
    scope: Scope<'g>,
    workdir: String,
    /// Whether every variable of the environment is known: there is no base image below.
    complete: bool,
}

struct Survey<'a> {
    dockerfile: &'a Dockerfile,
    globals: &'a Globals,
    graph: &'a StageGraph,
    onbuild: &'a dyn Fn(&str) -> OnbuildKnowledge,
    pod_context: &'a str,
    ends: BTreeMap<usize, End<'a>>,
    pending: BTreeSet<usize>,
    wanted: Wanted,
}

impl<'a> Survey<'a> {
    fn stage(&mut self, index: usize) -> Result<(), SourcesError> {
        if self.ends.contains_key(&index) {
            return Ok(());
        }
        let stage = &self.dockerfile.stages[index];
        let (mut state, triggers) = match self.graph.base(index) {
            Reference::Stage(base) => {
                self.stage(*base)?;
                (
                    self.child_of(*base),
                    self.triggers_of_stage(*base, stage.position),
                )
            }
            Reference::External(image) => {
                let complete = image == "scratch";
                let scope = self.globals.stage([]);
                let state = End {
                    scope,
                    workdir: "/".to_owned(),
                    complete,
                };
                (state, self.triggers_of_image(image, stage.position))
            }
        };
        for located in &triggers {
            self.require(&located.value, stage.position)?;
            self.instruction(&mut state, located)?;
        }
        for located in &stage.instructions {
            self.instruction(&mut state, located)?;
        }
        self.ends.insert(index, state);
        Ok(())
    }

    fn child_of(&self, base: usize) -> End<'a> {
        let end = &self.ends[&base];
        End {
            scope: end.scope.child(),
            workdir: end.workdir.clone(),
            complete: end.complete,
        }
    }

    fn triggers_of_stage(&self, base: usize, position: Position) -> Vec<Located<Instruction>> {
        let instructions = self.dockerfile.stages[base].instructions.iter();
        instructions
            .filter_map(|located| match &located.value {
                Instruction::Onbuild(onbuild) => Some(Located {
                    value: (*onbuild.instruction).clone(),
                    position,
                    last_line: position.line,
                    source: onbuild.trigger.clone(),
                }),
                _ => None,
            })
            .collect()
    }

    fn triggers_of_image(&mut self, image: &str, position: Position) -> Vec<Located<Instruction>> {
        let line = position.line;
        let triggers = match image {
            "scratch" => OnbuildKnowledge::None,
            image => (self.onbuild)(image),
        };
        let triggers = match triggers {
            OnbuildKnowledge::None => return Vec::new(),
            OnbuildKnowledge::Unknown => {
                self.whole(Reason::UnknownTriggers {
                    line,
                    image: image.to_owned(),
                });
                return Vec::new();
            }
            OnbuildKnowledge::Triggers(triggers) => triggers,
        };
        let mut instructions = Vec::new();
        for trigger in triggers {
            match parse_onbuild(&trigger) {
                Ok(located) => instructions.push(Located {
                    position,
                    ..located
                }),
                Err(_) => self.whole(Reason::UnreadableTrigger { line, trigger }),
            }
        }
        instructions
    }

    /// Adds the stages that a trigger reads from.
    fn require(&mut self, trigger: &Instruction, position: Position) -> Result<(), SourcesError> {
        let froms: Vec<&str> = match trigger {
            Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
            Instruction::Run(run) => run
                .mounts
                .iter()
                .filter_map(|mount| mount.from.as_deref())
                .collect(),
            _ => Vec::new(),
        };
        for from in froms {
            if let Reference::Stage(stage) = self.graph.resolve(from, position)? {
                self.pending.extend(self.graph.needed(stage)?);
            }
        }
        Ok(())
    }

    /// The first reason counts: it is the one to act on.
    fn whole(&mut self, reason: Reason) {
        self.wanted.whole.get_or_insert(reason);
    }

    fn instruction(
        &mut self,
        state: &mut End<'a>,
        located: &Located<Instruction>,
    ) -> Result<(), SourcesError> {
        let position = located.position;
        match &located.value {
            Instruction::Arg(args) => {
                for arg in args {
                    let word = arg.default.as_deref().unwrap_or_default();
                    state.scope.declare(arg).map_err(at(position, word))?;
                }
            }
            Instruction::Env(pairs) => {
                state
                    .scope
                    .set_env(pairs)
                    .map_err(at(position, &located.source))?;
            }
            Instruction::Workdir(path) => {
                let path = state.scope.expand(path).map_err(at(position, path))?;
                state.workdir = absolute(&state.workdir, &path);
                if self.in_pod_context(&state.workdir) {
                    let keyword = "WORKDIR";
                    self.whole(Reason::NamesContext {
                        line: position.line,
                        keyword,
                    });
                }
            }
            Instruction::Copy(copy) => {
                if copy.from.is_some() {
                    self.copied_from_stage(state, &copy.sources, position);
                } else {
                    let shape = Shape {
                        parents: copy.parents,
                        exclude: &copy.exclude,
                    };
                    self.paths(state, &copy.sources, shape, position)?;
                }
            }
            Instruction::Add(add) => {
                let local: Vec<Source> = add
                    .sources
                    .iter()
                    .filter(|source| !is_remote(source))
                    .cloned()
                    .collect();
                let shape = Shape {
                    parents: false,
                    exclude: &add.exclude,
                };
                self.paths(state, &local, shape, position)?;
            }
            Instruction::Run(run) => self.run(state, run, position)?,
            _ => {}
        }
        Ok(())
    }

    /// `COPY --from=stage` of the context's own folder reads the context, not the stage.
    fn copied_from_stage(&mut self, state: &End<'_>, sources: &[Source], position: Position) {
        for source in sources {
            if let Source::Path(path) = source
                && let Ok(path) = state.scope.expand(path)
                && self.in_pod_context(&absolute("/", &path))
            {
                self.whole(Reason::NamesContext {
                    line: position.line,
                    keyword: "COPY",
                });
            }
        }
    }

    fn paths(
        &mut self,
        state: &End<'_>,
        sources: &[Source],
        shape: Shape<'_>,
        position: Position,
    ) -> Result<(), SourcesError> {
        let mut excluded = Vec::new();
        for pattern in shape.exclude {
            excluded.extend(self.word(state, pattern, position)?);
        }
        let exclude =
            Patterns::from_list(excluded.iter().map(String::as_str)).map_err(|source| {
                SourcesError::Pattern {
                    line: position.line,
                    source,
                }
            })?;
        for source in sources {
            let Source::Path(path) = source else { continue };
            let Some(path) = self.word(state, path, position)? else {
                continue;
            };
            let (path, below) = match path.split_once("/./") {
                _ if !shape.parents => (path.as_str(), None),
                Some((base, below)) => (base, Some(relative(below))),
                None => ("", Some(relative(&path))),
            };
            self.wanted.selections.push(Selection {
                line: position.line,
                path: relative(path),
                below,
                exclude: exclude.clone(),
                wildcards: true,
            });
        }
        Ok(())
    }

    /// A word of a `COPY`, or `None` when only the base image can say what it is.
    fn word(
        &mut self,
        state: &End<'_>,
        word: &str,
        position: Position,
    ) -> Result<Option<String>, SourcesError> {
        let expansion = state.scope.expansion(word).map_err(at(position, word))?;
        match expansion.unset.first() {
            Some(name) if !state.complete => {
                let line = position.line;
                self.whole(Reason::UnknownVariable {
                    line,
                    name: name.clone(),
                });
                Ok(None)
            }
            _ => Ok(Some(expansion.text)),
        }
    }

    fn run(&mut self, state: &End<'_>, run: &Run, position: Position) -> Result<(), SourcesError> {
        let line = position.line;
        let text = match run.script() {
            Script::Shell(text) | Script::File { content: text, .. } => text,
            Script::Exec(argv) => argv.join(" "),
        };
        let written = match &run.command {
            ShellOrExec::Shell(text) => text.clone(),
            ShellOrExec::Exec(_) => String::new(),
        };
        if self.mentions_pod_context(&text) || self.mentions_pod_context(&written) {
            self.whole(Reason::NamesContext {
                line,
                keyword: "RUN",
            });
        }
        // A script need not name the variable in the Dockerfile to use it.
        let mut variables = state.scope.run_env().iter();
        let holder = variables.find(|(_, value)| self.mentions_pod_context(value));
        if let Some((name, _)) = holder {
            let name = name.clone();
            self.whole(Reason::VariableNamesContext { line, name });
        }
        for mount in &run.mounts {
            if mount.from.is_some() {
                continue;
            }
            if self.word(state, &mount.text, position)?.is_none() {
                continue;
            }
            let escape = self.dockerfile.directives.escape;
            let mount = mount
                .resolve(&state.scope, escape)
                .map_err(|source| SourcesError::Mount { line, source })?;
            if mount.kind == MountKind::Bind {
                self.wanted.selections.push(Selection {
                    line,
                    path: relative(mount.source.as_deref().unwrap_or_default()),
                    below: None,
                    exclude: Patterns::default(),
                    wildcards: false,
                });
            }
        }
        Ok(())
    }

    fn in_pod_context(&self, path: &str) -> bool {
        !self.pod_context.is_empty()
            && path
                .strip_prefix(self.pod_context)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the path stands in the text as a whole: `/kaniko/buildcontext2` does not count.
    fn mentions_pod_context(&self, text: &str) -> bool {
        !self.pod_context.is_empty()
            && text.match_indices(self.pod_context).any(|(at, found)| {
                let after = text[at + found.len()..].chars().next();
                !after.is_some_and(|ch| ch.is_alphanumeric() || matches!(ch, '_' | '-' | '.'))
            })
    }
}

/// How the sources of an instruction are taken.
#[derive(Clone, Copy)]
struct Shape<'i> {
    parents: bool,
    exclude: &'i [String],
}

fn at(position: Position, word: &str) -> impl FnOnce(ExpandError) -> SourcesError + '_ {
    move |source| {
        ScopeError {
            position,
            word: word.to_owned(),
            source,
        }
        .into()
    }
}

/// Whether `ADD` fetches the source: a URL or a git reference
/// (<https://docs.docker.com/reference/dockerfile/#add>).
fn is_remote(source: &Source) -> bool {
    let Source::Path(path) = source else {
        return false;
    };
    let schemes = ["http://", "https://", "git://", "ssh://"];
    let scp_like = path.split_once(':').is_some_and(|(host, _)| {
        host.split_once('@').is_some_and(|(user, host)| {
            let word = |text: &str| {
                !text.is_empty()
                    && text
                        .chars()
                        .all(|ch| ch.is_ascii_alphanumeric() || "-_.".contains(ch))
            };
            word(user) && word(host)
        })
    });
    scp_like || schemes.iter().any(|scheme| path.starts_with(scheme))
}

/// A path below the context: `/a`, `a` and `../a` are all `a`, as BuildKit has it.
fn relative(path: &str) -> String {
    absolute("/", path)[1..].to_owned()
}

/// `path` from `base` on, without `.`, `..` and doubled slashes.
fn absolute(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
