//! Lanes that stand still though the peer is alive: the sink over there blocks, or was never set. Pure;
//! time is an argument.
//!
//! A lane stands still while it has tells pending and the first of them stays the same. A broken path does
//! that to every lane, and is another matter, which has its own events; so the peer must have answered
//! since, at the level of QUIC.

use std::time::{Duration, Instant};

use crate::link::Echo;

/// What is known of one lane at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The first tell that is neither acknowledged nor given up.
    pub(super) acked: u64,
    /// How many are neither.
    pub(super) pending: u64,
}

/// What has changed about a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Stuck { lane: u8, stuck_for: Duration, pending: u64 },
    Over { lane: u8, stuck_for: Duration },
}

/// The lanes to one peer.
#[derive(Debug)]
pub(super) struct StuckLanes {
    after: Duration,
    echo: Echo,
    /// What had been asked when the peer last answered.
    answered_to: u64,
    /// When the peer last showed that it hears this node.
    alive: Option<Instant>,
    lanes: Vec<Watch>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Watch {
    acked: u64,
    /// Since when the lane stands still, as far as is known.
    since: Option<Instant>,
    reported: bool,
}

impl StuckLanes {
    /// `after`: how long a lane must stand still.
    pub(super) fn new(after: Duration, lanes: u8) -> Self {
        let lanes = vec![Watch::default(); lanes.into()];
        Self { after, echo: Echo::default(), answered_to: 0, alive: None, lanes }
    }

    /// Takes note of where the lanes are. `echo` of the connection; `None` while there is none, which ends
    /// everything that stands still: the time without a connection does not count.
    pub(super) fn note(
        &mut self,
        now: Instant,
        echo: Option<Echo>,
        positions: impl Iterator<Item = Position>,
    ) -> Vec<Change> {
        match echo {
            Some(echo) => self.note_echo(now, echo),
            None => self.alive = None,
        }
        // Lately, compared with the time in question: else a path that has just broken would do.
        let lately = |at: Instant| now.saturating_duration_since(at) <= self.after / 2;
        let alive = self.alive.is_some_and(lately);
        let mut changes = Vec::new();
        for ((lane, watch), position) in (0..).zip(&mut self.lanes).zip(positions) {
            if echo.is_none() || position.pending == 0 || position.acked != watch.acked {
                changes.extend(watch.over(now).map(|stuck_for| Change::Over { lane, stuck_for }));
                let still = echo.is_some() && position.pending > 0;
                watch.acked = position.acked;
                watch.since = still.then_some(now);
                continue;
            }
            let since = *watch.since.get_or_insert(now);
            let stuck_for = now.saturating_duration_since(since);
            if stuck_for >= self.after && alive && !watch.reported {
                watch.reported = true;
                changes.push(Change::Stuck { lane, stuck_for, pending: position.pending });
            }
        }
        changes
    }

