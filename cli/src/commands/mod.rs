//! One file per command. Each gets what was typed and says what it does
//! through events; only results go to standard output.

mod apply;
mod build;
mod config;
mod context;
mod delete;
mod deploy;
mod dev;
mod exec;
mod images;
mod input;
mod kustomize;
mod logs;
mod once;
mod ps;
mod registry;
mod render;
mod result;
mod run;

use std::process::ExitCode;
use std::time::Instant;

use kiln_schemas::event::{Event, Events};

use crate::args::{Command, Global, Kiln, definition};
use crate::env::Environment;
use crate::error::CommandError;
use crate::ui::{self, Style, Target};

/// What every command gets.
pub(crate) struct Call {
    pub env: Environment,
    pub global: Global,
    pub events: Events,
}

/// How a command ends.
pub(crate) type Outcome = Result<(), CommandError>;

/// Runs the command.
pub(crate) fn run(kiln: Kiln, env: Environment) -> ExitCode {
    start_log(&kiln.global.verbosity);
    let style = style(&kiln);
    let call = Call {
        env,
        global: kiln.global,
        events: ui::events(style),
    };
    let started = Instant::now();
    let outcome = match kiln.command {
        Command::Completion { shell } => return completion(shell),
        Command::Version => return version(),
        Command::Config(args) => config::run(&call, args),
        command => on_runtime(&call, command),
    };
    let code = match &outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.show(&call.events);
            error.exit_code()
        }
    };
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    call.events.emit(Event::Finished {
        ok: outcome.is_ok(),
        ms,
    });
    code
}

fn on_runtime(call: &Call, command: Command) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::from_error(crate::error::Kind::General, &error))?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Dev(args) => dev::run(call, args).await,
            Command::Run(args) => run::run(call, args).await,
            Command::Build(args) => build::run(call, args).await,
            Command::Deploy(args) => deploy::run(call, args).await,
            Command::Render(args) => render::run(call, args).await,
            Command::Apply(args) => apply::run(call, args).await,
            Command::Delete(args) => delete::run(call, args).await,
            Command::Ps(args) => ps::run(call, args).await,
            Command::Logs(args) => logs::run(call, args).await,
            Command::Exec(args) => exec::run(call, args).await,
            Command::Context(args) => context::run(call, args).await,
            Command::Kustomize(args) => kustomize::run(call, args).await,
            Command::Registry(args) => registry::run(call, args).await,
            Command::Config(_) | Command::Completion { .. } | Command::Version => Ok(()),
        }
    });
    // Blocking reads of a terminal or a pipe must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// Commands whose standard output is a result keep it free of events.
fn style(kiln: &Kiln) -> Style {
    let (target, quiet) = match &kiln.command {
        Command::Build(build) if build.quiet => (Target::Stderr, true),
        Command::Render(_)
        | Command::Config(_)
        | Command::Context(_)
        | Command::Kustomize(_)
        | Command::Ps(_)
        | Command::Logs(_)
        | Command::Exec(_) => (Target::Stderr, true),
        _ => (Target::Stdout, false),
    };
    Style {
        output: kiln.global.output,
        target,
        quiet,
    }
}

fn start_log(level: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Set already only when the library is run twice in one process.
    drop(subscriber.try_init());
}

fn completion(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut definition(), "kiln", &mut std::io::stdout());
    ExitCode::SUCCESS
}

fn version() -> ExitCode {
    result::print(&format!("kiln {}", env!("CARGO_PKG_VERSION")));
    ExitCode::SUCCESS
}
