//! A path of which one way is cut: the peer is heard, and does not hear this node. QUIC's idle timeout
//! is of no use against it before the peer, which hears nothing, has fallen silent as well.

use std::time::{Duration, Instant};

use crate::link::Echo;

#[derive(Debug, Default)]
pub(super) struct OneWay {
    /// At the last answer, or when the peer was last heard with nothing to answer.
    last: Echo,
    /// Since when the peer is heard without answering.
    since: Option<Instant>,
}

impl OneWay {
    /// For how long the peer has been heard without answering anything.
    pub(super) fn note(&mut self, now: Instant, echo: Echo) -> Duration {
        let nothing_asked = self.since.is_none() && echo.asked == self.last.asked;
        if echo.answered != self.last.answered || nothing_asked {
            *self = Self { last: echo, since: None };
        } else if echo.heard > self.last.heard {
            self.since.get_or_insert(now);
        }
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_ends_it_and_silence_does_not_begin_it() {
        let begin = Instant::now();
        let mut way = OneWay::default();
        let mut note = |second: u32, asked, answered, heard| {
            way.note(begin + SECOND * second, Echo { asked, answered, heard })
        };
        assert_eq!(note(0, 5, 5, 5), Duration::ZERO);
        // Nothing asked.
        assert_eq!(note(3, 5, 5, 9), Duration::ZERO);
        // Asked, and nothing heard at all: for the idle timeout.
        assert_eq!(note(4, 6, 5, 9), Duration::ZERO);
        assert_eq!(note(9, 7, 5, 9), Duration::ZERO);
        // Heard, but not answered.
        assert_eq!(note(10, 8, 5, 10), Duration::ZERO);
        assert_eq!(note(12, 8, 5, 10), SECOND * 2);
        assert_eq!(note(15, 9, 5, 12), SECOND * 5);
        assert_eq!(note(16, 9, 6, 13), Duration::ZERO);
        assert_eq!(note(17, 9, 6, 14), Duration::ZERO);
    }
}
