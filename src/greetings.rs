//! How many connections of others may be shaking hands and greeting at a time: in all, and from one host.
//!
//! Who connects and says nothing keeps his places for seconds, so a host that has many leaves room for the others:
//! where all places are taken, one that has fewer gets the oldest of the host that has most. To keep everybody out
//! takes as many hosts as there are places.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// Handshakes and greetings that may be under way.
pub(crate) const MAX_GREETING: usize = 256;

/// Those of one host.
const MAX_OF_HOST: usize = MAX_GREETING / 2;

#[derive(Default)]
pub(crate) struct Greetings(Arc<Shared>);

#[derive(Default)]
struct Shared {
    places: Mutex<Places>,
    /// A place is free again.
    freed: Notify,
}

#[derive(Default)]
struct Places {
    taken: usize,
    given: u64,
    /// Those of each host by age, each with what tells it, dropped, that it is taken away.
    hosts: HashMap<IpAddr, BTreeMap<u64, oneshot::Sender<()>>>,
}

/// A place that is taken, until it is dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    number: u64,
    host: Option<Host>,
}

struct Host {
    ip: IpAddr,
    kept: oneshot::Receiver<()>,
}

enum Answer {
    Take(u64, Option<Host>),
    PutOff,
    Wait,
}

impl Greetings {
    /// A place for somebody at `origin`, which is waited for where every host has one at most; `None` if that
    /// host has as many as it may have. Cancel-safe.
    pub(crate) async fn place(&self, origin: Option<IpAddr>) -> Option<Place> {
        let ip = origin.map(host);
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let answer = self.0.lock().ask(ip);
            match answer {
                Answer::Take(number, host) => {
                    return Some(Place { shared: Arc::clone(&self.0), number, host });
                }
                Answer::PutOff => return None,
                Answer::Wait => freed.await,
            }
        }
    }
}

