//! One stage: its base, then its instructions one by one.

use kiln_dockerfile::instruction::{
    Add, ArgDeclaration, Copy as CopyInstruction, KeyValue, Run, Script, Security, Source,
};
use kiln_dockerfile::mount::{MountFlag, MountKind};
use kiln_dockerfile::platform::Platform;
use kiln_dockerfile::scope::{Globals, PROXY_ARGS, Scope};
use kiln_dockerfile::{ExpandError, Instruction, Located, Position};

use super::error::PlanError;
use super::{Base, Copy, From, ImageKey, Images, Input, Mount, Op, Stage, Step, history, metadata};
use crate::image::{Empty, History, ImageConfig};

/// Visits stages from the target downwards and collects them in building order.
pub(super) struct Planner<'a> {
    input: Input<'a>,
    globals: &'a Globals,
    images: &'a Images,
    /// Finished stages; what a stage needs stands before it.
    pub(super) done: Vec<Stage>,
    /// Images whose configuration is not known.
    pub(super) missing: Vec<ImageKey>,
    open: Vec<usize>,
}

/// A stage on the way.
struct Draft<'a> {
    scope: Scope<'a>,
    config: ImageConfig,
    steps: Vec<Step>,
    platform: Platform,
    /// `CMD` was given in this stage, so `ENTRYPOINT` keeps it.
    cmd_is_own: bool,
}

/// The instruction being planned.
#[derive(Clone, Copy)]
struct At<'i> {
    position: Position,
    source: &'i str,
    keyword: &'static str,
}