    fn note_echo(&mut self, now: Instant, echo: Echo) {
        let heard = echo.heard != self.echo.heard;
        let answered = echo.answered != self.echo.answered;
        if answered {
            self.answered_to = echo.asked;
        }
        // Who is heard and does not answer may not hear this node. What is asked again comes ever more rarely.
        let nothing_asked = echo.asked == self.answered_to;
        // A backend that counts nothing has links that break both ways at once.
        let counts_nothing = echo == Echo::default();
        if answered || (heard && nothing_asked) || counts_nothing {
            self.alive = Some(now);
        }
        self.echo = echo;
    }
}

impl Watch {
    /// How long the lane stood still, if that was reported.
    fn over(&mut self, now: Instant) -> Option<Duration> {
        let since = self.since.take()?;
        std::mem::take(&mut self.reported).then(|| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const AFTER: Duration = Duration::from_secs(10);

    /// Two lanes, and a clock that only the test moves.
    struct Scene {
        begin: Instant,
        now: Instant,
        stuck: StuckLanes,
        echo: Echo,
    }

    impl Scene {
        fn new() -> Self {
            let begin = Instant::now();
            Self { begin, now: begin, stuck: StuckLanes::new(AFTER, 2), echo: Echo::default() }
        }

        /// A second with a keep-alive that is answered.
        fn answered(&mut self, lanes: [(u64, u64); 2]) -> Vec<Change> {
            self.echo.asked += 1;
            self.echo.answered += 1;
            self.echo.heard += 1;
            self.second(Some(self.echo), lanes)
        }

        /// A second with one that is not, as over a path that has broken.
        fn silent(&mut self, lanes: [(u64, u64); 2]) -> Vec<Change> {
            self.echo.asked += 1;
            self.second(Some(self.echo), lanes)
        }

        fn second(&mut self, echo: Option<Echo>, lanes: [(u64, u64); 2]) -> Vec<Change> {
            self.now += SECOND;
            let positions = lanes.map(|(acked, pending)| Position { acked, pending });
            self.stuck.note(self.now, echo, positions.into_iter())
        }

        fn seconds(&self) -> u64 {
            (self.now - self.begin).as_secs()
        }
    }

    #[test]
    fn a_lane_that_stands_still_is_reported_once_and_once_when_it_is_over() {
        let mut scene = Scene::new();
        let mut changes = Vec::new();
        for n in 0..60 {
            // The other lane moves.
            changes.extend(scene.answered([(7, 3), (n, 1)]));
        }
        let stuck = Change::Stuck { lane: 0, stuck_for: AFTER, pending: 3 };
        assert_eq!(changes, [stuck]);
        assert_eq!(
            scene.answered([(8, 2), (60, 1)]),
            [Change::Over { lane: 0, stuck_for: SECOND * 60 }]
        );
        // Another episode.
        let changes: Vec<_> = (0..20).flat_map(|n| scene.answered([(8, 2), (61 + n, 1)])).collect();
        assert_eq!(changes, [Change::Stuck { lane: 0, stuck_for: AFTER, pending: 2 }]);
        // Given up, so that nothing is pending.
        assert_eq!(
            scene.answered([(10, 0), (90, 0)]),
            [Change::Over { lane: 0, stuck_for: SECOND * 21 }]
        );
    }

    #[test]
    fn a_lane_that_moves_or_is_empty_is_not_stuck() {
        let mut scene = Scene::new();
        for n in 0..100 {
            // One tell each nine seconds, and one that was sent now and then.
            let pending = u64::from(n % 9 < 8);
            assert_eq!(scene.answered([(n / 9, 1), (5, pending)]), []);
        }
    }

    #[test]
    fn a_broken_path_is_another_matter() {
        let mut scene = Scene::new();
        for _ in 0..3 {
            scene.answered([(7, 3), (0, 0)]);
        }
        for _ in 0..60 {
            assert_eq!(scene.silent([(7, 3), (0, 0)]), []);
        }
        // It heals, and the lane still stands.
        let changes = scene.answered([(7, 3), (0, 0)]);
        assert!(matches!(changes[..], [Change::Stuck { lane: 0, pending: 3, .. }]), "{changes:?}");
    }

    #[test]
    fn who_is_heard_without_answering_is_no_proof() {
        let mut scene = Scene::new();
        scene.answered([(7, 3), (0, 0)]);
        for _ in 0..60 {
            scene.echo.heard += 1;
            assert_eq!(scene.silent([(7, 3), (0, 0)]), []);
        }
        // Nor is it while nothing is asked again: the last question stands.
        for _ in 0..60 {
            scene.echo.heard += 1;
            assert_eq!(scene.second(Some(scene.echo), [(7, 3), (0, 0)]), []);
        }
        // An answer is.
        assert_eq!(scene.answered([(7, 3), (0, 0)]).len(), 1);
    }

    #[test]
    fn who_is_heard_with_nothing_to_answer_is_alive() {
        let mut scene = Scene::new();
        let mut changes = scene.answered([(7, 3), (0, 0)]);
        for _ in 0..30 {
            scene.echo.heard += 1;
            changes.extend(scene.second(Some(scene.echo), [(7, 3), (0, 0)]));
        }
        assert_eq!(changes, [Change::Stuck { lane: 0, stuck_for: AFTER, pending: 3 }]);
    }

    #[test]
    fn an_end_of_the_connection_ends_it_and_the_time_without_does_not_count() {
        let mut scene = Scene::new();
        let changes: Vec<_> = (0..20).flat_map(|_| scene.answered([(7, 3), (0, 0)])).collect();
        assert_eq!(changes.len(), 1);
        let over = Change::Over { lane: 0, stuck_for: SECOND * 20 };
        assert_eq!(scene.second(None, [(7, 3), (0, 0)]), [over]);
        for _ in 0..60 {
            assert_eq!(scene.second(None, [(7, 3), (0, 0)]), []);
        }
        let back = scene.seconds();
        let found = loop {
            let changes = scene.answered([(7, 3), (0, 0)]);
            if !changes.is_empty() {
                break changes;
            }
        };
        assert_eq!(found, [Change::Stuck { lane: 0, stuck_for: AFTER, pending: 3 }]);
        assert_eq!(scene.seconds() - back, 1 + AFTER.as_secs());
    }

    #[test]
    fn a_backend_without_counts_is_alive_while_it_stands() {
        let mut scene = Scene::new();
        let note = |scene: &mut Scene| scene.second(Some(Echo::default()), [(7, 3), (0, 0)]);
        let changes: Vec<_> = (0..30).flat_map(|_| note(&mut scene)).collect();
        assert_eq!(changes, [Change::Stuck { lane: 0, stuck_for: AFTER, pending: 3 }]);
    }
}
