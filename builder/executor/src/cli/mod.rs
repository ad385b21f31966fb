//! The command line: kaniko's flag names and sub-commands, and those that Kiln's own pods use.
//!
//! `kiln` acts as the executor when it is called by that name, so this is a library function: it
//! gets its arguments, environment and streams from `main` and returns an exit code.

mod args;
mod error;
mod flags;
mod log;
mod login;
mod lookup;
mod push;
mod receive;
mod report;
mod reuse;
mod settings;
pub mod warm;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};

use kiln_registry::Compression;
use kiln_sandbox::{Cancel, users};
use kiln_store::Store;

use crate::build::BuildError;
use crate::plan;
use crate::progress::Progress;
use crate::remote::{BaseImage, Remote};
use crate::unpacked::{self, Unpacked};
use args::{ArgError, Args};
use error::{CliError, chain};
use log::Log;
use reuse::Found;

/// The variables of the process, as `main` found them.
pub type Env = BTreeMap<String, String>;

/// The standard streams of the process.
pub struct Streams<'s> {
    /// The context of `receive`, the password of `login`.
    pub input: &'s mut (dyn Read + Send),
    /// Answers: help, version, a plan.
    pub output: &'s mut dyn Write,
    /// The log.
    pub log: &'s mut dyn Write,
}

/// Runs the executor with these arguments (without the program's name) and returns its exit code.
#[must_use]
pub fn main_with(args: &[OsString], env: &Env, streams: Streams<'_>) -> u8 {
    let Streams { input, output, log } = streams;
    let words = match text(args) {
        Ok(words) => words,
        Err(error) => {
            let _ = writeln!(log, "{}", chain(&error));
            return error.exit_code();
        }
    };
    let asks = |word: &String| word == "--help" || word == "-h";
    let result = match words.first().map(String::as_str) {
        Some("receive" | "receive-wait") if words.iter().any(asks) => Err(ArgError::Help.into()),
        Some("receive") => receive::receive(&words[1..], input, output),
        Some("receive-wait") => receive::wait_command(&words[1..]),
        Some("lookup") => lookup::lookup(&words[1..], env, output),
        Some("version") => {
            writeln!(output, "{}", env!("CARGO_PKG_VERSION")).map_err(CliError::Output)
        }
        Some("help") => Err(ArgError::Help.into()),
        Some("login") => login::login(&words[1..], env, input, log),
        Some("push") => push::push(&words[1..], env, log),
        _ => build(&words, env, output, log),
    };
    let result = match result {
        Err(CliError::Args(ArgError::Help)) => {
            write!(output, "{}", flags::help()).map_err(CliError::Output)
        }
        result => result,
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            // When even the log is gone, the exit code is what is left.
            let _ = writeln!(log, "{}", chain(&error));
            error.exit_code()
        }
    }
}

/// Becomes root of a user namespace where an ordinary user is going to build: first in `main`,
/// after `kiln_sandbox::init()`. Where that is not possible, the build goes on without, and says
/// why as soon as a command is to be run.
pub fn start_as_root(args: &[OsString]) {
    if users::is_ordinary() && users::refusal().is_none() && may_run_commands(args) {
        drop(users::start_anew());
    }
}

/// Whether this is a build whose commands want a namespace.
fn may_run_commands(args: &[OsString]) -> bool {
    let Ok(words) = text(args) else { return false };
    let is_build = words.first().is_none_or(|word| word.starts_with('-'));
    let Ok(args) = Args::parse(&words, &flags::FLAGS) else {
        return false;
    };
    let isolation = args.one("isolation").unwrap_or_default();
    is_build && matches!(isolation, "" | "auto" | "rootless" | "userns")
}

/// Arguments as text.
fn text(args: &[OsString]) -> Result<Vec<String>, CliError> {
    let word = |word: &OsString| {
        let unreadable = || CliError::NotText(word.display().to_string());
        word.to_str().map(str::to_owned).ok_or_else(unreadable)
    };
    args.iter().map(word).collect()
}

fn refused(destination: &kiln_registry::Reference, source: kiln_registry::Error) -> CliError {
    let is_access = source.is_access();
    let (destination, source) = (destination.to_string(), Box::new(source));
    if is_access {
        CliError::MayNotPush {
            destination,
            source,
        }
    } else {
        CliError::CannotPush {
            destination,
            source,
        }
    }
}

