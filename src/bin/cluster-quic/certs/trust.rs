//! Whether a chain leads to a CA of a bundle, and whether a key belongs to a certificate: what the TLS
//! library itself says.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Signed,
    /// No CA of the bundle has the issuer's name.
    UnknownIssuer,
    /// One has its name, and another key.
    BadSignature,
    /// It cannot be told: another fault comes first.
    Unclear,
    Other(String),
}

/// Whether `chain` leads to one of `roots` at the time `at`.
pub(super) fn trust(
    chain: &[CertificateDer<'static>],
    roots: RootCertStore,
    at: SystemTime,
) -> Trust {
    let [leaf, intermediates @ ..] = chain else { return Trust::Unclear };
    let (roots, provider) = (Arc::new(roots), provider());
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let at = UnixTime::since_unix_epoch(since);
    let client =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let Ok(client) = client.build() else { return Trust::Unclear };
    let as_client = judge(client.verify_client_cert(leaf, intermediates, at).map(|_| ()));
    if as_client != Trust::Unclear {
        return as_client;
    }
    // It may be for servers alone. The name does not matter: it is looked at last.
    let server = WebPkiServerVerifier::builder_with_provider(roots, provider);
    let (Ok(server), Ok(name)) = (server.build(), ServerName::try_from("name.invalid")) else {
        return Trust::Unclear;
    };
    judge(server.verify_server_cert(leaf, intermediates, &name, &[], at).map(|_| ()))
}

fn judge(result: Result<(), Error>) -> Trust {
    use CertificateError as E;
    match result {
        Ok(()) => Trust::Signed,
        Err(Error::InvalidCertificate(error)) => match error {
            E::NotValidForName | E::NotValidForNameContext { .. } => Trust::Signed,
            E::UnknownIssuer => Trust::UnknownIssuer,
            E::BadSignature => Trust::BadSignature,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Trust::Unclear,
            other => Trust::Other(other.to_string()),
        },
        Err(other) => Trust::Other(other.to_string()),
    }
}

/// Whether the key belongs to the certificate.
///
/// # Errors
/// What is wrong with the key itself.
pub(super) fn belongs(
    key: &PrivateKeyDer<'static>,
    certificate: &CertificateDer<'static>,
) -> Result<bool, String> {
    let key = provider().key_provider.load_private_key(key.clone_key());
    let key = key.map_err(|error| error.to_string())?;
    match CertifiedKey::new(vec![certificate.clone()], key).keys_match() {
        // Unknown is a key that does not tell its public half; a handshake would tell.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(true),
        Err(_) => Ok(false),
    }
}

/// Whether the certificate covers a host: a DNS name, or an IP address with or without brackets.
pub(crate) fn covers(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let (Ok(parsed), Ok(name)) =
        (ParsedCertificate::try_from(certificate), ServerName::try_from(host))
    else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}
