//! `kiln exec`: a command in a container.

use kiln_schemas::event::Event;

use super::{Call, Outcome};
use crate::args::ExecCommand;
use crate::engine::{Choices, Setup, Wish};
use crate::error::{CommandError, Kind};
use crate::terminal;

pub(super) async fn run(call: &Call, args: ExecCommand) -> Outcome {
    let engine =
        Setup::new(call, &args.project).engine(Choices::for_look("exec", &args.project))?;
    if args.tty && !terminal::is_there() {
        call.events.emit(Event::Warning {
            message: "the command gets no terminal, because standard input is none".into(),
            hint: None,
        });
    }
    let wish = Wish {
        terminal: args.tty && terminal::is_there(),
        pod: Some(args.pod),
        container: args.container,
        follow: false,
    };
    let code = engine.execute(&wish, &args.command).await;
    match code {
        Ok(0) => Ok(()),
        // The command has said what there is to say. A code is a byte (wait(2)).
        Ok(code) => Err(CommandError::shown(Kind::Command(
            u8::try_from(code).unwrap_or(1),
        ))),
        Err(failure) => Err(CommandError {
            kind: Kind::Cluster,
            failures: vec![failure],
        }),
    }
}
