//! How many lines a log gets: a few at once, then one now and then, and how many were left out.
//!
//! A member that associates and dies over and over makes lines as fast as it can shake hands, each of them
//! worth reading once. Time is an argument.

use std::time::{Duration, Instant};

/// How often it is said how many lines were left out.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// A bucket of lines (as a token bucket's: full at first, and refilled one at a time).
#[derive(Debug)]
pub(crate) struct LogLimit {
    burst: u32,
    refill: Duration,
    lines: u32,
    /// Since when the next line is on its way into the bucket; `None` before the first.
    since: Option<Instant>,
    left_out: u64,
    said: Option<Instant>,
}

impl LogLimit {
    /// `burst` lines at once, and one more every `refill`.
    pub(crate) fn new(burst: u32, refill: Duration) -> Self {
        Self { burst, refill, lines: burst, since: None, left_out: 0, said: None }
    }

    /// Whether one more line may be written; counts those that may not.
    pub(crate) fn line(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let due = now.saturating_duration_since(since).as_nanos() / self.refill.as_nanos().max(1);
        let room = self.burst - self.lines;
        match u32::try_from(due).ok().filter(|&due| due < room) {
            Some(due) => {
                self.lines += due;
                self.since = Some(since + self.refill * due);
            }
            None => (self.lines, self.since) = (self.burst, Some(now)),
        }
        let granted = self.lines.checked_sub(1);
        match granted {
            Some(lines) => self.lines = lines,
            None => self.left_out += 1,
        }
        granted.is_some()
    }

    /// How many lines were left out, if it is time to say so.
    pub(crate) fn left_out(&mut self, now: Instant) -> Option<u64> {
        let said = |said: Instant| now.saturating_duration_since(said) < SAID_EVERY;
        if self.left_out == 0 || self.said.is_some_and(said) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_one_at_a_time_and_the_rest_is_counted() {
        let begin = Instant::now();
        let mut limit = LogLimit::new(3, SECOND);
        let mut lines = |at: f64, n: u32| {
            let now = begin + SECOND.mul_f64(at);
            (0..n).filter(|_| limit.line(now)).count()
        };
        assert_eq!(lines(0.0, 10), 3);
        assert_eq!(lines(0.9, 10), 0);
        assert_eq!(lines(2.5, 10), 2);
        // The half second left over counts for the next.
        assert_eq!(lines(3.0, 10), 1);
        assert_eq!(lines(1_000.0, 10), 3, "never more than the burst");
        assert_eq!(limit.left_out(begin + SECOND * 1_000), Some(7 + 10 + 8 + 9 + 7));
        assert_eq!(limit.left_out(begin + SECOND * 1_000), None);
    }

    #[test]
    fn what_is_left_out_is_said_now_and_then() {
        let begin = Instant::now();
        let mut limit = LogLimit::new(1, SECOND * 3600);
        let mut said = 0;
        for ms in 0..60_000 {
            let now = begin + Duration::from_millis(ms);
            let _ = limit.line(now);
            said += u32::from(limit.left_out(now).is_some());
        }
        assert_eq!(said, 6);
    }

    #[test]
    fn a_quiet_log_has_every_line() {
        let begin = Instant::now();
        let mut limit = LogLimit::new(4, SECOND);
        assert!((0..1_000).all(|n| limit.line(begin + SECOND * n)));
        assert_eq!(limit.left_out(begin + SECOND * 1_000), None);
    }
}
