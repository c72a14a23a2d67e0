//! When to warn of a certificate that expires. Pure: what time it is, is an argument.

use std::time::{Duration, SystemTime};

use crate::tls::Certificate;

const DAILY: Duration = Duration::from_secs(86_400);

/// The warnings about one certificate, and about those that take its place.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    certificate: Option<Certificate>,
    said: Option<SystemTime>,
}

impl Warnings {
    /// The certificate in use from now on. One that was in use goes on where it was.
    pub(crate) fn watch(&mut self, certificate: Option<Certificate>) {
        if self.certificate != certificate {
            *self = Self { certificate, said: None };
        }
    }

    pub(crate) fn certificate(&self) -> Option<Certificate> {
        self.certificate
    }

    /// When the certificate expires, if it is time to say so.
    pub(crate) fn due(&mut self, now: SystemTime, lead: Duration) -> Option<SystemTime> {
        let certificate = self.certificate.filter(|one| expires_soon(one, now, lead))?;
        match self.said.map(|said| now.duration_since(said)) {
            Some(Ok(since)) if since < DAILY => return None,
            // The clock was set back. The day begins anew.
            Some(Err(_)) => {
                self.said = Some(now);
                return None;
            }
            _ => self.said = Some(now),
        }
        Some(certificate.not_after)
    }
}

/// Whether a certificate has less left than `lead`, and than a quarter of its life: whoever renews at two
/// thirds of it, as cert-manager does, is not to hear of it before.
fn expires_soon(certificate: &Certificate, now: SystemTime, lead: Duration) -> bool {
    let Certificate { not_before, not_after, .. } = *certificate;
    let life = not_after.duration_since(not_before).unwrap_or_default();
    match not_after.duration_since(now) {
        Ok(left) => left <= lead.min(life / 4),
        Err(_) => true,
    }
}
