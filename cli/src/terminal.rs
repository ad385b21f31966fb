//! The user's terminal while a command in a container has it: keys go there as they are typed,
//! Ctrl-C included, and the size goes with them.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Whether somebody types what is standard input.
pub fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// The terminal without its own handling of lines and keys; as it was when this is dropped.
#[derive(Debug)]
pub struct Raw(Termios);

impl Raw {
    /// From now on every key is for the command.
    pub fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Tells the terminal's size whenever it changes, and once at the beginning.
#[derive(Debug)]
pub struct Sizes {
    changed: Signal,
    begun: bool,
}

impl Sizes {
    /// Begins to look.
    pub fn watch() -> io::Result<Self> {
        Ok(Self {
            changed: signal(SignalKind::window_change())?,
            begun: false,
        })
    }

    /// The next one; [`None`] when the terminal is gone.
    pub async fn next(&mut self) -> Option<Size> {
        if std::mem::replace(&mut self.begun, true) {
            self.changed.recv().await?;
        }
        let size = tcgetwinsize(io::stdin()).ok()?;
        Some(Size {
            columns: size.ws_col,
            rows: size.ws_row,
        })
    }
}

/// Standard input as bytes, without the buffer that would keep what was typed ahead.
pub fn input() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Standard output, likewise.
pub fn output() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}
