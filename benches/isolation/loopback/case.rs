//! What is measured.

use std::time::Duration;

use cluster_quic::{Congestion, MAX_FRAME};

use super::places::Place;

/// Whose gossip it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    LowDelay,
    Cubic,
    Tcp,
}

impl Subject {
    pub(super) const ALL: [Self; 3] = [Self::LowDelay, Self::Cubic, Self::Tcp];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LowDelay => "low-delay",
            Self::Cubic => "cubic",
            Self::Tcp => "tcp",
        }
    }

    /// Of this crate's transport.
    pub(super) fn congestion(self) -> Congestion {
        match self {
            Self::LowDelay | Self::Tcp => Congestion::LowDelay,
            Self::Cubic => Congestion::Cubic,
        }
    }

    /// The same in every chart.
    pub(super) fn colour(self) -> usize {
        Self::ALL.iter().position(|subject| *subject == self).unwrap_or(0)
    }
}

/// Tells without end, and gossip beside them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Bytes of a tell; without, there are none.
    pub(super) payload: Option<usize>,
    pub(super) place: Place,
    /// How long the sink blocks for each tell.
    pub(super) blocks: Option<Duration>,
    /// Threads that do nothing but keep a core busy.
    pub(super) spinners: usize,
    pub(super) targets: Targets,
}

/// What the default controller is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Targets {
    None,
    /// Gossip's p99 alone: there is no rate to speak of.
    Delay,
    /// And against TCP's, and the tells' rate against Cubic's.
    All,
}

impl Case {
    const fn new(name: &'static str, payload: usize, what: &'static str) -> Self {
        Self {
            name,
            what,
            payload: Some(payload),
            place: Place::Shared,
            blocks: None,
            spinners: 0,
            targets: Targets::All,
        }
    }

    const fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    const fn blocks(mut self, blocks: Duration) -> Self {
        (self.blocks, self.targets) = (Some(blocks), Targets::Delay);
        self
    }

    const fn judged(mut self, targets: Targets) -> Self {
        self.targets = targets;
        self
    }
}

const KIB: usize = 1024;
const BLOCKS: Duration = Duration::from_secs(2);

pub(super) const CASES: [Case; 10] = [
    Case {
        payload: None,
        targets: Targets::None,
        ..Case::new("idle", 0, "No tells: what gossip takes by itself.")
    },
    Case::new("1KiB", KIB, "Tells of 1 KiB, as many as the lanes take."),
    Case::new("64B", 64, "Tells of 64 bytes."),
    Case::new("64KiB", 64 * KIB, "Tells of 64 KiB."),
    Case::new("16MiB", MAX_FRAME - KIB, "Tells of the largest size."),
    Case::new("two-runtimes", KIB, "Tells of 1 KiB; each node has a runtime of two workers.")
        .at(Place::PerNode),
    Case::new("blocked-sink", KIB, "The receiver's sink blocks for 2 s with every tell of 1 KiB.")
        .blocks(BLOCKS),
    Case::new(
        "blocked-one-thread",
        KIB,
        "The same where each node has a runtime of one thread (`current_thread`).",
    )
    .at(Place::CurrentThread)
    .blocks(BLOCKS),
    Case::new(
        "hogged-runtime",
        KIB,
        "Tells of 1 KiB, and an application whose tasks never let go of its runtime's two workers, for \
         100 ms at a time. Our transport is on `Runtime::Dedicated`; TCP has nothing like it.",
    )
    .at(Place::Hogged)
    .judged(Targets::Delay),
    Case {
        spinners: 2,
        ..Case::new(
            "busy-threads",
            KIB,
            "Tells of 1 KiB, and two more threads that each want a core for themselves.",
        )
        .judged(Targets::None)
    },
];
