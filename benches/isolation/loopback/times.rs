//! How long things are measured.

use std::time::Duration;

use super::case::Case;
use crate::Options;

#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) rounds: usize,
    pub(super) round: Duration,
    /// What the last gossip may take. What has not come by then is counted as old as it is.
    pub(super) last: Duration,
}

impl Times {
    pub(super) fn of(options: &Options, case: &Case) -> Self {
        let ms = Duration::from_millis;
        // Of the largest only a few dozen come in a second.
        let large = if case.payload.is_some_and(|bytes| bytes >= 1 << 20) { 2 } else { 1 };
        match (options.quick, case.blocks.is_some()) {
            (false, false) => Self { rounds: 5, round: ms(2000) * large, last: ms(6000) },
            (true, false) => Self { rounds: 1, round: ms(300) * large, last: ms(700) },
            // Behind a sink that blocks nothing more comes.
            (false, true) => Self { rounds: 1, round: ms(6000), last: ms(100) },
            (true, true) => Self { rounds: 1, round: ms(500), last: ms(100) },
        }
    }
}
