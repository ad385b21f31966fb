//! One stage: its base, then its instructions one by one.

use std::collections::BTreeMap;

use kiln_dockerfile::instruction::{ArgDeclaration, KeyValue, Run, Script, Security};
use kiln_dockerfile::mount::MountFlag;
use kiln_dockerfile::platform::Platform;
use kiln_dockerfile::scope::{Globals, PROXY_ARGS, Scope};
use kiln_dockerfile::{ExpandError, Instruction, Located, Position};

use super::error::PlanError;
use super::{Base, From, ImageKey, Images, Input, Mount, Op, Stage, Step, history, metadata};
use crate::image::{DEFAULT_PATH, Empty, History, ImageConfig};

/// What a platform may consist of alone; the processor is the machine's then (containerd's
/// platforms).
const OPERATING_SYSTEMS: [&str; 5] = ["linux", "windows", "darwin", "freebsd", "netbsd"];

/// Visits stages from the target downwards and collects them in building order.
pub(super) struct Planner<'a> {
    pub(super) input: Input<'a>,
    pub(super) globals: &'a Globals,
    pub(super) images: &'a Images,
    /// Finished stages; what a stage needs stands before it.
    pub(super) done: Vec<Stage>,
    /// The scopes at their ends: a stage on top of another inherits its arguments.
    scopes: BTreeMap<usize, Scope<'a>>,
    /// Images whose configuration is not known.
    pub(super) missing: Vec<ImageKey>,
    /// Stages that have begun and wait for others.
    pub(super) open: Vec<usize>,
    /// How many stages have to be built one after another until one of these is.
    visited: BTreeMap<usize, usize>,
    /// What the stage that is being planned needs.
    pub(super) needs: Vec<usize>,
}

/// The most stages that may have to be built one after another: what follows a plan goes from
/// stage to stage, and a stack is finite.
const MAX_DEPTH: usize = 1000;

/// What a stage begins with.
pub(super) struct Beginning {
    pub(super) base: Base,
    pub(super) base_name: String,
    /// A context of `--build-context` has the stage's own name and stands for all of it.
    pub(super) is_replaced: bool,
}

/// A stage on the way.
pub(super) struct Draft<'a> {
    pub(super) scope: Scope<'a>,
    config: ImageConfig,
    steps: Vec<Step>,
    pub(super) platform: Platform,
    /// `CMD` was given in this stage, so `ENTRYPOINT` keeps it.
    cmd_is_own: bool,
}

/// The instruction being planned.
#[derive(Clone, Copy)]
pub(super) struct At<'i> {
    pub(super) position: Position,
    pub(super) source: &'i str,
    pub(super) keyword: &'static str,
}

impl At<'_> {
    pub(super) fn step(self, op: Op, history: History) -> Step {
        Step {
            position: self.position,
            source: self.source.to_owned(),
            op,
            history,
        }
    }

    pub(super) fn expand(self, result: Result<String, ExpandError>) -> Result<String, PlanError> {
        result.map_err(|source| self.error(source))
    }

    fn error(self, source: ExpandError) -> PlanError {
        PlanError::Expand {
            position: self.position,
            keyword: self.keyword,
            source,
        }
    }

    pub(super) fn unsupported(self, what: impl Into<String>, instead: &'static str) -> PlanError {
        PlanError::Unsupported {
            position: self.position,
            what: what.into(),
            instead,
        }
    }
}

impl<'a> Planner<'a> {
    pub(super) fn new(input: Input<'a>, globals: &'a Globals, images: &'a Images) -> Self {
        Self {
            input,
            globals,
            images,
            done: Vec::new(),
            scopes: BTreeMap::new(),
            missing: Vec::new(),
            open: Vec::new(),
            visited: BTreeMap::new(),
            needs: Vec::new(),
        }
    }