impl At<'_> {
    fn step(self, op: Op, history: History) -> Step {
        Step {
            position: self.position,
            source: self.source.to_owned(),
            op,
            history,
        }
    }

    fn expand(self, result: Result<String, ExpandError>) -> Result<String, PlanError> {
        result.map_err(|source| self.error(source))
    }

    fn error(self, source: ExpandError) -> PlanError {
        PlanError::Expand {
            position: self.position,
            keyword: self.keyword,
            source,
        }
    }

    fn unsupported(self, what: impl Into<String>, instead: &'static str) -> PlanError {
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
            missing: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Plans a stage and all that it needs. `None` while an image is missing.
    pub(super) fn visit(&mut self, index: usize) -> Result<Option<ImageConfig>, PlanError> {
        if let Some(stage) = self.done.iter().find(|stage| stage.index == index) {
            return Ok(Some(stage.config.clone()));
        }
        let stage = &self.input.dockerfile.stages[index];
        let name = stage.name.clone().unwrap_or_else(|| index.to_string());
        if self.open.contains(&index) {
            return Err(PlanError::Cycle {
                position: stage.position,
                name,
            });
        }
        self.open.push(index);
        let platform = self.platform(index)?;
        let (base, base_name) = self.base(index, &platform)?;
        let config = match &base {
            Base::Scratch => {
                let variant = Some(platform.variant.as_str()).filter(|variant| !variant.is_empty());
                Some(ImageConfig::scratch(&platform.os, &platform.arch, variant))
            }
            Base::Image(key) => self.image(key),
            Base::Stage(other) => self.visit(*other)?,
        };
        let Some(mut config) = config else {
            self.open.pop();
            return Ok(None);
        };
        let triggers = std::mem::take(&mut config.config.on_build);
        let scope = self
            .globals
            .stage(config.config.env_pairs().collect::<Vec<_>>());
        let mut draft = Draft {
            scope,
            config,
            steps: Vec::new(),
            platform: platform.clone(),
            cmd_is_own: false,
        };
        self.triggers(&triggers, &base_name, stage.position, &mut draft)?;
        for Located {
            value,
            position,
            source,
            ..
        } in &stage.instructions
        {
            let at = At {
                position: *position,
                source,
                keyword: value.keyword(),
            };
            self.instruction(value, at, &mut draft)?;
        }
        self.open.pop();
        let Draft { config, steps, .. } = draft;
        let position = stage.position;
        self.done.push(Stage {
            index,
            name,
            base,
            base_name,
            position,
            platform,
            steps,
            config: config.clone(),
        });
        Ok(Some(config))
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
        Platform::parse(&platform).map_err(|_| PlanError::Platform {
            position: stage.position,
            platform,
        })
    }

    /// An earlier stage of that name, `scratch`, or an image.
    fn base(&self, index: usize, platform: &Platform) -> Result<(Base, String), PlanError> {
        let stages = &self.input.dockerfile.stages;
        let stage = &stages[index];
        let at = At {
            position: stage.position,
            source: &stage.source,
            keyword: "FROM",
        };
        let name = at.expand(self.globals.expand(&stage.base))?;
        if name.is_empty() {
            return Err(PlanError::EmptyBase {
                position: stage.position,
                word: stage.base.clone(),
            });
        }
        let earlier = stages[..index].iter().rposition(|other| {
            other
                .name
                .as_ref()
                .is_some_and(|known| known.eq_ignore_ascii_case(&name))
        });
        let base = match earlier {
            Some(other) => Base::Stage(other),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image(ImageKey {
                name: name.clone(),
                platform: platform.to_string(),
            }),
        };
        Ok((base, name))
    }

    /// The configuration of an image, or a note that it is needed.
    fn image(&mut self, key: &ImageKey) -> Option<ImageConfig> {
        let found = self.images.get(key).cloned();
        if found.is_none() && !self.missing.contains(key) {
            self.missing.push(key.clone());
        }
        found
    }

    /// `--from`: a stage by name, a stage by number, or an image.
    fn from(&mut self, from: &str, at: At<'_>, platform: &Platform) -> Result<From, PlanError> {
        let stages = &self.input.dockerfile.stages;
        let by_name = stages.iter().rposition(|stage| {
            stage
                .name
                .as_ref()
                .is_some_and(|name| name.eq_ignore_ascii_case(from))
        });
        let index = match (by_name, from.parse::<usize>()) {
            (Some(index), _) => Some(index),
            (None, Ok(index)) if index < stages.len() => Some(index),
            (None, Ok(_)) => {
                let (from, stages) = (from.to_owned(), stages.len());
                return Err(PlanError::NoSuchStage {
                    position: at.position,
                    from,
                    stages,
                });
            }
            (None, Err(_)) => None,
        };
        if let Some(index) = index {
            self.visit(index)?;
            return Ok(From::Stage(index));
        }
        let key = ImageKey {
            name: from.to_owned(),
            platform: platform.to_string(),
        };
        self.image(&key);
        Ok(From::Image(key))
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
                let step = Self::add(add, at, draft)?;
                draft.steps.push(step);
            }
            Instruction::Workdir(path) => draft.workdir(path, at)?,
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
        let mut env = draft.scope.run_env().to_vec();
        for name in PROXY_ARGS {
            if let Some(value) = self.input.build_args.get(name)
                && !env.iter().any(|(known, _)| known == name)
            {
                env.push((name.to_owned(), value.clone()));
            }
        }
        let created_by = history::run(&argv, &draft.scope);
        let run = super::Run {
            argv,
            script,
            env,
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
        if mount.kind == MountKind::Ssh {
            let instead = "give the key as a secret (RUN --mount=type=secret)";
            return Err(at.unsupported("RUN --mount=type=ssh", instead));
        }
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

    fn copy(
        &mut self,
        copy: &CopyInstruction,
        at: At<'_>,
        draft: &Draft<'_>,
    ) -> Result<Step, PlanError> {
        let from = match &copy.from {
            Some(from) => self.from(from, at, &draft.platform)?,
            None => From::Context,
        };
        let op = Copy {
            keyword: "COPY",
            from,
            sources: draft.sources(&copy.sources, at)?,
            dest: draft.path(&copy.dest, at)?,
            chown: draft.optional(copy.chown.as_ref(), at)?,
            chmod: draft.optional(copy.chmod.as_ref(), at)?,
            exclude: draft.expand_all(&copy.exclude, at)?,
            parents: copy.parents,
            unpack_local: false,
            unpack_remote: false,
            checksum: None,
        };
        Ok(at.step(Op::Copy(Box::new(op)), history::layer(at.source.to_owned())))
    }

    fn add(add: &Add, at: At<'_>, draft: &Draft<'_>) -> Result<Step, PlanError> {
        let mut sources = draft.sources(&add.sources, at)?;
        for source in &mut sources {
            let super::Source::Path(path) = &*source else {
                continue;
            };
            if is_git(path) {
                let what = format!("ADD {path} (a git repository)");
                return Err(at.unsupported(what, "clone it in a RUN, or put it into the context"));
            }
            if path.starts_with("http://") || path.starts_with("https://") {
                *source = super::Source::Url(path.clone());
            }
        }
        let op = Copy {
            keyword: "ADD",
            from: From::Context,
            sources,
            dest: draft.path(&add.dest, at)?,
            chown: draft.optional(add.chown.as_ref(), at)?,
            chmod: draft.optional(add.chmod.as_ref(), at)?,
            exclude: draft.expand_all(&add.exclude, at)?,
            parents: false,
            unpack_local: add.unpack.unwrap_or(true),
            unpack_remote: add.unpack.unwrap_or(false),
            checksum: draft.optional(add.checksum.as_ref(), at)?,
        };
        Ok(at.step(Op::Copy(Box::new(op)), history::layer(at.source.to_owned())))
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

    fn path(&self, word: &str, at: At<'_>) -> Result<String, PlanError> {
        Ok(metadata::absolute(
            &at.expand(self.scope.expand(word))?,
            &self.cwd(),
        ))
    }

    fn optional(&self, word: Option<&String>, at: At<'_>) -> Result<Option<String>, PlanError> {
        word.map(|word| at.expand(self.scope.expand(word)))
            .transpose()
    }

    fn expand_all(&self, words: &[String], at: At<'_>) -> Result<Vec<String>, PlanError> {
        words
            .iter()
            .map(|word| at.expand(self.scope.expand(word)))
            .collect()
    }

    fn sources(&self, sources: &[Source], at: At<'_>) -> Result<Vec<super::Source>, PlanError> {
        sources
            .iter()
            .map(|source| match source {
                Source::Path(word) => at.expand(self.scope.expand(word)).map(super::Source::Path),
                Source::Heredoc(heredoc) => {
                    let body = heredoc.body();
                    let content = if heredoc.expand {
                        at.expand(self.scope.expand_heredoc(&body))?
                    } else {
                        body
                    };
                    Ok(super::Source::Inline {
                        name: heredoc.name.clone(),
                        content,
                    })
                }
            })
            .collect()
    }

    fn workdir(&mut self, word: &str, at: At<'_>) -> Result<(), PlanError> {
        let path = self.path(word, at)?;
        let path = if path == "/" {
            path
        } else {
            path.trim_end_matches('/').to_owned()
        };
        self.config.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            self.push(at, Op::Config, history::config(created_by));
        } else {
            self.push(at, Op::Workdir(path), history::layer(created_by));
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
                let text = format!("HEALTHCHECK {}", history::quoted(&health.test));
                runtime.healthcheck = Some(health);
                text
            }
            Instruction::Onbuild(onbuild) => {
                runtime.on_build.push(onbuild.trigger.clone());
                format!("ONBUILD {}", onbuild.trigger)
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
                    Some((name, Some(value))) if !PROXY_ARGS.contains(&name.as_str()) => {
                        format!("{name}={value}")
                    }
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
        let mut ports = Vec::new();
        for word in words {
            let expansion = self
                .scope
                .expansion(word)
                .map_err(|error| at.error(error))?;
            for spec in &expansion.words {
                ports.extend(
                    kiln_dockerfile::port::parse(spec)
                        .map_err(|error| PlanError::Invalid {
                            position: at.position,
                            what: format!("EXPOSE {spec}: {error}"),
                        })?
                        .iter()
                        .map(ToString::to_string),
                );
            }
        }
        ports.sort();
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

/// What BuildKit takes for a repository: `git@…`, `git://…`, or a web address whose path ends in
/// `.git` (a fragment and a query may follow).
fn is_git(source: &str) -> bool {
    let path = source.split(['#', '?']).next().unwrap_or_default();
    source.starts_with("git@")
        || source.starts_with("git://")
        || source.starts_with("ssh://")
        || (source.starts_with("http") && source.contains("://") && path.ends_with(".git"))
}
