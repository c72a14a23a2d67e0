//! Reading PEM and looking into certificates.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::error::IdentityError;
use super::trust::Certificate;
use super::{crypto_provider, iso_utc};

/// PEM text and where it came from.
pub(crate) struct Pem {
    place: String,
    bytes: Vec<u8>,
}

impl Pem {
    pub(super) fn read(role: &str, path: &Path) -> Result<Self, IdentityError> {
        Self::found(role, path, fs::read(path))
    }

    /// What reading a file came to.
    pub(crate) fn found(
        role: &str,
        path: &Path,
        read: std::io::Result<Vec<u8>>,
    ) -> Result<Self, IdentityError> {
        let place = format!("{role} {}", path.display());
        match read {
            Ok(bytes) => Ok(Self { place, bytes }),
            Err(source) => Err(IdentityError::Read { place, source }),
        }
    }

    pub(super) fn in_memory(role: &str, bytes: &[u8]) -> Self {
        Self { place: format!("the {role} given in memory"), bytes: bytes.to_vec() }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// All certificates, at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let certificates = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.malformed(&error))?;
        if certificates.is_empty() {
            return Err(self.no_pem("CERTIFICATE"));
        }
        for (index, certificate) in certificates.iter().enumerate() {
            parse(certificate, &self.place, index + 1)?;
        }
        Ok(certificates)
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        // The second form is what OpenSSL wrote before PKCS #8: the label does not tell.
        if self.labels().iter().any(|l| l == "ENCRYPTED PRIVATE KEY")
            || contains(&self.bytes, b"Proc-Type: 4,ENCRYPTED")
        {
            return Err(IdentityError::EncryptedKey { place: self.place.clone() });
        }
        let mut keys = PrivateKeyDer::pem_slice_iter(&self.bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.malformed(&error))?;
        match keys.len() {
            0 => Err(self.no_pem("PRIVATE KEY")),
            1 => Ok(keys.remove(0)),
            count => Err(IdentityError::SeveralKeys { place: self.place.clone(), count }),
        }
    }

    /// All certificates, at least one, each a CA.
    pub(super) fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let mut roots = RootCertStore::empty();
        let now = SystemTime::now();
        for (index, certificate) in self.certificates()?.into_iter().enumerate() {
            let position = index + 1;
            self.check_ca(&certificate, position, now)?;
            roots.add(certificate).map_err(|error| IdentityError::MalformedCertificate {
                place: self.place.clone(),
                position,
                detail: error.to_string(),
            })?;
        }
        Ok(roots)
    }

    fn check_ca(
        &self,
        certificate: &CertificateDer<'_>,
        position: usize,
        now: SystemTime,
    ) -> Result<(), IdentityError> {
        let parsed = parse(certificate, &self.place, position)?;
        let malformed = |error| malformed_certificate(&self.place, position, &error);
        let basic_constraints = parsed.basic_constraints().map_err(malformed)?;
        let key_usage = parsed.key_usage().map_err(malformed)?;
        let detail = match (basic_constraints, key_usage) {
            (None, _) => "it has no basic constraints",
            (Some(basic), _) if !basic.value.ca => "its basic constraints say CA:FALSE",
            (_, Some(usage)) if !usage.value.key_cert_sign() => {
                "its key usage does not allow it to sign certificates"
            }
            _ => {
                let not_after = system_time(parsed.validity().not_after.timestamp());
                if not_after < now {
                    tracing::warn!(
                        ca = %parsed.subject(),
                        "{}: this CA expired on {} and is still trusted; take it out of the \
                         bundle if that is not meant",
                        self.place,
                        iso_utc(not_after),
                    );
                }
                return Ok(());
            }
        };
        Err(IdentityError::NotACa {
            place: self.place.clone(),
            position,
            subject: parsed.subject().to_string(),
            detail: detail.to_owned(),
        })
    }

    fn no_pem(&self, expected: &'static str) -> IdentityError {
        IdentityError::NoPem {
            place: self.place.clone(),
            expected,
            found: self.labels(),
            looks_like_der: looks_like_der(&self.bytes),
        }
    }

    fn malformed(&self, error: &pem::Error) -> IdentityError {
        // Two of the parser's own messages list the bytes of a line as numbers.
        let detail = match error {
            pem::Error::MissingSectionEnd { end_marker } => {
                format!("the block {} has no end line", String::from_utf8_lossy(end_marker))
            }
            pem::Error::IllegalSectionStart { .. } => {
                "a BEGIN line does not end in five dashes".to_owned()
            }
            error => error.to_string(),
        };
        IdentityError::MalformedPem { place: self.place.clone(), detail }
    }

    /// The labels of the PEM blocks, each once. The PEM parser passes over the labels it does not
    /// know, but those are just the ones worth naming in an error.
    fn labels(&self) -> Vec<String> {
        let mut labels = Vec::new();
        for line in String::from_utf8_lossy(&self.bytes).lines() {
            let label = line
                .strip_prefix("-----BEGIN ")
                .and_then(|rest| rest.trim_end().strip_suffix("-----"));
            if let Some(label) = label
                && !labels.iter().any(|known| known == label)
            {
                labels.push(label.to_owned());
            }
        }
        labels
    }
}

/// Whether it begins as certificates and keys do in DER: with a sequence, of which the length follows in
/// one of two forms.
fn looks_like_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x81 | 0x82, ..] => true,
        // That of the shortest keys. As text it would be `0` and a letter, so it has to be the file's.
        [0x30, length, content @ ..] => *length < 0x80 && usize::from(*length) == content.len(),
        _ => false,
    }
}

