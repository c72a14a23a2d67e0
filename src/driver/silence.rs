//! A peer whose connection stands and that takes no notice of tells: it reads nothing, or acknowledges nothing.
//! One whose sink only blocks gives signs of life.

use std::time::{Duration, Instant};

/// What counts of the time between two looks at most: where this node itself stood still, the peer's signs may
/// only not have been read.
const STEP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The peer's control messages over the present link.
    signs: u64,
    /// Since when tells wait on it without another, when it was last looked, and what counts of that.
    since: Option<Instant>,
    looked: Option<Instant>,
    lasts: Duration,
    /// Since when they do, if links were given up for it and no sign came since.
    in_vain: Option<Instant>,
}

impl Silence {
    /// Another link, whose control messages are counted from nothing.
    pub(super) fn next_link(&mut self) {
        *self = Self { in_vain: self.in_vain, ..Self::default() };
    }

    /// For how long tells have waited on the present link without a sign. `waiting`: some are neither
    /// acknowledged nor lost. `signs`: control messages over this link so far.
    pub(super) fn note(&mut self, now: Instant, waiting: bool, signs: u64) -> Duration {
        if signs != self.signs {
            *self = Self { signs, ..Self::default() };
        }
        if !waiting {
            *self = Self { signs, in_vain: self.in_vain, ..Self::default() };
            return Duration::ZERO;
        }
        self.since.get_or_insert(now);
        let looked = self.looked.replace(now).unwrap_or(now);
        self.lasts += now.saturating_duration_since(looked).min(STEP);
        self.lasts
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
        let mut note = |seconds: std::ops::RangeInclusive<u32>, waiting, signs| {
            seconds.map(|s| silence.note(begin + SECOND * s, waiting, signs)).last().unwrap()
        };
        assert_eq!(note(0..=99, false, 0), Duration::ZERO);
        assert_eq!(note(100..=100, true, 0), Duration::ZERO, "they wait from now on");
        assert_eq!(note(101..=129, true, 0), SECOND * 29);
        assert_eq!(note(130..=130, true, 1), Duration::ZERO, "a sign");
        assert_eq!(note(131..=150, true, 1), SECOND * 20);
        assert_eq!(note(151..=151, false, 1), Duration::ZERO, "none waits any more");
        assert_eq!(note(152..=152, true, 1), Duration::ZERO);
        assert_eq!(note(500..=500, true, 1), SECOND, "this node has not looked");
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