fn build(
    words: &[String],
    env: &Env,
    output: &mut dyn Write,
    log: &mut dyn Write,
) -> Result<(), CliError> {
    let args = Args::parse(words, &flags::FLAGS)?;
    let style = log::Style::from_args(&args)?;
    let mut log = Log::new(log, style);
    if args.is_on("await-context") {
        // Without it the log is where it always is.
        if let Ok(file) = std::fs::File::create(receive::log(&settings::context_dir(&args)?)) {
            log.copy_to(file);
        }
    }
    let notes = flags::notes(&args, env)?;
    for note in notes.idle {
        log.debug(note);
    }
    match reuse::find(&args, env)? {
        Found::Image(digest) => {
            let output = settings::output(&args, env)?;
            report::images(env, &output, &digest)?;
            let addresses = settings::digest_addresses(&args)?;
            if !addresses.is_empty() {
                let remote =
                    Remote::new(settings::client(&args, env)?).map_err(CliError::Runtime)?;
                report::digests(&addresses, &output, &digest, &remote)?;
            }
            log.reused(&digest.to_string());
            return Ok(());
        }
        Found::Nothing(None) => {}
        Found::Nothing(Some(why)) => log.progress(&Progress::Note(format!(
            "the registry was not asked for the image: {why}"
        ))),
    }
    if args.is_on("await-context") {
        let start = std::time::Instant::now();
        settings::await_context(&args)?;
        let phase = crate::progress::Phase::Context;
        log.progress(&Progress::Phase {
            phase,
            took: start.elapsed(),
        });
    }
    let store_dir = settings::store_dir(&args, env);
    let store = Store::open(&store_dir)?;
    let digest_addresses = settings::digest_addresses(&args)?;
    let remote = Remote::new(settings::client(&args, env)?).map_err(CliError::Runtime)?;
    let settings = settings::resolve(&args, env, &store, &remote)?;
    for note in &settings.notes {
        log.progress(&Progress::Note(note.clone()));
    }
    let request = &settings.request;
    let in_file = |error| match error {
        BuildError::Destination {
            destination,
            source,
        } => refused(&destination, *source),
        error => CliError::Build {
            dockerfile: settings.dockerfile.clone(),
            error: Box::new(error),
        },
    };
    if args.is_on("dryrun") {
        let mut report = |event| log.progress(&event);
        let (plan, keys) =
            crate::build::plan_only(request, &store, &remote, &mut report).map_err(in_file)?;
        let text = plan::render_keyed(&plan, &keys);
        return write!(output, "{text}").map_err(CliError::Output);
    }
    let digest = crate::build::build(request, &store, &remote, &mut |event| log.progress(&event))
        .map_err(in_file)?;
    report::images(env, &request.output, &digest)?;
    report::digests(&digest_addresses, &request.output, &digest, &remote)?;
    log.finish(&digest.to_string());
    Ok(())
}

/// Builds an image as these flags say and leaves it in the store of `--store-dir`, unpacked.
/// Images in `known` are taken for those of their names; `cancel` ends the build.
///
/// # Errors
/// What [`main_with`] would have said, with its causes.
pub fn build_unpacked(
    words: &[String],
    env: &Env,
    known: Vec<BaseImage>,
    report: &mut dyn FnMut(Progress),
    cancel: &Cancel,
) -> Result<Unpacked, UnpackedError> {
    let other = |error: CliError| UnpackedError::Failed(error.into());
    let args = Args::parse(words, &flags::FLAGS).map_err(|error| other(error.into()))?;
    let store_dir = settings::store_dir(&args, env);
    let store = Store::open(&store_dir).map_err(|error| other(error.into()))?;
    let client = settings::client(&args, env).map_err(other)?;
    let remote = Remote::new(client).map_err(CliError::Runtime);
    let remote = remote.map_err(other)?.knowing(known);
    let mut settings = settings::resolve(&args, env, &store, &remote).map_err(other)?;
    // Nobody downloads it.
    settings.request.output.compression = Compression::None;
    for note in settings.notes.drain(..) {
        report(Progress::Note(note));
    }
    let built = unpacked::build_unpacked(&settings.request, &store, &remote, report, cancel);
    built.map_err(|error| {
        if error.is_cancelled() {
            return UnpackedError::Cancelled;
        }
        other(CliError::Build {
            dockerfile: settings.dockerfile.clone(),
            error: Box::new(error),
        })
    })
}

/// Why [`build_unpacked`] has no image.
#[derive(Debug, thiserror::Error)]
pub enum UnpackedError {
    /// Nobody wants it any more.
    #[error("the build was cancelled")]
    Cancelled,
    /// Anything else.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}
