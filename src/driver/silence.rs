//! A peer whose connection stands and that takes no notice of tells: it reads nothing, or acknowledges nothing.
//! One whose sink only blocks gives signs of life.

use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The peer's control messages over the present link.
    signs: u64,
    /// Since when tells wait on it without another.
    since: Option<Instant>,
    /// Since when they do, if links were given up for it and no sign came since.
    in_vain: Option<Instant>,
}

impl Silence {
    /// Another link, whose control messages are counted from nothing.
    pub(super) fn next_link(&mut self) {
        (self.signs, self.since) = (0, None);
    }

    /// For how long tells have waited on the present link without a sign. `waiting`: some are neither
    /// acknowledged nor lost. `signs`: control messages over this link so far.
    pub(super) fn note(&mut self, now: Instant, waiting: bool, signs: u64) -> Duration {
        if signs != self.signs {
            *self = Self { signs, since: None, in_vain: None };
        }
        if !waiting {
            self.since = None;
            return Duration::ZERO;
        }
        now.saturating_duration_since(*self.since.get_or_insert(now))
    }

    /// The present link is given up for it.
    pub(super) fn give_up(&mut self) {
        self.in_vain = self.in_vain.or(self.since);
    }

    /// Since when tells wait in vain, over all links that were given up in a row.
    pub(super) fn in_vain(&self) -> Option<Instant> {
        self.in_vain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_lasts_while_tells_wait_and_no_sign_comes() {
        let begin = Instant::now();
        let mut silence = Silence::default();
        let mut note =
            |second: u32, waiting, signs| silence.note(begin + SECOND * second, waiting, signs);
        assert_eq!(note(0, false, 0), Duration::ZERO);
        assert_eq!(note(100, true, 0), Duration::ZERO, "they wait from now on");
        assert_eq!(note(129, true, 0), SECOND * 29);
        assert_eq!(note(130, true, 1), Duration::ZERO, "a sign");
        assert_eq!(note(150, true, 1), SECOND * 20);
        assert_eq!(note(151, false, 1), Duration::ZERO, "none waits any more");
        assert_eq!(note(152, true, 1), Duration::ZERO);
    }

    #[test]
    fn what_is_in_vain_counts_over_links_until_a_sign_comes() {
        let begin = Instant::now();
        let mut silence = Silence::default();
        for link in 0..3_u32 {
            silence.next_link();
            silence.note(begin + SECOND * 40 * link, true, 0);
            silence.note(begin + SECOND * (40 * link + 30), true, 0);
            silence.give_up();
            assert_eq!(silence.in_vain(), Some(begin));
        }
        silence.next_link();
        silence.note(begin + SECOND * 200, true, 1);
        assert_eq!(silence.in_vain(), None);
    }
}
