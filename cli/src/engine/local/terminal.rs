//! A command in a container of this machine that has a terminal of its own.
//!
//! The terminal is made here and given to the command whole: its keys, its line discipline and
//! its signals are the kernel's work, so that Ctrl-C reaches who is in front in the container.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kiln_local::client::Holder;
use kiln_local::protocol::ExecWish;
use kiln_schemas::event::Failure;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::look::failure;
use crate::terminal::{self, Raw, Size, Sizes};

/// For what the command wrote last. Processes that it leaves behind may keep the terminal open
/// for ever; nobody waits for them.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) async fn execute(holder: &Holder, wish: ExecWish) -> Result<i32, Failure> {
    let (ours, theirs) = pair().map_err(failure)?;
    let mut sizes = Sizes::watch().map_err(failure)?;
    resize(&ours, sizes.next().await);
    let raw = Raw::begin().map_err(failure)?;
    let (ended, output) = tokio::sync::oneshot::channel();
    let shown = terminal::output().map_err(failure)?;
    let copy = ours.try_clone().map_err(failure)?;
    let end = move || {
        // Whoever waits for it may have given up.
        let _ = ended.send(());
    };
    pass(copy.into(), shown, end);
    let typed = terminal::input().map_err(failure)?;
    let keys = ours.try_clone().map_err(failure)?;
    pass(typed, keys.into(), || ());
    let result = {
        let run = holder.exec(wish, [theirs.as_fd(); 3]);
        tokio::pin!(run);
        loop {
            tokio::select! {
                result = &mut run => break result,
                size = sizes.next() => resize(&ours, size),
            }
        }
    };
    drop(theirs);
    drop(tokio::time::timeout(LAST_WORDS, output).await);
    drop(raw);
    result.map_err(failure)
}

/// Both sides of a new terminal. Neither becomes this process's own.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    Ok((ours, theirs))
}

fn resize(terminal: &OwnedFd, size: Option<Size>) {
    let Some(Size { columns, rows }) = size else {
        return;
    };
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // The command may just have ended.
    let _ = tcsetwinsize(terminal, size);
}

/// Passes on what is read until an end, on a thread of its own. The kernel's shortcuts between
/// files do not know terminals, so that it is done by hand.
fn pass(mut from: File, mut to: File, ended: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // A terminal whose other side is gone answers with an error, not with an end.
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        ended();
    });
}
