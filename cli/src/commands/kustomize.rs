//! `kiln kustomize build`: what `kustomize build` prints, byte for byte. Like
//! there, whatever is wrong with the kustomization is exit code 1.

use std::ffi::OsStr;
use std::path::Path;

use kiln_deployer::render::{
    Build, CommandKustomize, Form, Kustomize as _, KustomizeError, NativeKustomize, Overlay,
};
use kiln_schemas::event::Event;

use super::{Call, Outcome, result};
use crate::args::{KustomizeBuildArgs, KustomizeCommand};
use crate::error::{CommandError, Kind};

/// With the value `on`, kustomize's `--enable-managedby-label`.
const MANAGED_BY: &str = "KUSTOMIZE_ENABLE_MANAGEDBY_LABEL";

pub(super) async fn run(call: &Call, command: KustomizeCommand) -> Outcome {
    let KustomizeCommand::Build(mut args) = command;
    args.enable_managedby_label |= call.env.var(MANAGED_BY) == Some("on");
    let overlay = Overlay {
        path: args.target.clone(),
        build_args: args.flags(),
    };
    if let Some(program) = &args.kustomize_binary {
        return outside(
            call,
            &CommandKustomize::named(program.clone()),
            overlay,
            &args,
        )
        .await;
    }
    let program = CommandKustomize::find(call.env.var("PATH").map(OsStr::new));
    let native = NativeKustomize::new(program.clone());
    let to = args.output_path.as_deref();
    let form = match to {
        Some(path) if path.is_dir() => Form::Separate,
        _ => Form::Together,
    };
    let rendered = native.render(&overlay, form).await;
    match rendered.map_err(|e| refused(&e))? {
        Some(build) => inside(call, &build, to, form),
        None => outside(call, &program, overlay, &args).await,
    }
}

/// What Kiln rendered goes where it was asked for.
fn inside(call: &Call, build: &Build, to: Option<&Path>, form: Form) -> Outcome {
    warn(call, &build.warnings);
    match to {
        None => result::print_exactly(&build.yaml),
        Some(folder) if form == Form::Separate => write_each(folder, &build.documents),
        Some(file) => result::write(file, &build.yaml),
    }
}

fn warn(call: &Call, warnings: &[String]) {
    for message in warnings {
        call.events.emit(Event::Warning {
            message: message.clone(),
            hint: None,
        });
    }
}

fn write_each(folder: &Path, documents: &[(String, String)]) -> Outcome {
    for (name, text) in documents {
        // Names of objects are only text, and may say `../`.
        if name.contains(['/', '\0']) {
            let message = format!("{name:?} is no name for a file in {}", folder.display());
            return Err(CommandError::new(Kind::General, message)
                .hint("write all objects into one file: -o FILE"));
        }
        result::write(&folder.join(name), text)?;
    }
    Ok(())
}

/// The program gets everything as it was typed, and writes files by itself.
async fn outside(
    call: &Call,
    program: &CommandKustomize,
    mut overlay: Overlay,
    args: &KustomizeBuildArgs,
) -> Outcome {
    if let Some(path) = &args.output_path {
        overlay
            .build_args
            .push(format!("--output={}", path.display()));
    }
    let text = program.build(&overlay).await.map_err(|e| refused(&e))?;
    warn(call, &text.warnings);
    result::print_exactly(&text.yaml)
}

fn refused(error: &KustomizeError) -> CommandError {
    CommandError::from_error(Kind::General, error)
}
