//! The names that certificates and their files bear.

use std::net::IpAddr;

use rcgen::SanType;
use rustls::pki_types::DnsName;

use super::DevCertError;

pub(super) fn subject_alt_names(names: &[impl AsRef<str>]) -> Result<Vec<SanType>, DevCertError> {
    let mut sans = Vec::with_capacity(names.len());
    for name in names {
        let san = subject_alt_name(name.as_ref())?;
        if !sans.contains(&san) {
            sans.push(san);
        }
    }
    if sans.is_empty() {
        return Err(DevCertError::NoNames);
    }
    Ok(sans)
}

pub(super) fn subject_alt_name(name: &str) -> Result<SanType, DevCertError> {
    let unusable = |problem| DevCertError::Name { name: name.to_owned(), problem };
    if name.is_empty() {
        return Err(unusable("it is empty"));
    }
    if name.contains(char::is_whitespace) {
        return Err(unusable("it contains white space"));
    }
    if !name.is_ascii() {
        return Err(unusable("it is not ASCII; write it in its xn-- form"));
    }
    if let Ok(ip) = crate::tls::bare_host(name).parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let base = name.strip_prefix("*.").unwrap_or(name);
    if DnsName::try_from(base).is_err() || name.ends_with('.') {
        return Err(unusable("it is neither a DNS name nor an IP address"));
    }
    Ok(SanType::DnsName(name.to_owned().try_into()?))
}

pub(super) fn san_text(san: &SanType) -> String {
    match san {
        SanType::DnsName(name) => name.to_string(),
        SanType::IpAddress(ip) => ip.to_string(),
        other => format!("{other:?}"),
    }
}

/// Node names become file names, next to the CA's.
pub(super) fn check_node_name(name: &str) -> Result<(), DevCertError> {
    let lower = name.to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let problem = if name.is_empty() {
        "it is empty"
    } else if !name.chars().all(allowed) {
        "only ASCII letters, digits, '-', '_' and '.' are allowed"
    } else if name.starts_with(['.', '-']) {
        "it must begin with a letter, a digit or '_'"
    } else if name.len() > 100 {
        "it is longer than 100 characters"
    } else if lower == "ca" {
        "its certificate would overwrite ca.pem"
    } else if lower.ends_with("-key") {
        "its certificate would have the name of a key file"
    } else {
        return Ok(());
    };
    Err(DevCertError::NodeName { name: name.to_owned(), problem })
}
