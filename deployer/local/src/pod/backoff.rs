//! How long a crashed container waits before it starts again.

use std::time::Duration;

/// The first pause (kubelet).
const FIRST: Duration = Duration::from_secs(10);
/// The longest (kubelet, `MaxContainerBackOff`).
const LONGEST: Duration = Duration::from_mins(5);
/// A container that ran so long starts afresh (kubelet: twice the longest pause).
const FORGET: Duration = Duration::from_mins(10);

/// Remembers how often a container has ended lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    ends: u32,
}

impl Backoff {
    /// The pause after an end. The first restart is at once, as a single crash is often an
    /// accident; then it doubles.
    pub(super) fn after_end(&mut self, ran: Duration) -> Duration {
        if ran >= FORGET {
            self.ends = 0;
        }
        let pause = match self.ends {
            0 => Duration::ZERO,
            ends => LONGEST.min(FIRST * 2_u32.saturating_pow(ends.min(16) - 1)),
        };
        self.ends = self.ends.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_ten_seconds_to_five_minutes() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..8)
            .map(|_| backoff.after_end(Duration::from_secs(1)).as_secs())
            .collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.after_end(Duration::from_mins(11)), Duration::ZERO);
    }
}
