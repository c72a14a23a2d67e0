//! What happens in a random run, and when: drawn from the seed alone.

use std::fmt;
use std::time::Duration;

use crate::network::SendFault;
use crate::random::Random;

/// How long faults begin; they may last a little longer, and all end by themselves.
const SPAN: u64 = 6_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Quic,
    InProcess,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Loss(f64),
    Duplicates(f64),
    Reordering(f64),
    Corruption(f64),
    Delay(Duration),
    /// Bytes per second, and the queue's length in bytes.
    Rate(f64, u64),
    /// Larger packets vanish.
    Mtu(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    Tell {
        from: usize,
        to: usize,
        count: u64,
        size: usize,
    },
    Gossip {
        from: usize,
        to: usize,
    },
    /// Waits for all tells so far in the background; what it says must be so.
    Flush {
        from: usize,
        to: usize,
    },
    Fault {
        from: usize,
        to: usize,
        fault: Fault,
    },
    /// The pipe is as it was in the beginning.
    Mend {
        from: usize,
        to: usize,
    },
    Cut {
        from: usize,
        to: usize,
        both: bool,
    },
    Heal {
        from: usize,
        to: usize,
        both: bool,
    },
    /// The node's packets come from another port; `forwarded`: those to its own still reach it.
    Rebind {
        node: usize,
        port: u16,
        forwarded: bool,
    },
    Restore {
        node: usize,
    },
    FailSends {
        node: usize,
        fault: SendFault,
    },
    SendAgain {
        node: usize,
    },
    Disconnect {
        from: usize,
        to: usize,
    },
    /// The other's life is over for this node, whatever it still does.
    Quarantine {
        from: usize,
        to: usize,
    },
    Kill {
        node: usize,
    },
    Drain {
        node: usize,
        deadline: Duration,
    },
    /// Back on the same address, in a new life.
    Start {
        node: usize,
    },
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) action: Action,
}

/// A random run's plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) backend: Backend,
    pub(crate) nodes: usize,
    pub(crate) settings: Settings,
    pub(crate) steps: Vec<Step>,
}

