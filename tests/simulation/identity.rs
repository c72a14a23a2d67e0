//! Certificates whose length does not vary from one handshake to the next, as ECDSA's do: a packet
//! trace repeats itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster_quic::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// The host of all simulated nodes.
pub(crate) const HOST: &str = "127.0.0.1";

/// A certificate authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// What a certificate says; the default is a good one.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    pub(crate) name: &'static str,
    /// Days from now.
    pub(crate) valid: (i64, i64),
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Default for Claims {
    fn default() -> Self {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { name: HOST, valid: (-1, 30), usages }
    }
}

/// A certificate and its key, both PEM.
pub(crate) struct Certificate {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        // Authorities of different names: with one name, another's certificate has a bad signature.
        static COUNT: AtomicU64 = AtomicU64::new(1_000);
        let name = format!("ca {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(vec![1; 8]));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn issue(&self, claims: &Claims) -> Certificate {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(vec![claims.name.to_owned()]).unwrap();
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::days(claims.valid.0);
        params.not_after = now + Duration::days(claims.valid.1);
        params.serial_number = Some(SerialNumber::from(vec![2; 8]));
        params.extended_key_usages = claims.usages.clone();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate { chain, key: key.serialize_pem() }
    }

    pub(crate) fn identity(&self) -> Identity {
        let Certificate { chain, key } = self.issue(&Claims::default());
        Identity::from_pem(chain.as_bytes(), key.as_bytes(), self.pem.as_bytes()).unwrap()
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }
}

impl Certificate {
    pub(crate) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        (chain.map(Result::unwrap).collect(), key)
    }
}

/// The process's own: all nodes of all worlds show the same certificate.
pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Ca::new().identity())
}
