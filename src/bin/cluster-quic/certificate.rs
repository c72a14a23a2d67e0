//! What a certificate says, in words.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::SystemTime;

use aws_lc_rs::digest;
use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::report::{field, tame};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Description {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// Subject alternative names: DNS names and IP addresses as they are, others with their kind.
    pub(crate) names: Vec<String>,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    /// Whole days until it expires; negative once it has.
    pub(crate) days_left: i64,
    pub(crate) key: String,
    pub(crate) sha256: String,
    /// Key usages and extended key usages; none if it is not limited.
    pub(crate) usages: Vec<String>,
    pub(crate) ca: bool,
    /// Whether there are extended key usages, so that what is not among them is not allowed.
    #[serde(skip)]
    pub(crate) extended: bool,
    #[serde(skip)]
    pub(crate) from: SystemTime,
    #[serde(skip)]
    pub(crate) until: SystemTime,
    #[serde(skip)]
    now: SystemTime,
}

impl Description {
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn of(der: &[u8], now: SystemTime) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        if !rest.is_empty() {
            return Err("bytes follow its end".into());
        }
        let validity = parsed.validity();
        let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        let names = parsed.subject_alternative_name().map_err(|e| e.to_string())?;
        let names = names.map(|names| names.value.general_names.iter().map(name).collect());
        let left = until.unix_timestamp() - OffsetDateTime::from(now).unix_timestamp();
        Ok(Self {
            subject: tame(&parsed.subject().to_string()),
            issuer: tame(&parsed.issuer().to_string()),
            names: names.unwrap_or_default(),
            not_before: rfc3339(from),
            not_after: rfc3339(until),
            days_left: left.div_euclid(86_400),
            key: key(&parsed),
            sha256: hex(digest::digest(&digest::SHA256, der).as_ref()),
            usages: usages(&parsed),
            ca: parsed.is_ca(),
            extended: parsed.extended_key_usage().map_err(|e| e.to_string())?.is_some(),
            from: from.into(),
            until: until.into(),
            now,
        })
    }

    /// Until when, and how long that is: `2026-12-26 09:45 UTC (29 days left)`.
    pub(crate) fn validity(&self) -> String {
        if self.now < self.from {
            let wait = span(seconds(self.now, self.from));
            format!("valid only from {}, in {wait}", day(self.from))
        } else {
            valid_until(self.until, self.now)
        }
    }

    pub(crate) fn is_current(&self) -> bool {
        (self.from..=self.until).contains(&self.now)
    }

    /// The names in a row, or that there are none.
    pub(crate) fn names_text(&self) -> String {
        if self.names.is_empty() { "no names".into() } else { self.names.join(", ") }
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        field(out, "subject", &self.subject)?;
        let own = if self.issuer == self.subject { " (itself)" } else { "" };
        field(out, "issuer", &format!("{}{own}", self.issuer))?;
        if !self.ca || !self.names.is_empty() {
            field(out, "names", &self.names_text())?;
        }
        field(out, "validity", &format!("{},\nsince {}", self.validity(), day(self.from)))?;
        field(out, "key", &self.key)?;
        let usages = match &self.usages[..] {
            [] => "not limited".into(),
            usages => usages.join(", "),
        };
        field(out, "usages", &usages)?;
        field(out, "CA", if self.ca { "yes" } else { "no" })?;
        field(out, "SHA-256", &self.sha256)
    }
}

/// Until when, and how long that is, of a certificate whose time has come.
pub(crate) fn valid_until(until: SystemTime, now: SystemTime) -> String {
    let left = seconds(now, until);
    if left < 0 {
        format!("expired on {}, {} ago", day(until), span(-left))
    } else {
        format!("valid until {} ({} left)", day(until), span(left))
    }
}

fn seconds(from: SystemTime, to: SystemTime) -> i64 {
    OffsetDateTime::from(to).unix_timestamp() - OffsetDateTime::from(from).unix_timestamp()
}

/// `2026-12-26 09:45 UTC`.
pub(crate) fn day(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", at.hour(), at.minute())
}

fn rfc3339(at: OffsetDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A number of seconds in its largest unit, rounded down.
fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => tame(name),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), bytes.len()) {
            (Ok(v4), _) => IpAddr::from(v4).to_string(),
            (_, 16) => <[u8; 16]>::try_from(*bytes)
                .map_or_else(|_| unreachable!("16 bytes long"), |v6| IpAddr::from(v6).to_string()),
            _ => "an IP address of another length".into(),
        },
        other => tame(&other.to_string()),
    }
}

fn key(certificate: &X509Certificate<'_>) -> String {
    let key = certificate.public_key();
    match (key.algorithm.algorithm.to_id_string().as_str(), key.parsed()) {
        ("1.3.101.112", _) => "Ed25519".into(),
        ("1.3.101.113", _) => "Ed448".into(),
        (_, Ok(PublicKey::RSA(rsa))) => format!("RSA, {} bits", rsa.key_size()),
        (_, Ok(PublicKey::EC(_))) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => "ECDSA, P-256".into(),
                Some("1.3.132.0.34") => "ECDSA, P-384".into(),
                Some("1.3.132.0.35") => "ECDSA, P-521".into(),
                other => format!("ECDSA, curve {}", other.unwrap_or("unknown")),
            }
        }
        (other, _) => format!("algorithm {other}"),
    }
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut usages = Vec::new();
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => {
                let named = [
                    (usage.digital_signature(), "digitalSignature"),
                    (usage.non_repudiation(), "nonRepudiation"),
                    (usage.key_encipherment(), "keyEncipherment"),
                    (usage.data_encipherment(), "dataEncipherment"),
                    (usage.key_agreement(), "keyAgreement"),
                    (usage.key_cert_sign(), "keyCertSign"),
                    (usage.crl_sign(), "cRLSign"),
                ];
                usages.extend(named.iter().filter(|(has, _)| *has).map(|(_, name)| (*name).into()));
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let named = [
                    (usage.any, "anyExtendedKeyUsage"),
                    (usage.server_auth, "serverAuth"),
                    (usage.client_auth, "clientAuth"),
                    (usage.code_signing, "codeSigning"),
                    (usage.email_protection, "emailProtection"),
                    (usage.time_stamping, "timeStamping"),
                    (usage.ocsp_signing, "OCSPSigning"),
                ];
                usages.extend(named.iter().filter(|(has, _)| *has).map(|(_, name)| (*name).into()));
                usages.extend(usage.other.iter().map(|oid| oid.to_id_string()));
            }
            _ => {}
        }
    }
    usages
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_in_their_largest_unit() {
        let all = [1, 119, 120, 7199, 7200, 172_799, 172_800, 86_400 * 29].map(span);
        let expected = [
            "1 second",
            "119 seconds",
            "2 minutes",
            "119 minutes",
            "2 hours",
            "47 hours",
            "2 days",
            "29 days",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Description::of(&[1, 2, 3], SystemTime::now()).is_err());
    }
}
