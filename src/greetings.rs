//! How many connections of others may be shaking hands and greeting at a time: in all, and from one host,
//! so that a host which connects and says nothing leaves room for the others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes and greetings that may be under way.
pub(crate) const MAX_GREETING: usize = 256;

/// Those of one host.
const MAX_OF_HOST: usize = MAX_GREETING / 2;

pub(crate) struct Greetings {
    turns: Arc<Semaphore>,
    hosts: Hosts,
}

#[derive(Clone, Default)]
struct Hosts(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place for one more, from whomever.
pub(crate) struct Turn {
    permit: OwnedSemaphorePermit,
    hosts: Hosts,
}

/// A place that is taken, until it is dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    hosts: Hosts,
    host: Option<IpAddr>,
}

impl Greetings {
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(MAX_GREETING)), hosts: Hosts::default() }
    }

    /// Waits for a place. Cancel-safe.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        let permit = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        Some(Turn { permit, hosts: self.hosts.clone() })
    }
}

impl Turn {
    /// Takes the place for somebody at `origin`; `None` if that host has as many as one may have.
    pub(crate) fn of(self, origin: Option<IpAddr>) -> Option<Place> {
        let host = origin.map(host);
        if let Some(host) = host {
            let mut hosts = self.hosts.lock();
            let of_host = hosts.entry(host).or_default();
            if *of_host >= MAX_OF_HOST {
                return None;
            }
            *of_host += 1;
        }
        Some(Place { _permit: self.permit, hosts: self.hosts, host })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(host) = self.host else { return };
        let mut hosts = self.hosts.lock();
        if let Some(of_host) = hosts.get_mut(&host) {
            *of_host -= 1;
            if *of_host == 0 {
                hosts.remove(&host);
            }
        }
    }
}

impl Hosts {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one host: an IPv6 host has all of its network's 64 bits to itself.
fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_host_has_half_of_the_places_at_most() {
        let greetings = Greetings::new();
        let take = async |ip: &str| greetings.turn().await?.of(Some(ip.parse().unwrap()));
        let mut places = Vec::new();
        while let Some(place) = take("192.0.2.1").await {
            places.push(place);
        }
        assert_eq!(places.len(), MAX_OF_HOST);
        assert!(take("::ffff:192.0.2.1").await.is_none(), "the same host, as a dual socket has it");
        for n in 0..MAX_GREETING - MAX_OF_HOST {
            places.push(take(&format!("198.51.100.{}", n % 250)).await.expect("room for others"));
        }
        let full = greetings.turn();
        let waits = tokio::time::timeout(std::time::Duration::from_millis(1), full).await;
        assert!(waits.is_err(), "all places are taken");
        places.remove(0);
        places.push(take("192.0.2.1").await.expect("one has gone"));
        drop(places);
        assert!(greetings.hosts.lock().is_empty(), "hosts are forgotten");
    }

    #[tokio::test]
    async fn an_ipv6_network_is_one_host_and_no_host_has_no_limit() {
        let greetings = Greetings::new();
        let mut places = Vec::new();
        for n in 0..MAX_OF_HOST {
            let ip = format!("2001:db8:1:2::{n:x}").parse().unwrap();
            places.push(greetings.turn().await.unwrap().of(Some(ip)).expect("room"));
        }
        let ip = |text: &str| Some(text.parse().unwrap());
        assert!(greetings.turn().await.unwrap().of(ip("2001:db8:1:2:ffff::1")).is_none());
        assert!(greetings.turn().await.unwrap().of(ip("2001:db8:1:3::1")).is_some());
        while places.len() < MAX_GREETING {
            places.push(greetings.turn().await.unwrap().of(None).expect("room"));
        }
    }
}
