//! The typed form of a Dockerfile. Words are as written: variables are expanded later, by
//! [`crate::scope`], because their values depend on the build.

use crate::healthcheck::Healthcheck;
use crate::lint::Warning;
use crate::mount::MountFlag;
use crate::position::{Located, Position};

/// A parsed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives at the top of the file.
    pub directives: Directives,
    /// The `ARG`s before the first `FROM`, one entry for each declared name.
    pub meta_args: Vec<Located<ArgDeclaration>>,
    /// The stages in the order of the file; never empty.
    pub stages: Vec<Stage>,
    /// Remarks that only the text can give (casing, empty continuation lines). [`crate::lint`]
    /// adds those that follow from the typed form and applies `# check=skip=`.
    pub warnings: Vec<Warning>,
}

/// The parser directives (`# name=value`) at the top of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    /// `# syntax=`: the frontend that the author asked for, for example `docker/dockerfile:1`.
    pub syntax: Option<Located<String>>,
    /// `# escape=`.
    pub escape: Escape,
    /// `# check=`, as written, for example `skip=JSONArgsRecommended;error=true`.
    pub check: Option<Located<String>>,
}

/// The character that continues lines and escapes others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `\`, the default.
    #[default]
    Backslash,
    /// `` ` ``, for Windows paths.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub const fn char(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }
}

/// `FROM` and the instructions up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// 0-based place in the file.
    pub index: usize,
    /// The name after `AS`, in lower case as BuildKit keeps it.
    pub name: Option<String>,
    /// The image or stage after `FROM`, unexpanded.
    pub base: String,
    /// `--platform`, unexpanded.
    pub platform: Option<String>,
    /// The instructions in order.
    pub instructions: Vec<Located<Instruction>>,
    /// Where `FROM` stands.
    pub position: Position,
    /// The `FROM` line with continuations joined.
    pub source: String,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`
    Add(Add),
    /// `ARG`
    Arg(Vec<ArgDeclaration>),
    /// `CMD`
    Cmd(ShellOrExec),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(ShellOrExec),
    /// `ENV`
    Env(Vec<KeyValue>),
    /// `EXPOSE`: port specifications, unexpanded; see [`crate::port`].
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<KeyValue>),
    /// `MAINTAINER`: the author.
    Maintainer(String),
    /// `ONBUILD`: a trigger that was checked as an instruction of its own.
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`: the argument vector, never empty.
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`: mount points, never empty.
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

impl Instruction {
    /// The keyword in upper case.
    pub const fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// One name of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: String,
    /// The default, unexpanded and with its quotes; `None` for a bare `ARG NAME`.
    pub default: Option<String>,
}

/// One pair of an `ENV` or `LABEL`, unexpanded and with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The part before `=`, never empty.
    pub key: String,
    /// The part after it.
    pub value: String,
}

/// A command line in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellOrExec {
    /// Text for the shell, continuations joined.
    Shell(String),
    /// A JSON array: the argument vector itself.
    Exec(Vec<String>),
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, unquoted. For `COPY` it is also the name of the file.
    pub name: String,
    /// The body, line ends included and leading tabs still there.
    pub content: String,
    /// False when the delimiter was quoted: the body is taken literally.
    pub expand: bool,
    /// `<<-`: leading tabs of each line are dropped.
    pub strip_tabs: bool,
    /// The number before `<<`; 0 when there is none.
    pub file_descriptor: u32,
}

impl Heredoc {
    /// The body as it is used: without leading tabs when `<<-` was written.
    pub fn body(&self) -> String {
        if self.strip_tabs {
            self.content
                .split_inclusive('\n')
                .map(|line| line.trim_start_matches('\t'))
                .collect()
        } else {
            self.content.clone()
        }
    }
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command as written; see [`Run::script`] for what is executed.
    pub command: ShellOrExec,
    /// The here-documents that the command line opens, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`, as written (for example `vendor.com/gpu=all,required`).
    pub devices: Vec<String>,
}

/// What a `RUN` executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// This argument vector.
    Exec(Vec<String>),
    /// This text, as the last argument of the stage's `SHELL`.
    Shell(String),
    /// A single here-document that starts with `#!`: this content, in an executable file of this
    /// name (BuildKit puts it below `/dev/pipes/`), run by the stage's `SHELL`.
    File {
        /// The delimiter.
        name: String,
        /// The script.
        content: String,
    },
}

impl Run {
    /// What is executed, with the here-documents in place.
    ///
    /// A command line that is nothing but one here-document is replaced by the body; any other
    /// is handed to the shell with its here-documents behind it, as a shell would read them.
    pub fn script(&self) -> Script {
        let text = match &self.command {
            ShellOrExec::Exec(argv) => return Script::Exec(argv.clone()),
            ShellOrExec::Shell(text) => text,
        };
        let Some(first) = self.heredocs.first() else {
            return Script::Shell(text.clone());
        };
        if crate::parse::heredoc::is_heredoc_word(text) {
            let content = first.body();
            // Where tabs are taken off, they are before an interpreter as well.
            return if content.starts_with("#!") {
                Script::File {
                    name: first.name.clone(),
                    content,
                }
            } else {
                Script::Shell(content)
            };
        }
        let mut full = text.clone();
        for heredoc in &self.heredocs {
            full.push('\n');
            full.push_str(&heredoc.content);
            full.push_str(&heredoc.name);
        }
        Script::Shell(full)
    }
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// As the build has it.
    #[default]
    Default,
    /// No network.
    None,
    /// The network of the machine.
    Host,
}

/// `RUN --security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// As the build has it.
    #[default]
    Sandbox,
    /// All capabilities.
    Insecure,
}

/// A source of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, pattern, URL or git reference, unexpanded.
    Path(String),
    /// The content of a here-document; its name is the file's name.
    Heredoc(Heredoc),
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// What is copied, in order; never empty.
    pub sources: Vec<Source>,
    /// Where to, unexpanded.
    pub dest: String,
    /// `--from`: a stage, a named context or an image; `None` is the build context.
    pub from: Option<String>,
    /// `--chown`, unexpanded.
    pub chown: Option<String>,
    /// `--chmod`, octal or symbolic, unexpanded.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, in order, unexpanded.
    pub exclude: Vec<String>,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// What is added, in order; never empty.
    pub sources: Vec<Source>,
    /// Where to, unexpanded.
    pub dest: String,
    /// `--chown`, unexpanded.
    pub chown: Option<String>,
    /// `--chmod`, octal or symbolic, unexpanded.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in order, unexpanded.
    pub exclude: Vec<String>,
    /// `--keep-git-dir`, when it was written.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`, unexpanded.
    pub checksum: Option<String>,
    /// `--unpack`, when it was written; without it local archives are unpacked and remote ones
    /// are not.
    pub unpack: Option<bool>,
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger as the image config keeps it: the instruction after `ONBUILD`, with its
    /// here-documents on the lines behind it.
    pub trigger: String,
    /// The trigger as an instruction.
    pub instruction: Box<Instruction>,
}
