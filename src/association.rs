//! The association with one peer: a function of (now, input) to outputs.
//!
//! It holds no payload, socket, clock or randomness, so that every interleaving of dials, greetings
//! and losses can be tested (see `association/tests.rs`). The driver feeds it and does what it says.
//!
//! ```text
//!            Wanted                Greeted
//!   Idle ──────────────► Dialing ───────────► Active
//!    ▲                    │   ▲                 │ ▲
//!    │ Timer, nothing     │   │ Timer           │ │ Incoming (any state but a preferred dial)
//!    │ pending            ▼   │                 ▼ │
//!    └────────────────── Backoff ◄───────────────┘ Lost
//! ```
//!
//! **Renewal**, make before break: an active link that is to be replaced goes on while the new one is
//! dialled (`Dialing` with `old`), and ends when that one is greeted. To the peer it looks like any dial
//! of a node that lost its link.
//!
//! **Both dial at once.** The dial of the lesser address is preferred. Its dialler parks the other's
//! connection until its own is decided, and accepts the parked one should its own fail; the other
//! node accepts and abandons its own dial. So one connection lives whatever arrives first, and a
//! pair that can reach each other in one direction alone still associates.
//!
//! **Late greetings.** A node numbers its dials per peer, and says in `Accepted` which of its own it
//! has abandoned. A greeting with a number that was already seen is from a connection that its
//! sender gave up, and is refused; a greater one means that the peer lost the old connection, and
//! replaces it.

use std::time::{Duration, Instant};

use crate::address::Incarnation;
use crate::control::Instance;
use crate::error::AssociationError;

mod ending;
#[cfg(test)]
mod tests;
mod wait;

use wait::Jitter;

/// Dials in a row that came to nothing for another connection's sake, from which on nothing is waited for any
/// more: the other never comes. Most likely the peer takes this node for an earlier life of it, which had
/// dialled more often: it was started again with the same incarnation.
const SUPERSEDED: u32 = 3;

/// A connection as this node counts them, per peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum LinkId {
    /// Dialled by this node: the number of the attempt.
    Dialled(u64),
    /// Accepted by this node: a running number.
    Accepted(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// There is something to send.
    Wanted,
    /// The time of [`Association::wake_at`] has come. `pending`: something waits to be sent or
    /// acknowledged.
    Timer { pending: bool },
    /// The peer accepted our dial. `attempt`: the last of its own dials, all abandoned.
    Greeted { link: LinkId, instance: Instance, attempt: u64 },
    /// Our dial came to nothing.
    DialFailed { link: LinkId, error: AssociationError },
    /// The peer dialled, and its greeting is in order.
    Incoming { link: LinkId, instance: Instance, attempt: u64 },
    /// A connection broke, or the peer closed it.
    Lost { link: LinkId, reason: AssociationError },
    /// Nothing was sent either way for the configured time.
    Release,
    /// The active link was made with a certificate that this node has replaced: another one is to take
    /// its place, without a break. `fresh`: for the first time since, so that earlier failures do not count.
    Renew { fresh: bool },
    /// The user asked for the connection to be closed; it comes back when wanted.
    Disconnect,
    /// The user wants nothing to do with this life of the peer, nor with earlier ones.
    Quarantine { incarnation: Incarnation },
    /// The node shuts down.
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Dial; ends in `Greeted` or `DialFailed` with this link, unless it is closed before.
    Dial { link: LinkId },
    /// Lanes flow over this link from now on. An accepted link is answered with `Accepted` first.
    Activate { link: LinkId, instance: Instance },
    /// Lanes stop; what is not acknowledged is retained.
    Deactivate { link: LinkId, reason: AssociationError },
    /// Close a connection, or end a dial; tell the peer why.
    Close { link: LinkId, reason: AssociationError },
    /// Report a failed dial.
    ReportDialFailed { error: AssociationError, retry_in: Duration },
    /// Report a refused connection.
    ReportRefused { error: AssociationError },
}

#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// The wait after a first failure; doubles with each further one.
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    /// An association that lived this long was no part of a flapping series.
    pub(crate) stable_after: Duration,
    /// How long a lost peer is dialled again though nothing is to be sent.
    pub(crate) reconnect_for: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    /// `old`: lanes flow over it until the new link takes its place.
    Dialing {
        link: LinkId,
        parked: Option<Parked>,
        old: Option<Lived>,
    },
    Backoff {
        until: Instant,
    },
    Active(Lived),
    Closed,
}

/// An active link, and since when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lived {
    link: LinkId,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parked {
    link: LinkId,
    instance: Instance,
}

