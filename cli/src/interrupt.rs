//! Ctrl-C, and what else ends a command: the first time it stops what runs
//! and cleans up, the second time it exits at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Watches for SIGINT, SIGTERM and SIGHUP from now on. The token is cancelled
/// at the first; the second ends the process with code 130.
pub fn watch() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let cancel = token.clone();
    tokio::spawn(async move {
        signals.next().await;
        cancel.cancel();
        signals.next().await;
        // The user wants out now; what is left is swept by the next start.
        #[allow(clippy::exit, reason = "a second Ctrl-C exits at once")]
        std::process::exit(130);
    });
    Ok(token)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
