//! Why an identity could not be loaded.

use std::io;
use std::time::SystemTime;

use super::iso_utc;

/// Why an [`Identity`](super::Identity) could not be loaded.
///
/// `place` is what the fault was found in, ready to print: "certificate chain certs/node-a.pem",
/// or "the certificate chain given in memory". `position` counts certificates within it from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file is missing or cannot be read.
    #[error("{place}: cannot be read: {source}")]
    #[non_exhaustive]
    Read {
        /// The file.
        place: String,
        /// Why.
        source: io::Error,
    },

    /// There is no PEM block of the right kind.
    #[error("{place}: {}, expected {expected}{}", contents(.found), der_hint(.looks_like_der))]
    #[non_exhaustive]
    NoPem {
        /// The file, or what was given in memory.
        place: String,
        /// The kind of block that should be there, such as `CERTIFICATE`.
        expected: &'static str,
        /// The kinds of block that are there instead, each once.
        found: Vec<String>,
        /// Whether the bytes look like DER, the binary form that PEM wraps.
        looks_like_der: bool,
    },

    /// A PEM block is cut short or is not base64.
    #[error("{place}: is not valid PEM: {detail}")]
    #[non_exhaustive]
    MalformedPem {
        /// The file, or what was given in memory.
        place: String,
        /// What the parser said.
        detail: String,
    },

    /// A `CERTIFICATE` block does not hold a certificate that can be used.
    #[error("{place}: certificate {position} is malformed: {detail}")]
    #[non_exhaustive]
    MalformedCertificate {
        /// The file, or what was given in memory.
        place: String,
        /// Which certificate, from 1.
        position: usize,
        /// What the parser said.
        detail: String,
    },

    /// The private key is protected by a passphrase.
    #[error(
        "{place}: holds an ENCRYPTED PRIVATE KEY: decrypt it first, for example with \
         `openssl pkey -in FILE -out DECRYPTED`, and keep the result readable by the node alone"
    )]
    #[non_exhaustive]
    EncryptedKey {
        /// The file, or what was given in memory.
        place: String,
    },

    /// There is more than one private key, so it is not clear which one is meant.
    #[error("{place}: holds {count} private keys, expected exactly one")]
    #[non_exhaustive]
    SeveralKeys {
        /// The file, or what was given in memory.
        place: String,
        /// How many.
        count: usize,
    },

    /// The private key is malformed or of an unsupported kind.
    #[error("{place}: the private key cannot be used: {detail}")]
    #[non_exhaustive]
    UnusableKey {
        /// The file, or what was given in memory.
        place: String,
        /// What the crypto provider said.
        detail: String,
    },

    /// The private key belongs to another certificate.
    #[error(
        "{key}: the private key does not belong to the first certificate of {certificate}{}",
        order_hint(.belongs_to)
    )]
    #[non_exhaustive]
    KeyMismatch {
        /// Where the certificate came from.
        certificate: String,
        /// Where the key came from.
        key: String,
        /// The position of the certificate it does belong to, if that is further down the chain.
        belongs_to: Option<usize>,
    },

    /// The node's certificate has expired.
    #[error(
        "{place}: the certificate expired on {}; it is now {}. Issue a new one",
        iso_utc(*.not_after), iso_utc(*.now)
    )]
    #[non_exhaustive]
    Expired {
        /// The file, or what was given in memory.
        place: String,
        /// When it expired.
        not_after: SystemTime,
        /// The time of the check.
        now: SystemTime,
    },

    /// The node's certificate is not valid yet.
    #[error(
        "{place}: the certificate is valid only from {}; it is now {}. Check this machine's clock",
        iso_utc(*.not_before), iso_utc(*.now)
    )]
    #[non_exhaustive]
    NotYetValid {
        /// The file, or what was given in memory.
        place: String,
        /// When it becomes valid.
        not_before: SystemTime,
        /// The time of the check.
        now: SystemTime,
    },

    /// The node's certificate covers no host.
    #[error(
        "{place}: the certificate has no DNS name and no IP address among its subject alternative \
         names, so no peer can dial this node. Issue it with the host that the node advertises \
         (the common name does not count)"
    )]
    #[non_exhaustive]
    NoNames {
        /// The file, or what was given in memory.
        place: String,
    },

    /// The node's certificate limits its extended key usage to less than a node needs.
    #[error(
        "{place}: the certificate's extended key usage does not allow {missing}. A node is both \
         client and server: issue it with both serverAuth and clientAuth"
    )]
    #[non_exhaustive]
    MissingUsage {
        /// The file, or what was given in memory.
        place: String,
        /// What is missing, such as `clientAuth`.
        missing: String,
    },

    /// The node's certificate is a CA certificate, which no peer accepts from a node.
    #[error(
        "{place}: the first certificate ({subject}) is a CA certificate. The node's own \
         certificate, issued by the CA, comes first"
    )]
    #[non_exhaustive]
    LeafIsCa {
        /// The file, or what was given in memory.
        place: String,
        /// The subject of the certificate.
        subject: String,
    },

    /// A certificate of the CA bundle cannot have issued anything.
    #[error(
        "{place}: certificate {position} ({subject}) is not a usable CA: {detail}. The bundle \
         takes the certificates of CAs, not of nodes"
    )]
    #[non_exhaustive]
    NotACa {
        /// The file, or what was given in memory.
        place: String,
        /// Which certificate, from 1.
        position: usize,
        /// The subject of the certificate.
        subject: String,
        /// Why it is not.
        detail: String,
    },

    /// The parts are sound one by one, but TLS refused to be set up with them.
    #[error("TLS cannot be set up with this identity: {detail}")]
    #[non_exhaustive]
    Configuration {
        /// What the TLS library said.
        detail: String,
    },
}

fn contents(found: &[String]) -> String {
    if found.is_empty() {
        "contains no PEM block".to_owned()
    } else {
        format!("contains {}", found.join(", "))
    }
}

fn der_hint(looks_like_der: &bool) -> &'static str {
    if *looks_like_der {
        ". It looks like DER, the binary form: convert it to PEM, for example with \
         `openssl x509 -inform der` or `openssl pkey -inform der`"
    } else {
        ""
    }
}

fn order_hint(belongs_to: &Option<usize>) -> String {
    match belongs_to {
        Some(position) => format!(
            ", but to certificate {position} of it: put the node's own certificate first, then \
             the intermediates"
        ),
        None => String::new(),
    }
}