impl Place {
    /// Waits until the place is taken away for another host. Cancel-safe.
    pub(crate) async fn taken_away(&mut self) {
        match &mut self.host {
            Some(host) => drop((&mut host.kept).await),
            None => pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().give_back(self.number, self.host.as_ref().map(|host| host.ip));
        self.shared.freed.notify_waiters();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn ask(&mut self, ip: Option<IpAddr>) -> Answer {
        let of_host = ip.and_then(|ip| self.hosts.get(&ip)).map_or(0, BTreeMap::len);
        if of_host >= MAX_OF_HOST {
            return Answer::PutOff;
        }
        if self.taken >= MAX_GREETING && !(ip.is_some() && self.make_room(of_host)) {
            // Behind who waits there may be others that need not.
            return if of_host > 0 { Answer::PutOff } else { Answer::Wait };
        }
        self.taken += 1;
        self.given += 1;
        let host = ip.map(|ip| {
            let (keep, kept) = oneshot::channel();
            self.hosts.entry(ip).or_default().insert(self.given, keep);
            Host { ip, kept }
        });
        Answer::Take(self.given, host)
    }

    /// Takes the oldest place of the host with most, if that has more than one which has `of_host` would have.
    fn make_room(&mut self, of_host: usize) -> bool {
        let most = self.hosts.values_mut().max_by_key(|places| places.len());
        let Some(most) = most.filter(|most| most.len() > of_host + 1) else { return false };
        self.taken -= 1;
        most.pop_first().is_some()
    }

    fn give_back(&mut self, number: u64, ip: Option<IpAddr>) {
        let Some(ip) = ip else {
            self.taken -= 1;
            return;
        };
        let Some(of_host) = self.hosts.get_mut(&ip) else { return };
        // Unless it was taken away.
        if of_host.remove(&number).is_some() {
            self.taken -= 1;
        }
        if of_host.is_empty() {
            self.hosts.remove(&ip);
        }
    }
}

/// What counts as one host: in IPv6 a whole site's 48 bits, for whoever has any network there may have them all.
fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn take(greetings: &Greetings, ip: &str) -> Option<Place> {
        let place = greetings.place(Some(ip.parse().unwrap()));
        timeout(Duration::from_secs(5), place).await.expect("an answer")
    }

    async fn waits(greetings: &Greetings, origin: Option<IpAddr>) -> bool {
        timeout(Duration::from_millis(1), greetings.place(origin)).await.is_err()
    }

    /// Whether a place was taken away.
    fn is_lost(place: &mut Place) -> bool {
        let closed =
            |host: &mut Host| host.kept.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        place.host.as_mut().is_some_and(closed)
    }

    #[tokio::test]
    async fn one_host_has_half_of_the_places_at_most() {
        let greetings = Greetings::default();
        let mut places = Vec::new();
        while let Some(place) = take(&greetings, "192.0.2.1").await {
            places.push(place);
        }
        assert_eq!(places.len(), MAX_OF_HOST);
        assert!(take(&greetings, "::ffff:192.0.2.1").await.is_none(), "as a dual socket has it");
        places.remove(0);
        places.push(take(&greetings, "192.0.2.1").await.expect("one has gone"));
        drop(places);
        assert!(greetings.0.lock().hosts.is_empty(), "hosts are forgotten");
        assert_eq!(greetings.0.lock().taken, 0);
    }

    #[tokio::test]
    async fn hosts_that_have_all_places_leave_room_for_others() {
        let greetings = Greetings::default();
        let mut hostile = Vec::new();
        for n in 0..MAX_GREETING {
            let place = take(&greetings, ["192.0.2.1", "192.0.2.2"][n % 2]).await;
            hostile.push(place.expect("room"));
        }
        let mut others = Vec::new();
        for n in 0..20 {
            others.push(take(&greetings, &format!("198.51.100.{n}")).await.expect("room is made"));
            assert_eq!(greetings.0.lock().taken, MAX_GREETING);
        }
        timeout(Duration::from_secs(1), hostile[0].taken_away()).await.expect("the oldest");
        let lost = hostile.iter_mut().map(is_lost).take_while(|lost| *lost).count();
        assert_eq!((lost, hostile.iter_mut().map(is_lost).filter(|lost| *lost).count()), (20, 20));
        assert!(!others.iter_mut().any(is_lost));
        // They get as many as anybody, and not the others' in their turn.
        assert!(take(&greetings, "192.0.2.1").await.is_none());
        assert!(!others.iter_mut().any(is_lost));
        drop((hostile, others));
        assert_eq!(greetings.0.lock().taken, 0);
        assert!(greetings.0.lock().hosts.is_empty());
    }

    #[tokio::test]
    async fn who_has_none_waits_where_nobody_has_more_than_one() {
        let greetings = Greetings::default();
        let ip = |n: usize| Some(IpAddr::from([198, 51, (n / 200) as u8, (n % 200) as u8]));
        let mut places = Vec::new();
        for n in 0..MAX_GREETING {
            places.push(greetings.place(ip(n)).await.expect("room"));
        }
        assert!(greetings.place(ip(0)).await.is_none(), "it has one");
        assert!(waits(&greetings, ip(MAX_GREETING)).await);
        let next = greetings.place(ip(MAX_GREETING));
        let (next, ()) = tokio::join!(next, async { drop(places.pop()) });
        assert!(next.is_some());
    }

    #[tokio::test]
    async fn an_ipv6_site_is_one_host_and_no_host_has_no_limit() {
        let greetings = Greetings::default();
        let mut places = Vec::new();
        for n in 0..MAX_OF_HOST {
            places.push(take(&greetings, &format!("2001:db8:1:{n:x}::1")).await.expect("room"));
        }
        assert!(take(&greetings, "2001:db8:1:ffff::1").await.is_none());
        assert!(take(&greetings, "2001:db8:2::1").await.is_some());
        while places.len() < MAX_GREETING {
            places.push(greetings.place(None).await.expect("room"));
        }
        assert!(waits(&greetings, None).await);
        places.pop();
        assert!(!waits(&greetings, None).await);
    }
}
