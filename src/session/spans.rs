//! The spans of an association and its lanes: one per task or stream, never one per frame.
//!
//! `peer{peer}` (the driver's) → `association{incarnation, dialled, remote}` → `lane{lane, direction}`. They
//! are at ERROR level, so that whatever line passes a filter says whom it is about. An association that
//! fails has `error.type` and `otel.status_code`, as OpenTelemetry's conventions have them; its lanes end
//! with it.

use tracing::field::{Empty, display};
use tracing::{Span, error_span};

use crate::address::Incarnation;
use crate::association::LinkId;
use crate::error::AssociationError;
use crate::lane::Lane;

/// A child of the current one.
pub(super) fn association(incarnation: Incarnation, id: LinkId) -> Span {
    error_span!(
        "association",
        %incarnation,
        dialled = matches!(id, LinkId::Dialled(_)),
        remote = Empty,
        "error.type" = Empty,
        otel.status_code = Empty
    )
}

/// Where the connection is from, or to.
pub(super) fn name_remote(association: &Span, remote: &str) {
    association.record("remote", remote);
}

/// A lane to the peer.
pub(super) fn send(association: &Span, lane: Lane) -> Span {
    self::lane(association, Some(lane), "send")
}

/// A lane from the peer; its header says which, where that is not known yet.
pub(super) fn receive(association: &Span, lane: Option<Lane>) -> Span {
    self::lane(association, lane, "receive")
}

fn lane(association: &Span, lane: Option<Lane>, direction: &str) -> Span {
    error_span!(
        parent: association,
        "lane",
        lane = lane.map(display),
        direction
    )
}

/// Names the lane of a span of [`receive`].
pub(super) fn name_lane(span: &Span, lane: Lane) {
    span.record("lane", display(lane));
}

/// Notes a failure; an orderly end is none.
pub(super) fn note_end(span: &Span, reason: &AssociationError) {
    if !reason.is_orderly() {
        span.record("error.type", reason.kind()).record("otel.status_code", "ERROR");
    }
}