/// What nodes are configured with, the same for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    pub(crate) lanes: u8,
    pub(crate) stream_window: u64,
    pub(crate) lane_budget: usize,
    pub(crate) retention: Duration,
    pub(crate) delay: Duration,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} nodes, {:?}, {:?}", self.nodes, self.backend, self.settings)?;
        for Step { at, action } in self.steps.iter().filter(|step| step.action != Action::Check) {
            writeln!(f, "  {:>7.3} s  {action:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

impl Schedule {
    /// Every fifth seed is for the in-process backend.
    pub(crate) fn of(seed: u64) -> Self {
        let backend = if seed % 5 == 4 { Backend::InProcess } else { Backend::Quic };
        let mut random = Random::new(seed);
        // Small clusters more often: they cost less, and most faults are between two.
        let nodes = random.pick(&[2, 2, 2, 3, 3, 4, 5]);
        let settings = Settings {
            lanes: random.between(1, 4) as u8,
            stream_window: random.pick(&[16 << 10, 64 << 10, 1 << 20]),
            lane_budget: random.pick(&[64 << 10, 256 << 10, 32 << 20]),
            retention: Duration::from_secs(random.pick(&[2, 60, 60])),
            delay: random.millis(0, 30),
        };
        let draft = Draft { random, steps: Vec::new(), nodes, mortal: true };
        Self { seed, backend, nodes, settings, steps: draft.steps(backend) }
    }

    /// A part of a long run, in which no node dies.
    pub(crate) fn part(seed: u64, nodes: usize) -> Self {
        let settings = Settings {
            lanes: 4,
            stream_window: 64 << 10,
            lane_budget: 256 << 10,
            retention: Duration::from_secs(60),
            delay: Duration::from_millis(5),
        };
        let random = Random::new(seed);
        let draft = Draft { random, steps: Vec::new(), nodes, mortal: false };
        let backend = Backend::Quic;
        Self { seed, backend, nodes, settings, steps: draft.steps(backend) }
    }

    pub(crate) fn faults(&self) -> usize {
        let is_fault = |step: &&Step| {
            matches!(
                step.action,
                Action::Fault { .. }
                    | Action::Cut { .. }
                    | Action::Rebind { .. }
                    | Action::FailSends { .. }
                    | Action::Disconnect { .. }
                    | Action::Quarantine { .. }
                    | Action::Kill { .. }
                    | Action::Drain { .. }
            )
        };
        self.steps.iter().filter(is_fault).count()
    }
}

struct Draft {
    random: Random,
    steps: Vec<Step>,
    nodes: usize,
    /// Whether nodes die.
    mortal: bool,
}

impl Draft {
    fn steps(mut self, backend: Backend) -> Vec<Step> {
        self.traffic();
        let faults = self.random.between(2, 7);
        for n in 0..faults {
            match backend {
                Backend::Quic => self.fault(n),
                Backend::InProcess => self.in_process_fault(),
            }
        }
        for _ in 0..self.random.between(5, 15) {
            let at = self.random.millis(0, SPAN + 3_000);
            self.add(at, Action::Check);
        }
        // In the order in which they were drawn where they come at once.
        self.steps.sort_by_key(|step| step.at);
        self.steps
    }

    fn add(&mut self, at: Duration, action: Action) {
        self.steps.push(Step { at, action });
    }

    fn traffic(&mut self) {
        for _ in 0..self.random.between(8, 24) {
            let (from, to) = self.random.pair(self.nodes);
            let at = self.random.millis(0, SPAN);
            let count = self.random.between(1, 40);
            // Most fit into a packet with others; some need several.
            let size = match self.random.below(10) {
                0 => self.random.between(2_000, 20_000) as usize,
                1..=3 => self.random.between(200, 1_500) as usize,
                _ => 32,
            };
            self.add(at, Action::Tell { from, to, count, size });
            if self.random.chance(0.3) {
                self.add(at, Action::Gossip { from, to });
            }
            if self.random.chance(0.2) {
                self.add(at, Action::Flush { from, to });
            }
        }
    }

    /// When a fault begins, and when it ends.
    fn span(&mut self, longest: u64) -> (Duration, Duration) {
        let begin = self.random.millis(0, SPAN);
        (begin, begin + self.random.millis(20, longest))
    }

    fn fault(&mut self, n: u64) {
        match self.random.below(13) {
            0..=4 => self.pipe_fault(),
            5 => self.cut(),
            6 => {
                let node = self.random.below(self.nodes);
                let (begin, end) = self.span(4_000);
                let forwarded = self.random.chance(0.7);
                let port = 20_000 + n as u16 * 10 + node as u16;
                self.add(begin, Action::Rebind { node, port, forwarded });
                self.add(end, Action::Restore { node });
            }
            7 => {
                let node = self.random.below(self.nodes);
                let (begin, end) = self.span(3_000);
                let faults = [SendFault::NoBuffers, SendFault::NotPermitted, SendFault::Full];
                let fault = self.random.pick(&faults);
                self.add(begin, Action::FailSends { node, fault });
                self.add(end, Action::SendAgain { node });
            }
            9..=11 if self.mortal => self.death(),
            12 if self.mortal => self.downing(),
            _ => self.disconnect(),
        }
    }

    fn in_process_fault(&mut self) {
        match self.random.below(5) {
            0 | 1 => self.cut(),
            2 => self.disconnect(),
            3 => self.downing(),
            _ => self.death(),
        }
    }

    fn pipe_fault(&mut self) {
        let (from, to) = self.random.pair(self.nodes);
        let (begin, end) = self.span(5_000);
        let unit = self.random.unit();
        let fault = match self.random.below(7) {
            0 => Fault::Loss(unit * 0.4),
            1 => Fault::Duplicates(unit * 0.1),
            2 => Fault::Reordering(unit * 0.5),
            3 => Fault::Corruption(unit * 0.05),
            4 => Fault::Delay(self.random.millis(1, 200)),
            5 => Fault::Rate(20_000.0 + unit * 500_000.0, self.random.between(5_000, 100_000)),
            _ => Fault::Mtu(self.random.between(1_200, 1_400) as usize),
        };
        self.add(begin, Action::Fault { from, to, fault });
        if self.random.chance(0.5) {
            self.add(begin, Action::Fault { from: to, to: from, fault });
            self.add(end, Action::Mend { from: to, to: from });
        }
        self.add(end, Action::Mend { from, to });
    }

    fn cut(&mut self) {
        let (from, to) = self.random.pair(self.nodes);
        let (begin, end) = self.span(4_000);
        let both = self.random.chance(0.5);
        self.add(begin, Action::Cut { from, to, both });
        self.add(end, Action::Heal { from, to, both });
    }

    fn disconnect(&mut self) {
        let (from, to) = self.random.pair(self.nodes);
        let at = self.random.millis(0, SPAN);
        self.add(at, Action::Disconnect { from, to });
    }

    /// A member is downed by another, and comes back some time later as the next life.
    fn downing(&mut self) {
        let (from, to) = self.random.pair(self.nodes);
        let (begin, end) = self.span(3_000);
        self.add(begin, Action::Quarantine { from, to });
        self.add(end, Action::Kill { node: to });
        let again = end + self.random.millis(0, 1_000);
        self.add(again, Action::Start { node: to });
    }

    fn death(&mut self) {
        let node = self.random.below(self.nodes);
        let (begin, end) = self.span(3_000);
        if self.random.chance(0.3) {
            let deadline = self.random.millis(0, 3_000);
            self.add(begin, Action::Drain { node, deadline });
            self.add(end, Action::Start { node });
        } else {
            self.add(begin, Action::Kill { node });
            self.add(end, Action::Start { node });
        }
    }
}
