//! What a new identity, and time, do to the certificates of a standing link.

use tokio::time::Instant;
use tracing::debug;

use super::Driver;
use crate::association::{Input, LinkId};
use crate::config::OnExpiry;
use crate::error::AssociationError;
use crate::event::{CertificateOf, Event};
use crate::link::{Backend, Link};
use crate::rotation::Warnings;
use crate::session::Session;
use crate::tls::{CertificateFailure, Side, has_expired, iso_utc};

#[derive(Default)]
pub(super) struct Certificates {
    warnings: Warnings,
    /// The link that was judged last, and by which of the node's identities.
    judged: Option<(LinkId, u64)>,
    /// What the present CA bundle has against it.
    distrust: Option<Distrust>,
}

struct Distrust {
    failure: CertificateFailure,
    since: Instant,
    /// Dials with greater numbers show and trust what the node has now.
    dials: u64,
}

impl<B: Backend> Driver<B> {
    /// A link became the active one.
    pub(super) fn note_certificate(&mut self, link: &B::Link) {
        let certificate = link.certificate();
        self.certificates.warnings.watch(certificate);
        self.peer.status().certificate_expires = certificate.map(|one| one.not_after);
    }

    pub(super) fn look_after_certificates(&mut self, now: Instant) {
        self.look_after_expiry();
        let Some(session) = &self.session else { return };
        if session.link().is_current() {
            self.certificates.distrust = None;
            return;
        }
        // First in this order: an identity that comes meanwhile makes for another judgement.
        let judged = (session.id(), self.node.identities.number());
        let fresh = self.certificates.judged.replace(judged) != Some(judged);
        if fresh {
            let failure = session.link().is_trusted().err();
            let dials = self.association.attempt();
            self.certificates.distrust =
                failure.map(|failure| Distrust { failure, since: now, dials });
            if let Some(Distrust { failure, .. }) = &self.certificates.distrust {
                debug!(%failure, "the peer must prove itself anew");
            }
        }
        let limit = self.node.config.dial_timeout;
        match &self.certificates.distrust {
            Some(distrust) if now.duration_since(distrust.since) >= limit => self.end_distrusted(),
            _ => self.feed(Input::Renew { fresh }),
        }
    }

    /// A dial came to nothing. If it is the one by which a peer could have proved itself, the link ends that
    /// the present CA bundle does not vouch for.
    pub(super) fn dial_told(&mut self, link: LinkId, error: &AssociationError) {
        let Some(distrust) = &self.certificates.distrust else { return };
        let refused = matches!(error, AssociationError::Certificate(f) if f.by == Side::Us);
        if refused && matches!(link, LinkId::Dialled(n) if n > distrust.dials) {
            self.end_distrusted();
        }
    }

    fn end_distrusted(&mut self) {
        let Some(Distrust { failure, .. }) = self.certificates.distrust.take() else { return };
        let judged = self.certificates.judged.map(|(link, _)| link);
        // Another link may have come meanwhile, and has a judgement of its own before it.
        let (Some(session), Some(judged)) = (&self.session, judged) else { return };
        if session.id() == judged {
            self.broken(judged, failure.into());
        }
    }

    fn look_after_expiry(&mut self) {
        let Some(link) = self.session.as_ref().map(Session::id) else { return };
        let (now, config) = (self.node.config.wall_clock.now(), &self.node.config);
        if let Some(at) = self.certificates.warnings.due(now, config.expiry_warning) {
            let (until, expired) = (iso_utc(at), at <= now);
            say!(self, warn, %until, expired, "the peer's certificate expires: renew it");
            let whose = CertificateOf::Peer(self.peer.address.clone());
            self.node.emit(Event::CertificateExpiring { whose, at });
        }
        let certificate = self.certificates.warnings.certificate();
        let over = certificate.filter(|certificate| certificate.not_after < now);
        if let (OnExpiry::End, Some(over)) = (self.node.config.on_expiry, over) {
            self.broken(link, has_expired(over.not_after).into());
        }
    }
}
