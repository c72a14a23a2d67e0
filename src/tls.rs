//! Who a node is and whom it trusts.
//!
//! Every connection is mutual TLS 1.3: each side shows a certificate and checks the other's
//! against its own CA bundle. Nothing here turns that off.

mod error;
mod failure;
mod load;
mod name;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::{digest, hmac};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self as provider, cipher_suite};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};

pub use error::IdentityError;
pub(crate) use failure::classify;
pub use failure::{CertificateFailure, CertificateProblem, Side};
use load::Pem;
pub(crate) use load::system_time;
pub use name::NameMismatch;
pub(crate) use name::{bare_host, verify_peer_name};

/// What a node shows to its peers and what it expects of them: its certificate chain, the private
/// key of that certificate, and the CA certificates it trusts.
///
/// A node accepts connections and makes them with the same certificate, so that certificate must
/// be fit for both: it names the hosts under which other nodes dial this one (subject alternative
/// names), and if it limits its extended key usage, both server and client authentication are
/// allowed.
///
/// Everything that can be checked without a peer is checked when an identity is loaded. What is
/// not checked is whether a CA of the bundle issued the node's own certificate: while a cluster
/// moves from one CA to another, a node may well trust CAs that did not issue its certificate.
///
/// The dates of the CA certificates are not looked at, neither here nor during a handshake: a CA
/// is trusted for as long as it is in the bundle. Take it out to end that trust.
///
/// Clones share one copy. `Debug` shows the names, the expiry date and the fingerprint, never the
/// key.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    names: Vec<String>,
    not_after: SystemTime,
}

impl Identity {
    /// Loads an identity from three PEM files.
    ///
    /// - `certificate_chain`: the node's own certificate first, then the intermediate
    ///   certificates that lead to the CA, if there are any. The CA itself is not needed.
    /// - `private_key`: the one private key of the first certificate, unencrypted; PKCS #8
    ///   (`PRIVATE KEY`), SEC 1 (`EC PRIVATE KEY`) or PKCS #1 (`RSA PRIVATE KEY`).
    /// - `ca_bundle`: one or more CA certificates. A peer is accepted if any of them issued its
    ///   certificate.
    ///
    /// The files are read now and not watched; load again to pick up a renewed certificate.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] says which file is at fault, what is wrong with it and, where that helps,
    /// what to do.
    pub fn from_pem_files(
        certificate_chain: impl AsRef<Path>,
        private_key: impl AsRef<Path>,
        ca_bundle: impl AsRef<Path>,
    ) -> Result<Self, IdentityError> {
        let chain = Pem::read("certificate chain", certificate_chain.as_ref())?;
        let key = Pem::read("private key", private_key.as_ref())?;
        let ca_bundle = Pem::read("CA bundle", ca_bundle.as_ref())?;
        Self::load(&chain, &key, &ca_bundle)
    }

    /// Loads an identity from PEM text in memory; the three arguments hold what the three files of
    /// [`from_pem_files`](Self::from_pem_files) hold.
    ///
    /// # Errors
    ///
    /// The same as for files, except that nothing can fail to be read.
    pub fn from_pem(chain: &[u8], key: &[u8], ca_bundle: &[u8]) -> Result<Self, IdentityError> {
        Self::load(
            &Pem::in_memory("certificate chain", chain),
            &Pem::in_memory("private key", key),
            &Pem::in_memory("CA bundle", ca_bundle),
        )
    }

    /// The host names and IP addresses that the certificate covers, as written in it (a wildcard
    /// stays `*.example.com`; an IPv6 address has no brackets). Never empty.
    pub fn names(&self) -> &[String] {
        &self.inner.names
    }

    /// Whether the certificate covers a host that the node would advertise.
    pub(crate) fn covers(&self, host: &str) -> Result<(), NameMismatch> {
        verify_peer_name(&self.inner.chain, host)
    }

    /// When the node's certificate expires. Peers refuse new connections from then on.
    pub fn not_after(&self) -> SystemTime {
        self.inner.not_after
    }

