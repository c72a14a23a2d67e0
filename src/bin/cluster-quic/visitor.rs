//! What `ping` and `load` are to the node that they visit: a node of its cluster for a while, at an address
//! that no other has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::rand;
use cluster_quic::Address;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::report::tame;

/// What an address's host resolves to, which is something.
///
/// # Errors
/// Why it does not, in words.
pub(crate) async fn resolve(address: &Address, limit: Duration) -> Result<Vec<SocketAddr>, String> {
    let host = address.host();
    match timeout(limit, lookup_host((host, address.port()))).await {
        Err(_) => Err(format!("{host} was not resolved within {limit:?}")),
        Ok(Err(error)) => Err(format!("{host} does not resolve: {}", tame(&error.to_string()))),
        Ok(Ok(found)) => {
            let found: Vec<_> = found.collect();
            if found.is_empty() { Err(format!("{host} has no address")) } else { Ok(found) }
        }
    }
}

/// What to bind, to reach these. A socket for IPv6 reaches both.
pub(crate) fn any(to: &[SocketAddr]) -> IpAddr {
    match to.iter().any(SocketAddr::is_ipv6) {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// The port that is claimed: one at which no node is. The system's choice could be that of a real node with
/// this certificate, whose place in the visited node's memory this one would take.
pub(crate) fn port(visited: &Address) -> Result<u16, Failure> {
    let mut random = [0; 2];
    rand::fill(&mut random).map_err(|_| Failure::wrong("no random numbers"))?;
    let port = 1 + u16::from_be_bytes(random) % 1022;
    Ok(if port >= visited.port() { port + 1 } else { port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_the_family_of_what_it_has_to_reach() {
        let [four, six] = ["192.0.2.7:1", "[2001:db8::7]:1"].map(|to| to.parse().unwrap());
        assert!(any(&[four]).is_ipv4());
        assert!(any(&[six]).is_ipv6());
        assert!(any(&[four, six]).is_ipv6());
    }
}
