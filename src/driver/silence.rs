//! A peer whose connection stands and that takes no notice of tells: it reads nothing, or acknowledges nothing.
//! One whose sink only blocks gives signs of life.
//!
//! A link is given up for it after a while. A peer that ends its links itself before that gains nothing: the
//! time is counted over them.

use std::time::{Duration, Instant};

/// What counts of the time between two looks at most: where this node itself stood still, the peer's signs may
/// only not have been read.
const STEP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The peer's acknowledgements over the present link.
    signs: u64,
    /// Since when tells wait on it without another, when it was last looked, and what counts of that.
    since: Option<Instant>,
    looked: Option<Instant>,
    lasts: Duration,
    /// Since when tells wait in vain, over all links without a sign in a row: since the end of the first, or
    /// since they waited on it, if it was given up.
    in_vain: Option<Instant>,
}

impl Silence {
    /// For how long tells have waited on the present link without a sign. `waiting`: some are neither
    /// acknowledged nor lost. `signs`: acknowledgements over this link so far.
    pub(super) fn note(&mut self, now: Instant, waiting: bool, signs: u64) -> Duration {
        if !waiting || signs != self.signs {
            *self = Self { signs, ..Self::default() };
        }
        if !waiting {
            return Duration::ZERO;
        }
        self.since.get_or_insert(now);
        let looked = self.looked.replace(now).unwrap_or(now);
        self.lasts += now.saturating_duration_since(looked).min(STEP);
        self.lasts
    }

    /// The same while there is no link.
    pub(super) fn no_link(&mut self, waiting: bool) {
        if !waiting {
            self.in_vain = None;
        }
    }

    /// The present link is given up for it.
    pub(super) fn give_up(&mut self) {
        self.in_vain = self.in_vain.or(self.since);
    }

    /// The present link has ended. Since when the peer was as good as not there: since now, if it gave a sign.
    pub(super) fn link_ended(&mut self, now: Instant) -> Instant {
        let since = self.in_vain.unwrap_or(now);
        *self = Self { in_vain: Some(since), ..Self::default() };
        since
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
        let at = |seconds: u32| begin + SECOND * seconds;
        let mut silence = Silence::default();
        for link in 0..3_u32 {
            silence.note(at(40 * link), true, 0);
            silence.note(at(40 * link + 30), true, 0);
            silence.give_up();
            assert_eq!(silence.link_ended(at(40 * link + 30)), begin);
        }
        silence.note(at(200), true, 1);
        assert_eq!(silence.link_ended(at(210)), at(210), "it gave a sign");
    }

    #[test]
    fn a_peer_that_ends_its_links_itself_gains_nothing() {
        let begin = Instant::now();
        let at = |seconds: u32| begin + SECOND * seconds;
        let mut silence = Silence::default();
        silence.note(at(0), true, 0);
        assert_eq!(silence.link_ended(at(10)), at(10), "the first may only have been cut");
        for link in 1..4 {
            silence.no_link(true);
            silence.note(at(20 * link), true, 0);
            assert_eq!(silence.link_ended(at(20 * link + 10)), at(10));
        }
        // Refused before it could give a sign.
        assert_eq!(silence.link_ended(at(99)), at(10));
        silence.no_link(false);
        assert_eq!(silence.link_ended(at(120)), at(120), "nothing waited any more");
        silence.note(at(130), false, 0);
        silence.note(at(140), true, 0);
        assert_eq!(silence.link_ended(at(150)), at(150), "nor here");
    }
}
