//! The `kiln` command: terminal, commands and the dev loop. It holds what
//! belongs to a person at a screen; how images are built and manifests become
//! workloads is the business of the crates below it.

pub mod args;
pub mod arguments;
mod commands;
pub mod dev;
mod engine;
pub mod env;
pub mod error;
pub mod interrupt;
pub mod kubernetes;
pub mod project;
pub mod reference;
mod terminal;
pub mod ui;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::env::Environment;

/// Runs the command line (program name first) to its exit code.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let env = match Environment::read() {
        Ok(env) => env,
        Err(error) => {
            return complain(&format!("cannot read the environment: {error}"));
        }
    };
    #[cfg(target_os = "linux")]
    if is_executor(&words) {
        return executor(&words, &env);
    }
    // The only time this fails is when a provider is installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match arguments::parse(words, &env) {
        Ok(kiln) => commands::run(kiln, env),
        Err(usage) => {
            // Help and version are "errors" of the parser, with exit code 0.
            drop(usage.print());
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
        }
    }
}

/// Whether the binary runs under the executor's name, as in Kiln's own
/// executor image.
#[cfg(target_os = "linux")]
fn is_executor(words: &[OsString]) -> bool {
    words
        .first()
        .and_then(|name| Path::new(name).file_name())
        .is_some_and(|name| name == "executor")
}

/// The executor, on this process's streams.
#[cfg(target_os = "linux")]
fn executor(words: &[OsString], env: &Environment) -> ExitCode {
    let args = words.get(1..).unwrap_or_default();
    kiln_sandbox::end_when_asked();
    kiln_executor::cli::start_as_root(args);
    let streams = kiln_executor::cli::Streams {
        input: &mut std::io::stdin(),
        output: &mut std::io::stdout(),
        log: &mut std::io::stderr(),
    };
    ExitCode::from(kiln_executor::cli::main_with(args, &env.vars, streams))
}

fn complain(message: &str) -> ExitCode {
    use std::io::Write as _;
    drop(writeln!(anstream::stderr(), "error: {message}"));
    ExitCode::FAILURE
}
