//! Does a peer's certificate cover the host it claims to be?

use std::fmt;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::load::covered_names;

/// A peer's certificate does not cover the host that the peer claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameMismatch {
    /// The host, a DNS name or an IP address, as it was given.
    pub host: String,
    /// What the certificate covers. Empty if it covers nothing or cannot be read.
    pub names: Vec<String>,
}

impl fmt::Display for NameMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, names } = self;
        if names.is_empty() {
            return write!(
                f,
                "the certificate covers no host at all, so not {host:?} either; issue it with \
                 {host:?} as a subject alternative name"
            );
        }
        write!(
            f,
            "the certificate does not cover {host:?}, only {}; use one of those as the node's \
             host, or issue the certificate again with {host:?} among its names",
            names.join(", ")
        )
    }
}

impl std::error::Error for NameMismatch {}

/// Checks that the first certificate of `chain` covers `host`: a DNS name, or an IP address with
/// or without brackets. Says nothing about who issued it; the handshake has seen to that.
pub(crate) fn verify_peer_name(
    chain: &[CertificateDer<'_>],
    host: &str,
) -> Result<(), NameMismatch> {
    let covers = || {
        let certificate = ParsedCertificate::try_from(chain.first()?).ok()?;
        let name = ServerName::try_from(bare_host(host)).ok()?;
        verify_server_name(&certificate, &name).ok()
    };
    covers().ok_or_else(|| NameMismatch {
        host: host.to_owned(),
        names: chain.first().map(covered_names).unwrap_or_default(),
    })
}

/// `host` in the form that certificates know: an IPv6 address without brackets and without the
/// zone, which means something on one machine only.
pub(crate) fn bare_host(host: &str) -> &str {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match host.split_once('%') {
        Some((address, _zone)) if address.contains(':') => address,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev_certs::DevCa;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn a_certificate_covers_its_names_and_no_others() {
        let chain = chain(&["node-a.internal", "*.pods.internal", "127.0.0.1", "fe80::1"]);
        for host in [
            "node-a.internal",
            "NODE-A.internal",
            "x.pods.internal",
            "127.0.0.1",
            "fe80::1",
            "[fe80::1]",
            "[fe80::1%eth0]",
        ] {
            assert_eq!(verify_peer_name(&chain, host), Ok(()), "{host}");
        }
        for host in [
            "node-b.internal",
            "pods.internal",
            "x.y.pods.internal",
            "127.0.0.2",
            "[::1]",
            "",
            "two words",
        ] {
            let mismatch = verify_peer_name(&chain, host).unwrap_err();
            assert_eq!(mismatch.host, host);
            assert_eq!(mismatch.names.len(), 4);
        }
    }

    #[test]
    fn a_mismatch_says_what_is_covered() {
        let mismatch = verify_peer_name(&chain(&["a.test", "::1"]), "b.test").unwrap_err();
        let text = mismatch.to_string();
        assert!(text.contains("does not cover \"b.test\", only a.test, ::1"), "{text}");
    }

    #[test]
    fn no_certificate_and_garbage_cover_nothing() {
        for chain in [vec![], vec![CertificateDer::from(vec![1, 2, 3])]] {
            let mismatch = verify_peer_name(&chain, "a.test").unwrap_err();
            assert!(mismatch.names.is_empty());
            assert!(mismatch.to_string().contains("covers no host at all"));
        }
    }

    fn chain(names: &[&str]) -> Vec<CertificateDer<'static>> {
        let issued = DevCa::new("test CA").unwrap().issue(names).unwrap();
        vec![CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap()]
    }
}
