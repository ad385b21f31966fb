//! Repeated measurements of one thing.

use std::fmt;
use std::time::Duration;

/// Durations of the same thing, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    sorted: Vec<Duration>,
}

impl Sample {
    /// None without a single measurement.
    pub fn new(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        (!durations.is_empty()).then_some(Self { sorted: durations })
    }

    /// The middle one; of an even number, the mean of the two in the middle.
    pub fn median(&self) -> Duration {
        let middle = self.sorted.len() / 2;
        if self.sorted.len() % 2 == 1 {
            self.sorted[middle]
        } else {
            (self.sorted[middle - 1] + self.sorted[middle]) / 2
        }
    }

    /// The shortest.
    pub fn min(&self) -> Duration {
        self.sorted[0]
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.sorted[self.sorted.len() - 1]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }
}

/// `median  min – max`, in units that fit a loop of seconds.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, min, max) = (show(self.median()), show(self.min()), show(self.max()));
        write!(f, "{median:>9}   {min:>9} – {max}")
    }
}

/// Milliseconds below a second, with two digits below ten of them, else
/// seconds with two digits.
pub fn show(duration: Duration) -> String {
    if duration < Duration::from_millis(10) {
        format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
    } else if duration < Duration::from_secs(1) {
        format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ms: &[u64]) -> Sample {
        Sample::new(ms.iter().map(|ms| Duration::from_millis(*ms)).collect()).unwrap()
    }

    #[test]
    fn the_median_ignores_one_slow_run() {
        assert_eq!(
            sample(&[300, 100, 9000, 200, 250]).median(),
            Duration::from_millis(250)
        );
        assert_eq!(sample(&[100, 200]).median(), Duration::from_millis(150));
    }

    #[test]
    fn a_sample_shows_its_spread() {
        assert_eq!(
            sample(&[1500, 40, 999]).to_string(),
            "   999 ms       40 ms – 1.50 s"
        );
        assert_eq!(Sample::new(Vec::new()), None);
    }
}