    /// Plans a stage and all that it needs. Those of which an image is missing are left out.
    pub(super) fn visit(&mut self, target: usize) -> Result<(), PlanError> {
        let mut todo = vec![target];
        while let Some(index) = todo.last().copied() {
            if self.visited.contains_key(&index) {
                todo.pop();
                continue;
            }
            if self.open.last() != Some(&index) {
                self.open.push(index);
                self.check_depth(self.open.len(), index)?;
            }
            self.needs.clear();
            let planned = self.stage(index);
            let visited = &self.visited;
            let before = todo.len();
            let unvisited = self.needs.iter().rev();
            todo.extend(unvisited.filter(|need| !visited.contains_key(need)));
            if todo.len() > before {
                continue; // once more when they are there; an error of theirs comes first
            }
            self.done.extend(planned?);
            self.visited.insert(index, self.depth(index)?);
            self.open.pop();
            todo.pop();
        }
        Ok(())
    }

    /// See [`Self::visited`].
    fn depth(&self, index: usize) -> Result<usize, PlanError> {
        let below = self.needs.iter().filter_map(|need| self.visited.get(need));
        let depth = 1 + below.max().copied().unwrap_or_default();
        self.check_depth(depth, index)?;
        Ok(depth)
    }

    fn check_depth(&self, depth: usize, index: usize) -> Result<(), PlanError> {
        if depth > MAX_DEPTH {
            return Err(PlanError::TooDeep {
                position: self.input.dockerfile.stages[index].position,
                most: MAX_DEPTH,
            });
        }
        Ok(())
    }

    /// Plans one stage. `None` while an image is missing, or the stage that it is based on.
    fn stage(&mut self, index: usize) -> Result<Option<Stage>, PlanError> {
        let stage = &self.input.dockerfile.stages[index];
        let name = stage.name.clone().unwrap_or_else(|| index.to_string());
        let platform = self.platform(index)?;
        let Beginning {
            base,
            base_name,
            is_replaced,
        } = self.base(index, &platform)?;
        let config = match &base {
            Base::Scratch => {
                // Nothing is there that could be of another platform than what is asked for.
                let platform = &self.input.build.target;
                let variant = Some(platform.variant.as_str()).filter(|variant| !variant.is_empty());
                Some(ImageConfig::scratch(&platform.os, &platform.arch, variant))
            }
            Base::Image(key) => self.image(key),
            Base::Stage(other) => {
                self.needs.push(*other);
                let done = self.done.iter().rfind(|stage| stage.index == *other);
                done.map(|stage| stage.config.clone())
            }
        };
        let Some(mut config) = config else {
            return Ok(None);
        };
        let triggers = std::mem::take(&mut config.config.on_build);
        default_path(&mut config);
        let inherited = match &base {
            Base::Stage(other) => self.scopes.get(other).map(Scope::child),
            _ => None,
        };
        let scope = inherited.unwrap_or_else(|| {
            self.globals
                .stage(config.config.env_pairs().collect::<Vec<_>>())
        });
        let mut draft = Draft {
            scope,
            config,
            steps: Vec::new(),
            platform: platform.clone(),
            cmd_is_own: false,
        };
        let instructions = if is_replaced {
            draft.config.config.on_build = triggers;
            &[][..]
        } else {
            self.triggers(&triggers, &base_name, stage.position, &mut draft)?;
            &stage.instructions
        };
        for Located {
            value,
            position,
            source,
            ..
        } in instructions
        {
            let at = At {
                position: *position,
                source,
                keyword: value.keyword(),
            };
            self.instruction(value, at, &mut draft)?;
        }
        let Draft {
            scope,
            config,
            steps,
            ..
        } = draft;
        self.scopes.insert(index, scope);
        let position = stage.position;
        Ok(Some(Stage {
            index,
            name,
            base,
            base_name,
            position,
            platform,
            steps,
            config,
        }))
    }

    fn platform(&self, index: usize) -> Result<Platform, PlanError> {
        let stage = &self.input.dockerfile.stages[index];
        let Some(word) = &stage.platform else {
            return Ok(self.input.build.target.clone());
        };
        let at = At {
            position: stage.position,
            source: &stage.source,
            keyword: "FROM",
        };
        let platform = at.expand(self.globals.expand(word))?;
        let whole = match OPERATING_SYSTEMS.contains(&platform.as_str()) {
            true => format!("{platform}/{}", self.input.build.build.arch),
            false => platform.clone(),
        };
        Platform::parse(&whole).map_err(|_| PlanError::Platform {
            position: stage.position,
            platform,
        })
    }

