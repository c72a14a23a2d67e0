//! Certificates of standing connections: what they say, and whether a CA bundle vouches for them.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::failure::{CertificateFailure, refused_by_us};
use super::load::system_time;
use super::{Identity, crypto_provider};
use crate::wall_clock::WallClock;

/// What tells a certificate from others, and its dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// SHA-256 of its DER.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Certificate {
    /// `None` if it cannot be read.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let validity = parsed.validity();
        Some(Self {
            fingerprint: sha256(der),
            not_before: system_time(validity.not_before.timestamp()),
            not_after: system_time(validity.not_after.timestamp()),
        })
    }
}

/// In which role of the handshake a certificate was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShownBy {
    Dialler,
    Acceptor,
}

impl Identity {
    /// Whether this identity's CA bundle vouches for a chain as it did in a handshake at `at`. It is as of
    /// then, so that this says what became of the bundle, and nothing of certificates that expired since.
    pub(crate) fn vouches_for(
        &self,
        chain: &[CertificateDer<'_>],
        by: ShownBy,
        at: SystemTime,
    ) -> Result<(), CertificateFailure> {
        let judged = || {
            let (leaf, intermediates) =
                chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
            let (provider, roots, at) = (crypto_provider(), &self.inner.roots, unix_time(at));
            match by {
                ShownBy::Dialler => {
                    WebPkiClientVerifier::builder_with_provider(roots.clone(), provider)
                        .build()
                        .map_err(|error| rustls::Error::General(error.to_string()))?
                        .verify_client_cert(leaf, intermediates, at)
                        .map(|_| ())
                }
                ShownBy::Acceptor => verify_server_cert_signed_by_trust_anchor(
                    &ParsedCertificate::try_from(leaf)?,
                    roots,
                    intermediates,
                    at,
                    provider.signature_verification_algorithms.all,
                ),
            }
        };
        judged().map_err(|error| refused_by_us(&error))
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// As rustls counts time. There is none before 1970.
fn unix_time(at: SystemTime) -> UnixTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO))
}

/// Handshakes compare certificates' dates with the node's own clock.
impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.now()))
    }
}