#[derive(Debug)]
pub(crate) struct Association {
    /// Ours is the lesser address, so that of two dials at once ours is kept.
    preferred: bool,
    timing: Timing,
    state: State,
    /// Our dials so far.
    attempt: u64,
    /// The peer's latest life, and its latest dial that was seen or abandoned.
    seen: Option<(Instance, u64)>,
    failures: u32,
    /// Dials of ours in a row that the peer gave up in favour of another connection.
    superseded: u32,
    /// Until when a lost peer is dialled without anything to send.
    reconnect_until: Option<Instant>,
    /// The life of the peer that is refused, with all before it.
    quarantined: Option<Incarnation>,
    /// Replacements of a standing link that failed in a row, and when the next may be tried.
    renewals_failed: u32,
    renew_at: Option<Instant>,
    jitter: Jitter,
}

impl Association {
    /// `preferred`: this node's address is less than the peer's. `seed`: for the backoff's jitter.
    pub(crate) fn new(preferred: bool, timing: Timing, seed: u64) -> Self {
        Self {
            preferred,
            timing,
            state: State::Idle,
            attempt: 0,
            seen: None,
            failures: 0,
            superseded: 0,
            reconnect_until: None,
            quarantined: None,
            renewals_failed: 0,
            renew_at: None,
            jitter: Jitter(seed),
        }
    }

    /// With a life of the peer that is refused already.
    pub(crate) fn refusing(self, quarantined: Option<Incarnation>) -> Self {
        Self { quarantined, ..self }
    }

