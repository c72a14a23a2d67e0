//! How an active link ends: lost, released, unwanted.

use std::time::Instant;

use super::{Association, LinkId, Lived, Output, Parked, State, end};
use crate::address::Incarnation;
use crate::control::Instance;
use crate::error::AssociationError;

impl Association {
    pub(super) fn lost(
        &mut self,
        now: Instant,
        link: LinkId,
        reason: AssociationError,
        out: &mut Vec<Output>,
    ) {
        match self.state {
            State::Active(active) if active.link == link => {
                self.note_lost(now, active, &reason);
                self.back_off(now);
                out.push(Output::Deactivate { link, reason });
            }
            State::Dialing { link: ours, parked: Some(parked), old } if parked.link == link => {
                self.state = State::Dialing { link: ours, parked: None, old };
            }
            // Its replacement is on its way; it may be why the peer has closed it.
            State::Dialing { link: ours, parked, old: Some(old) } if old.link == link => {
                self.note_lost(now, old, &reason);
                self.state = State::Dialing { link: ours, parked, old: None };
                out.push(Output::Deactivate { link, reason });
            }
            _ => {}
        }
    }

    /// What an active link's end means for the dials that follow.
    fn note_lost(&mut self, now: Instant, lived: Lived, reason: &AssociationError) {
        let stable = now.saturating_duration_since(lived.since) >= self.timing.stable_after;
        self.failures = if stable { 0 } else { self.failures.saturating_add(1) };
        let left = matches!(reason, AssociationError::Goodbye | AssociationError::Idle);
        self.reconnect_until = (!left).then(|| now + self.timing.reconnect_for);
    }

    pub(super) fn refuses(&self, instance: Instance) -> bool {
        self.quarantined.is_some_and(|refused| instance.incarnation <= refused)
    }

    pub(super) fn quarantine(&mut self, incarnation: Incarnation, out: &mut Vec<Output>) {
        // It may have come back as another since the user saw it.
        if self.seen.is_some_and(|(known, _)| known.incarnation > incarnation) {
            return;
        }
        self.quarantined = Some(incarnation);
        self.reconnect_until = None;
        let reason = AssociationError::Quarantined;
        match self.state {
            State::Active(Lived { link, .. }) => {
                self.state = State::Idle;
                end(link, &reason, out);
            }
            // Our own dial may reach the next life; the others are of a life that was seen.
            State::Dialing { link, parked, old } => {
                self.state = State::Dialing { link, parked: None, old: None };
                if let Some(old) = old {
                    end(old.link, &reason, out);
                }
                if let Some(Parked { link, .. }) = parked {
                    out.push(Output::Close { link, reason });
                }
            }
            State::Idle | State::Backoff { .. } | State::Closed => {}
        }
    }

    pub(super) fn shutdown(&mut self, out: &mut Vec<Output>) {
        let reason = AssociationError::ShuttingDown;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Active(Lived { link, .. }) => end(link, &reason, out),
            State::Dialing { link, parked, old } => {
                if let Some(Lived { link, .. }) = old {
                    end(link, &reason, out);
                }
                out.push(Output::Close { link, reason: reason.clone() });
                if let Some(parked) = parked {
                    out.push(Output::Close { link: parked.link, reason });
                }
            }
            State::Idle | State::Backoff { .. } | State::Closed => {}
        }
    }

    pub(super) fn release(&mut self, out: &mut Vec<Output>) {
        if let State::Active(Lived { link, .. }) = self.state {
            self.state = State::Idle;
            self.failures = 0;
            end(link, &AssociationError::Idle, out);
        }
    }

    pub(super) fn disconnect(&mut self, now: Instant, out: &mut Vec<Output>) {
        if let Some(link) = self.active() {
            let reason = AssociationError::Disconnected;
            self.lost(now, link, reason.clone(), out);
            out.push(Output::Close { link, reason });
        }
    }
}
