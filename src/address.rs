//! Who a node is: its [`Address`], and which life of it ([`Incarnation`]).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::AddressError;

/// The scheme of this transport's addresses.
pub const SCHEME: &str = "akka.quic";

/// The longest system name or host, in bytes.
const MAX_NAME: usize = 255;

/// Where a node is reached: `akka.quic://system@host:port`.
///
/// The host is a DNS name or an IP address; IPv6 stands in brackets in text and without them in
/// [`host`](Self::host). Names are lower-cased and IP addresses brought into their canonical form,
/// so that two spellings of one host are equal. The port is never 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Address {
    system: String,
    host: String,
    port: u16,
}

impl Address {
    /// An address from its parts.
    ///
    /// # Errors
    /// [`AddressError`] names the part that cannot be used.
    pub fn new(
        system: impl Into<String>,
        host: impl Into<String>,
        port: u16,
    ) -> Result<Self, AddressError> {
        let (system, host) = (system.into(), host.into());
        check_system(&system)?;
        let host = canonical_host(&host)?;
        if port == 0 {
            return Err(AddressError::PortZero);
        }
        Ok(Self { system, host, port })
    }

    /// The actor system's (or cluster member's) name.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// DNS name, or IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system, host, port } = self;
        if host.contains(':') {
            write!(f, "{SCHEME}://{system}@[{host}]:{port}")
        } else {
            write!(f, "{SCHEME}://{system}@{host}:{port}")
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed { text: text.chars().take(300).collect() };
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        if scheme != SCHEME {
            return Err(AddressError::Scheme { scheme: scheme.chars().take(40).collect() });
        }
        let (system, host_port) = rest.split_once('@').ok_or_else(malformed)?;
        let (host, port) = host_port.rsplit_once(':').ok_or_else(malformed)?;
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(AddressError::Brackets);
        }
        let port = port.parse().map_err(|_| malformed())?;
        Self::new(system, host, port)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

pub(crate) fn check_system(system: &str) -> Result<(), AddressError> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if system.is_empty() || system.len() > MAX_NAME || !system.chars().all(allowed) {
        return Err(AddressError::System { system: system.chars().take(40).collect() });
    }
    Ok(())
}

fn canonical_host(host: &str) -> Result<String, AddressError> {
    let refused = || AddressError::Host { host: host.chars().take(80).collect() };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(AddressError::NotReachable { ip });
        }
        return Ok(ip.to_string());
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > MAX_NAME || !name.split('.').all(label) {
        return Err(refused());
    }
    // All digits and dots, yet no IP address: a typing error, never a name.
    if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(refused());
    }
    Ok(name.to_ascii_lowercase())
}

/// One life of a node: greater than every earlier one of the same address.
///
/// By default the microseconds since the Unix epoch at the node's start. Everything that a peer
/// knows of a node (positions in its lanes, frames on their way to it) belongs to one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_what_they_print() {
        for text in [
            "akka.quic://sys@127.0.0.1:4000",
            "akka.quic://sys@[::1]:4000",
            "akka.quic://my-sys_2@node-a.example.org:65535",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn one_host_has_one_spelling() {
        let a = Address::new("s", "[0:0:0:0:0:0:0:1]", 1).unwrap();
        assert_eq!(a, "akka.quic://s@[::1]:1".parse().unwrap());
        assert_eq!(Address::new("s", "Node-A.", 1), Address::new("s", "node-a", 1));
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        let of = |text: &str| text.parse::<Address>().unwrap_err();
        assert!(matches!(of("nonsense"), AddressError::Malformed { .. }));
        assert!(matches!(of("akka.tcp://s@h:1"), AddressError::Scheme { .. }));
        assert!(matches!(of("akka.quic://@h:1"), AddressError::System { .. }));
        assert!(matches!(of("akka.quic://s@:1"), AddressError::Host { .. }));
        assert!(matches!(of("akka.quic://s@a b:1"), AddressError::Host { .. }));
        assert!(matches!(of("akka.quic://s@1.2.3.400:1"), AddressError::Host { .. }));
        assert!(matches!(of("akka.quic://s@::1:1"), AddressError::Brackets));
        assert!(matches!(of("akka.quic://s@h:0"), AddressError::PortZero));
        assert!(matches!(of("akka.quic://s@h:70000"), AddressError::Malformed { .. }));
        assert!(matches!(of("akka.quic://s@0.0.0.0:1"), AddressError::NotReachable { .. }));
    }
}