    /// When a `Timer` input is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match self.state {
            State::Backoff { until } => Some(until),
            _ => None,
        }
    }

    /// The link that lanes flow over.
    pub(crate) fn active(&self) -> Option<LinkId> {
        match self.state {
            State::Active(Lived { link, .. })
            | State::Dialing { old: Some(Lived { link, .. }), .. } => Some(link),
            _ => None,
        }
    }

    /// Our dials so far; those before the current one are abandoned.
    pub(crate) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// The life of the peer that is refused; its next one ends that.
    pub(crate) fn quarantined(&self) -> Option<Incarnation> {
        self.quarantined
    }

    /// What to do about `input`, in order.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Wanted => {
                if self.state == State::Idle {
                    self.dial(&mut out);
                }
            }
            Input::Timer { pending } => self.timer(now, pending, &mut out),
            Input::Greeted { link, instance, attempt } => {
                self.greeted(now, link, instance, attempt, &mut out);
            }
            Input::DialFailed { link, error } => self.dial_failed(now, link, error, &mut out),
            Input::Incoming { link, instance, attempt } => {
                self.incoming(now, link, instance, attempt, &mut out);
            }
            Input::Lost { link, reason } => self.lost(now, link, reason, &mut out),
            Input::Renew { fresh } => self.renew(now, fresh, &mut out),
            Input::Release => self.release(&mut out),
            Input::Disconnect => self.disconnect(now, &mut out),
            Input::Quarantine { incarnation } => self.quarantine(incarnation, &mut out),
            Input::Shutdown => self.shutdown(&mut out),
        }
        out
    }

    fn timer(&mut self, now: Instant, pending: bool, out: &mut Vec<Output>) {
        let State::Backoff { until } = self.state else { return };
        if now < until {
            return;
        }
        if pending || self.reconnect_until.is_some_and(|t| now < t) {
            self.dial(out);
        } else {
            self.state = State::Idle;
        }
    }

    fn dial(&mut self, out: &mut Vec<Output>) {
        self.attempt += 1;
        let link = LinkId::Dialled(self.attempt);
        let old = match self.state {
            State::Active(old) => Some(old),
            _ => None,
        };
        self.state = State::Dialing { link, parked: None, old };
        out.push(Output::Dial { link });
    }

    fn renew(&mut self, now: Instant, fresh: bool, out: &mut Vec<Output>) {
        if fresh {
            (self.renewals_failed, self.renew_at) = (0, None);
        }
        let due = self.renew_at.is_none_or(|at| now >= at);
        if due && matches!(self.state, State::Active(_)) {
            self.dial(out);
        }
    }

    /// Lanes leave the link that another one replaces.
    fn retire(old: Option<Lived>, out: &mut Vec<Output>) {
        if let Some(Lived { link, .. }) = old {
            end(link, &AssociationError::Superseded, out);
        }
    }

    fn greeted(
        &mut self,
        now: Instant,
        link: LinkId,
        instance: Instance,
        attempt: u64,
        out: &mut Vec<Output>,
    ) {
        let State::Dialing { link: ours, parked, old } = self.state else {
            return superseded(link, out);
        };
        if ours != link {
            return superseded(link, out);
        }
        if self.refuses(instance) {
            let error = AssociationError::Quarantined;
            out.push(Output::Close { link, reason: error.clone() });
            return self.dial_failed(now, link, error, out);
        }
        match self.seen {
            Some((known, _)) if instance < known => {
                let error = stale(instance, known);
                out.push(Output::Close { link, reason: error.clone() });
                return self.dial_failed(now, link, error, out);
            }
            Some((known, seen)) if instance == known => {
                self.seen = Some((instance, attempt.max(seen)));
            }
            _ => self.seen = Some((instance, attempt)),
        }
        if let Some(parked) = parked {
            superseded(parked.link, out);
        }
        Self::retire(old, out);
        self.activate(now, link, instance, out);
    }

    fn dial_failed(
        &mut self,
        now: Instant,
        link: LinkId,
        error: AssociationError,
        out: &mut Vec<Output>,
    ) {
        let State::Dialing { link: ours, parked, old } = self.state else { return };
        if ours != link {
            return;
        }
        if let Some(parked) = parked {
            Self::retire(old, out);
            return self.activate(now, parked.link, parked.instance, out);
        }
        if let Some(old) = old {
            // Nothing is lost by it: the old link goes on, and another try comes later.
            self.renewals_failed = self.renewals_failed.saturating_add(1);
            let retry_in = self.wait(self.doubled(self.renewals_failed));
            self.renew_at = Some(now + retry_in);
            self.state = State::Active(old);
            if error != AssociationError::Superseded {
                out.push(Output::ReportDialFailed { error, retry_in });
            }
            return;
        }
        if error == AssociationError::Superseded {
            self.superseded = self.superseded.saturating_add(1);
            if self.superseded < SUPERSEDED {
                // The peer's own dial is on its way here: no failure, only a wait for it.
                self.back_off(now);
                return;
            }
        }
        self.failures = self.failures.saturating_add(1);
        let retry_in = if error.is_misconfiguration() {
            self.back_off_for(now, self.timing.backoff_max)
        } else {
            self.back_off(now)
        };
        out.push(Output::ReportDialFailed { error, retry_in });
    }

    fn incoming(
        &mut self,
        now: Instant,
        link: LinkId,
        instance: Instance,
        attempt: u64,
        out: &mut Vec<Output>,
    ) {
        let previous = self.seen;
        if let Some((known, seen)) = previous {
            if instance.incarnation < known.incarnation {
                let error = stale(instance, known);
                out.push(Output::Close { link, reason: error.clone() });
                out.push(Output::ReportRefused { error });
                return;
            }
            // An earlier memory of us, or an earlier dial: its sender has given it up.
            if (instance, attempt) <= (known, seen) {
                return superseded(link, out);
            }
        }
        if self.state == State::Closed {
            out.push(Output::Close { link, reason: AssociationError::ShuttingDown });
            return;
        }
        if self.refuses(instance) {
            let error = AssociationError::Quarantined;
            out.push(Output::Close { link, reason: error.clone() });
            out.push(Output::ReportRefused { error });
            return;
        }
        self.seen = Some((instance, attempt));
        let restarted = previous.is_some_and(|(known, _)| known != instance);
        match self.state {
            // What we dial is the peer's earlier life, if it restarted: nothing will come of that.
            State::Dialing { link: ours, parked, old } if self.preferred && !restarted => {
                if let Some(parked) = parked {
                    superseded(parked.link, out);
                }
                let parked = Some(Parked { link, instance });
                self.state = State::Dialing { link: ours, parked, old };
            }
            State::Dialing { link: ours, parked, old } => {
                superseded(ours, out);
                if let Some(parked) = parked {
                    superseded(parked.link, out);
                }
                Self::retire(old, out);
                self.activate(now, link, instance, out);
            }
            State::Active(old) => {
                Self::retire(Some(old), out);
                self.activate(now, link, instance, out);
            }
            State::Idle | State::Backoff { .. } | State::Closed => {
                self.activate(now, link, instance, out);
            }
        }
    }

    fn activate(&mut self, now: Instant, link: LinkId, instance: Instance, out: &mut Vec<Output>) {
        // Another life of it, or it would not have come so far.
        self.quarantined = None;
        (self.renewals_failed, self.renew_at, self.superseded) = (0, None, 0);
        self.state = State::Active(Lived { link, since: now });
        out.push(Output::Activate { link, instance });
    }
}

fn superseded(link: LinkId, out: &mut Vec<Output>) {
    out.push(Output::Close { link, reason: AssociationError::Superseded });
}

fn stale(claimed: Instance, known: Instance) -> AssociationError {
    AssociationError::Stale { claimed: claimed.incarnation, known: known.incarnation }
}

/// An active link is closed by this node.
fn end(link: LinkId, reason: &AssociationError, out: &mut Vec<Output>) {
    out.push(Output::Deactivate { link, reason: reason.clone() });
    out.push(Output::Close { link, reason: reason.clone() });
}