    fn triggers(
        &mut self,
        triggers: &[String],
        image: &str,
        position: Position,
        draft: &mut Draft<'_>,
    ) -> Result<(), PlanError> {
        for trigger in triggers {
            let instruction = kiln_dockerfile::parse_onbuild(trigger).map_err(|source| {
                let (image, trigger) = (image.to_owned(), trigger.clone());
                PlanError::Onbuild {
                    position,
                    image,
                    trigger,
                    source: Box::new(source),
                }
            })?;
            let source = format!("ONBUILD {}", instruction.source);
            let at = At {
                position,
                source: &source,
                keyword: instruction.value.keyword(),
            };
            self.instruction(&instruction.value, at, draft)?;
        }
        Ok(())
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        at: At<'_>,
        draft: &mut Draft<'_>,
    ) -> Result<(), PlanError> {
        match instruction {
            Instruction::Run(run) => {
                let step = self.run(run, at, draft)?;
                draft.steps.push(step);
            }
            Instruction::Copy(copy) => {
                let step = self.copy(copy, at, draft)?;
                draft.steps.push(step);
            }
            Instruction::Add(add) => {
                let step = self.add(add, at, draft)?;
                draft.steps.push(step);
            }
            Instruction::Workdir(path) => draft.workdir(path, at)?,
            // Not in the history: it says nothing about this image.
            Instruction::Onbuild(onbuild) => {
                draft.config.config.on_build.push(onbuild.trigger.clone());
            }
            other => {
                let created_by = draft.metadata(other, at)?;
                draft.push(at, Op::Config, history::config(created_by));
            }
        }
        Ok(())
    }

    fn run(&mut self, run: &Run, at: At<'_>, draft: &Draft<'_>) -> Result<Step, PlanError> {
        if run.security == Security::Insecure {
            return Err(at.unsupported("RUN --security=insecure", "a build never gets privileges"));
        }
        if let Some(device) = run.devices.first() {
            let what = format!("RUN --device={device}");
            return Err(at.unsupported(what, "a build pod has no devices to give"));
        }
        let mounts = run
            .mounts
            .iter()
            .map(|flag| self.mount(flag, at, draft))
            .collect::<Result<_, _>>()?;
        let runtime = &draft.config.config;
        let (argv, script) = match run.script() {
            Script::Exec(argv) => (argv, None),
            Script::Shell(text) => (metadata::shell(runtime, &text), None),
            Script::File { name, content } => (
                metadata::shell(runtime, &format!("/dev/pipes/{name}")),
                Some((name, content)),
            ),
        };
        // Given in either case, a proxy is there in both (BuildKit).
        let mut proxies = Vec::new();
        for [upper, lower] in PROXY_ARGS {
            let given = |name| self.input.build_args.get(name);
            if let Some(value) = given(upper).or_else(|| given(lower)) {
                proxies.extend([upper, lower].map(|name| (name.to_owned(), value.clone())));
            }
        }
        let created_by = history::run(&argv, &draft.scope);
        let run = super::Run {
            argv,
            script,
            env: draft.scope.run_env().to_vec(),
            proxies,
            cwd: draft.cwd(),
            user: runtime.user.clone(),
            mounts,
            network: run.network,
        };
        Ok(at.step(Op::Run(Box::new(run)), history::layer(created_by)))
    }

    fn mount(
        &mut self,
        flag: &MountFlag,
        at: At<'_>,
        draft: &Draft<'_>,
    ) -> Result<Mount, PlanError> {
        let wrong = |source| PlanError::Mount {
            position: flag.position,
            text: flag.text.clone(),
            source,
        };
        let escape = self.input.dockerfile.directives.escape;
        let mount = flag.resolve(&draft.scope, escape).map_err(wrong)?;
        let cwd = draft.cwd();
        let target = mount.target_path(&cwd).map_err(wrong)?;
        let identity = mount.identity();
        let from = match &mount.from {
            Some(from) => self.from(from, at, &draft.platform)?,
            None => From::Context,
        };
        Ok(Mount {
            options: mount,
            target,
            identity,
            from,
        })
    }
}