/// Does the key belong to the first certificate?
pub(super) fn check_key(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    chain_place: &str,
    key_place: &str,
) -> Result<(), IdentityError> {
    let signing_key =
        crypto_provider().key_provider.load_private_key(key.clone_key()).map_err(|error| {
            IdentityError::UnusableKey { place: key_place.to_owned(), detail: error.to_string() }
        })?;
    let matches = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], signing_key.clone()).keys_match()
    };
    match matches(&chain[0]) {
        // Unknown is a key that does not tell its public half; a handshake would tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::KeyMismatch {
            certificate: chain_place.to_owned(),
            key: key_place.to_owned(),
            belongs_to: chain
                .iter()
                .position(|other| matches(other).is_ok())
                .map(|index| index + 1),
        }),
        Err(error) => Err(malformed_certificate(chain_place, 1, &error)),
    }
}

/// The names that a certificate covers, its fingerprint and its dates.
pub(super) fn describe(
    certificate: &CertificateDer<'_>,
    place: &str,
) -> Result<(Vec<String>, Certificate), IdentityError> {
    let parsed = parse(certificate, place, 1)?;
    let names = names(&parsed).map_err(|error| malformed_certificate(place, 1, &error))?;
    let described = Certificate::read(certificate)
        .ok_or_else(|| malformed_certificate(place, 1, &"it cannot be read"))?;
    Ok((names, described))
}

/// The names that a certificate covers; none if it cannot be read.
pub(super) fn covered_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    X509Certificate::from_der(certificate)
        .ok()
        .and_then(|(_, parsed)| names(&parsed).ok())
        .unwrap_or_default()
}

/// Is the node's own certificate one that peers will accept, as far as this can be known here?
pub(super) fn check_leaf(
    certificate: &CertificateDer<'_>,
    place: &str,
    now: SystemTime,
) -> Result<(), IdentityError> {
    let parsed = parse(certificate, place, 1)?;
    let place = place.to_owned();
    if parsed.is_ca() {
        return Err(IdentityError::LeafIsCa { place, subject: parsed.subject().to_string() });
    }

    let not_before = system_time(parsed.validity().not_before.timestamp());
    let not_after = system_time(parsed.validity().not_after.timestamp());
    if now > not_after {
        return Err(IdentityError::Expired { place, not_after, now });
    }
    if now < not_before {
        return Err(IdentityError::NotYetValid { place, not_before, now });
    }

    match names(&parsed) {
        Err(error) => return Err(malformed_certificate(&place, 1, &error)),
        Ok(names) if names.is_empty() => return Err(IdentityError::NoNames { place }),
        Ok(_) => {}
    }

    match parsed.extended_key_usage() {
        Err(error) => Err(malformed_certificate(&place, 1, &error)),
        // Without the extension every usage is allowed.
        Ok(None) => Ok(()),
        Ok(Some(usage)) => {
            // anyExtendedKeyUsage does not count: peers look for the very usage.
            let mut missing = Vec::new();
            if !usage.value.server_auth {
                missing.push("serverAuth");
            }
            if !usage.value.client_auth {
                missing.push("clientAuth");
            }
            if missing.is_empty() {
                Ok(())
            } else {
                Err(IdentityError::MissingUsage { place, missing: missing.join(" and ") })
            }
        }
    }
}

/// A time in a certificate, which counts seconds since 1970 and may lie before.
pub(crate) fn system_time(timestamp: i64) -> SystemTime {
    let distance = Duration::from_secs(timestamp.unsigned_abs());
    if timestamp < 0 {
        SystemTime::UNIX_EPOCH - distance
    } else {
        SystemTime::UNIX_EPOCH + distance
    }
}

fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
    place: &str,
    position: usize,
) -> Result<X509Certificate<'a>, IdentityError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(malformed_certificate(place, position, &"bytes follow its end")),
        Err(error) => Err(malformed_certificate(place, position, &error)),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, x509_parser::error::X509Error> {
    let Some(extension) = certificate.subject_alternative_name()? else {
        return Ok(Vec::new());
    };
    Ok(extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => ip_address(bytes).map(|ip| ip.to_string()),
            _ => None,
        })
        .collect())
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn malformed_certificate(
    place: &str,
    position: usize,
    detail: &dyn std::fmt::Display,
) -> IdentityError {
    IdentityError::MalformedCertificate {
        place: place.to_owned(),
        position,
        detail: detail.to_string(),
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_is_known_by_its_beginning() {
        let key = rcgen::KeyPair::generate().unwrap();
        // PKCS #8 of P-256, with a length of one byte; what it holds is the older form, with a short one.
        let pkcs8 = key.serialize_der();
        assert_eq!(pkcs8[..2], [0x30, 0x81]);
        let sec1 = pkcs8.windows(2).rposition(|pair| pair == [0x30, 0x6b]);
        let sec1 = &pkcs8[sec1.expect("an ECPrivateKey without parameters")..];
        let certificate = [0x30, 0x82, 1, 2, 3];
        for der in [&pkcs8, sec1, &certificate] {
            assert!(looks_like_der(der), "{der:02x?}");
        }
        for other in
            [&b""[..], b"0", b"0k", b"0w and some text", b"-----BEGIN", &[0x31, 0x82, 0, 0]]
        {
            assert!(!looks_like_der(other), "{other:02x?}");
        }
    }
}
