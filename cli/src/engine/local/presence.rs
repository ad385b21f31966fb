//! Loops of one project on this machine know of each other: they share what runs, and the last
//! one to end cleans up.

use std::fs::{self, File};
use std::io;

use kiln_schemas::event::Event;
use rustix::fs::{FlockOperation, flock};

use super::super::Engine;
use super::Local;

/// The file below the state directory that every loop holds.
const LOOPS: &str = "loops";

/// A loop that goes on.
#[derive(Debug)]
pub struct Presence(File);

impl Engine {
    /// A loop begins; [`None`] where it runs elsewhere. One that joins another is told so.
    pub fn join(&self) -> Option<Presence> {
        // A folder that cannot be made is an error of the deploy, which has the words for it.
        let (presence, joins) = join(self.local.as_ref()?).ok()?;
        if joins {
            self.say_once(Event::Warning {
                message: "another `kiln dev` of this project runs on this machine: each replaces what the other deploys".into(),
                hint: Some("end one of them; the last one to end cleans up".into()),
            });
        }
        Some(presence)
    }
}

fn join(local: &Local) -> io::Result<(Presence, bool)> {
    let state = local.holder.state();
    fs::create_dir_all(state)?;
    let file = File::create(state.join(LOOPS))?;
    let joins = flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
    flock(&file, FlockOperation::LockShared)?;
    Ok((Presence(file), joins))
}

impl Presence {
    /// Whether no other loop goes on. Of loops that end at the same moment one is told so.
    pub fn ends_as_last(self) -> bool {
        flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}