    /// SHA-256 of the node's certificate (DER) as 64 lower-case hex digits, without colons.
    pub fn fingerprint(&self) -> String {
        digest::digest(&digest::SHA256, &self.inner.chain[0])
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The cipher suite and the key exchange that a dial asks for first, and that every node of this
    /// version agrees to. QUIC's implementation does not tell what was agreed on.
    #[doc(hidden)]
    pub fn first_choices() -> [String; 2] {
        let provider = crypto_provider();
        let suite = provider.cipher_suites.first().map(|suite| format!("{:?}", suite.suite()));
        let group = provider.kx_groups.first().map(|group| format!("{:?}", group.name()));
        [suite, group].map(Option::unwrap_or_default)
    }

    /// The TLS side of an endpoint that accepts connections.
    pub(crate) fn server_config(&self, alpn: &[u8]) -> Result<ServerConfig, IdentityError> {
        let provider = crypto_provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.inner.roots),
            Arc::clone(&provider),
        )
        .build()
        .map_err(|error| IdentityError::Configuration { detail: error.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(configuration)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.inner.chain.clone(), self.inner.key.clone_key())
            .map_err(configuration)?;
        config.alpn_protocols = vec![alpn.to_vec()];
        // A resumed session would skip the certificates, and with them an expiry or a CA that was
        // taken out of the bundle. Every connection is judged anew.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The TLS side of an endpoint that dials.
    pub(crate) fn client_config(&self, alpn: &[u8]) -> Result<ClientConfig, IdentityError> {
        let mut config = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(configuration)?
            .with_root_certificates(Arc::clone(&self.inner.roots))
            .with_client_auth_cert(self.inner.chain.clone(), self.inner.key.clone_key())
            .map_err(configuration)?;
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }

    /// 32 bytes that only the holder of the private key can compute, the same after a restart and
    /// different for each `label`.
    ///
    /// This is HKDF-SHA256 (RFC 5869) of the private key's DER with `label` as info, written out
    /// over HMAC because one block of output is all there is to it.
    pub(crate) fn derive_secret(&self, label: &str) -> [u8; 32] {
        let salt = hmac::Key::new(hmac::HMAC_SHA256, DERIVATION_SALT);
        let pseudorandom_key = hmac::sign(&salt, self.inner.key.secret_der());
        let expand = hmac::Key::new(hmac::HMAC_SHA256, pseudorandom_key.as_ref());
        let mut info = label.as_bytes().to_vec();
        info.push(1);
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&expand, &info).as_ref());
        secret
    }

    fn load(chain: &Pem, key: &Pem, ca_bundle: &Pem) -> Result<Self, IdentityError> {
        let identity = Self::assemble(chain, key, ca_bundle)?;
        load::check_leaf(&identity.inner.chain[0], chain.place(), SystemTime::now())?;
        Ok(identity)
    }

    /// Everything but the checks on what the certificate says. On its own only for tests, which
    /// need nodes whose certificates their peers refuse.
    fn assemble(chain: &Pem, key: &Pem, ca_bundle: &Pem) -> Result<Self, IdentityError> {
        let certificates = chain.certificates()?;
        let private_key = key.private_key()?;
        load::check_key(&certificates, &private_key, chain.place(), key.place())?;
        let roots = ca_bundle.roots()?;
        let (names, not_after) = load::describe(&certificates[0], chain.place())?;
        Ok(Self {
            inner: Arc::new(Inner {
                chain: certificates,
                key: private_key,
                roots: Arc::new(roots),
                names,
                not_after,
            }),
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("names", &self.inner.names)
            .field("not_after", &format_args!("{}", iso_utc(self.not_after())))
            .field("fingerprint", &format_args!("{}", self.fingerprint()))
            .finish_non_exhaustive()
    }
}

/// `YYYY-MM-DD HH:MM UTC`, rounded down to the minute.
pub(crate) fn iso_utc(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02} UTC",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute()
    )
}

// Fixed for good: another salt would change every node's derived secrets.
const DERIVATION_SALT: &[u8] = b"cluster-quic derived secret v1";

/// The process may have another default provider, or two features that fight over it, so none of
/// that is consulted.
fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        // The order is the preference. The hybrid group comes first so that traffic recorded
        // today stays closed to a quantum computer later.
        kx_groups: vec![
            provider::kx_group::X25519MLKEM768,
            provider::kx_group::X25519,
            provider::kx_group::SECP256R1,
            provider::kx_group::SECP384R1,
        ],
        cipher_suites: cipher_suites(),
        ..provider::default_provider()
    })
}

/// The dialler's order decides. AES with a 128-bit key leads where the processor has instructions for it:
/// it is the suite that TLS 1.3 demands of everyone, and takes a fifth less of the time that encryption
/// takes than a 256-bit key (a twentieth of all). Without the instructions ChaCha20 is the fast one, and
/// AES in software is slow.
fn cipher_suites() -> Vec<SupportedCipherSuite> {
    let aes = [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384]
        .into_iter();
    let chacha = std::iter::once(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
    if has_aes_instructions() { aes.chain(chacha).collect() } else { chacha.chain(aes).collect() }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

fn configuration(error: rustls::Error) -> IdentityError {
    IdentityError::Configuration { detail: error.to_string() }
}