impl Draft<'_> {
    fn push(&mut self, at: At<'_>, op: Op, history: History) {
        self.steps.push(at.step(op, history));
    }

    /// The working directory; an image without one starts in `/`.
    fn cwd(&self) -> String {
        metadata::absolute(&self.config.config.working_dir, "/")
            .trim_end_matches('/')
            .to_owned()
            + if self.config.config.working_dir.trim_matches('/').is_empty() {
                "/"
            } else {
                ""
            }
    }

    pub(super) fn path(&self, word: &str, at: At<'_>) -> Result<String, PlanError> {
        Ok(metadata::absolute(
            &at.expand(self.scope.expand(word))?,
            &self.cwd(),
        ))
    }

    /// The value of a flag; one that is empty counts as none (BuildKit).
    pub(super) fn optional(
        &self,
        word: Option<&String>,
        at: At<'_>,
    ) -> Result<Option<String>, PlanError> {
        let word = word.map(|word| at.expand(self.scope.expand(word)));
        Ok(word.transpose()?.filter(|value| !value.is_empty()))
    }

    pub(super) fn expand_all(
        &self,
        words: &[String],
        at: At<'_>,
    ) -> Result<Vec<String>, PlanError> {
        words
            .iter()
            .map(|word| at.expand(self.scope.expand(word)))
            .collect()
    }

    fn workdir(&mut self, word: &str, at: At<'_>) -> Result<(), PlanError> {
        let word = at.expand(self.scope.expand(word))?;
        // BuildKit cleans a relative path and leaves an absolute one as it is.
        let path = if word.starts_with('/') {
            word
        } else {
            let path = metadata::absolute(&word, &self.cwd());
            match path.trim_end_matches('/') {
                "" => "/".to_owned(),
                path => path.to_owned(),
            }
        };
        self.config.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            self.push(at, Op::Config, history::config(created_by));
        } else {
            let owner = self.config.config.user.clone();
            let op = Op::Workdir { path, owner };
            self.push(at, op, history::layer(created_by));
        }
        Ok(())
    }

    /// Applies an instruction that changes only the configuration; gives its history text.
    fn metadata(&mut self, instruction: &Instruction, at: At<'_>) -> Result<String, PlanError> {
        match instruction {
            Instruction::Arg(args) => self.arg(args, at),
            Instruction::Env(pairs) => self.env(pairs, at),
            Instruction::Label(pairs) => self.label(pairs, at),
            Instruction::Expose(words) => self.expose(words, at),
            Instruction::Volume(words) => {
                let paths = self.expand_all(words, at)?;
                if paths.iter().any(String::is_empty) {
                    return Err(PlanError::Invalid {
                        position: at.position,
                        what: "VOLUME names no directory: the word is empty".to_owned(),
                    });
                }
                let text = format!("VOLUME [{}]", paths.join(" "));
                self.config
                    .config
                    .volumes
                    .extend(paths.into_iter().map(|path| (path, Empty {})));
                Ok(text)
            }
            Instruction::User(word) => {
                let user = at.expand(self.scope.expand(word))?;
                let text = format!("USER {user}");
                self.config.config.user = user;
                Ok(text)
            }
            Instruction::StopSignal(word) => {
                let signal = at.expand(self.scope.expand(word))?;
                if !metadata::is_signal(&signal) {
                    return Err(PlanError::Invalid {
                        position: at.position,
                        what: format!(
                            "STOPSIGNAL {signal}: {signal} is no signal: write a name such as SIGTERM or a number"
                        ),
                    });
                }
                let text = format!("STOPSIGNAL {signal}");
                self.config.config.stop_signal = Some(signal);
                Ok(text)
            }
            Instruction::Maintainer(author) => {
                self.config.author = Some(author.clone());
                Ok(format!("MAINTAINER {author}"))
            }
            other => Ok(self.command(other)),
        }
    }

    /// Instructions whose words are not expanded.
    fn command(&mut self, instruction: &Instruction) -> String {
        let runtime = &mut self.config.config;
        match instruction {
            Instruction::Cmd(command) => {
                let argv = metadata::argv(command, runtime);
                let text = format!("CMD {}", history::quoted(&argv));
                runtime.cmd = Some(argv);
                runtime.args_escaped = Some(true);
                self.cmd_is_own = true;
                text
            }
            Instruction::Entrypoint(command) => {
                let argv = metadata::argv(command, runtime);
                let text = format!("ENTRYPOINT {}", history::quoted(&argv));
                runtime.entrypoint = Some(argv);
                if !self.cmd_is_own {
                    runtime.cmd = None; // the base's arguments are for the base's entry point
                }
                text
            }
            Instruction::Shell(argv) => {
                runtime.shell = Some(argv.clone());
                format!("SHELL [{}]", argv.join(" "))
            }
            Instruction::Healthcheck(check) => {
                let health = metadata::healthcheck(check);
                let text = history::healthcheck(&health);
                runtime.healthcheck = Some(health);
                text
            }
            other => other.keyword().to_owned(),
        }
    }

    fn arg(&mut self, args: &[ArgDeclaration], at: At<'_>) -> Result<String, PlanError> {
        for arg in args {
            self.scope.declare(arg).map_err(|error| at.error(error))?;
        }
        let declared = self.scope.declared_args();
        let words: Vec<String> = args
            .iter()
            .map(
                |arg| match declared.iter().find(|(name, _)| *name == arg.name) {
                    Some((name, Some(value))) => format!("{name}={value}"),
                    _ => arg.name.clone(),
                },
            )
            .collect();
        Ok(format!("ARG {}", words.join(" ")))
    }

    fn env(&mut self, pairs: &[KeyValue], at: At<'_>) -> Result<String, PlanError> {
        let words = self.pairs(pairs, at)?;
        self.scope.set_env(pairs).map_err(|error| at.error(error))?;
        let env = self.scope.image_env();
        self.config.config.env = env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let words: Vec<String> = words
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Ok(format!("ENV {}", words.join(" ")))
    }

    fn label(&mut self, pairs: &[KeyValue], at: At<'_>) -> Result<String, PlanError> {
        let pairs = self.pairs(pairs, at)?;
        let words: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        self.config.config.labels.extend(pairs);
        Ok(format!("LABEL {}", words.join(" ")))
    }

    fn expose(&mut self, words: &[String], at: At<'_>) -> Result<String, PlanError> {
        let mut specs = Vec::new();
        // The words stand in the order of how they are written (BuildKit).
        let mut words: Vec<&String> = words.iter().collect();
        words.sort();
        for word in words {
            let expansion = self.scope.expansion(word);
            specs.extend(expansion.map_err(|error| at.error(error))?.words);
        }
        let mut ports = Vec::new();
        for spec in &specs {
            let range = kiln_dockerfile::port::parse(spec).map_err(|error| PlanError::Invalid {
                position: at.position,
                what: format!("EXPOSE {spec}: {error}"),
            })?;
            ports.extend(range.iter().map(ToString::to_string));
        }
        let text = format!("EXPOSE [{}]", ports.join(" "));
        self.config
            .config
            .exposed_ports
            .extend(ports.into_iter().map(|port| (port, Empty {})));
        Ok(text)
    }

    fn pairs(&self, pairs: &[KeyValue], at: At<'_>) -> Result<Vec<(String, String)>, PlanError> {
        pairs
            .iter()
            .map(|pair| {
                Ok((
                    at.expand(self.scope.expand(&pair.key))?,
                    at.expand(self.scope.expand(&pair.value))?,
                ))
            })
            .collect()
    }
}

/// An image without a search path gets the usual one.
fn default_path(config: &mut ImageConfig) {
    let env = &mut config.config.env;
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
}
