//! The way to a peer: its socket addresses, and the first of them that answers.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Endpoint};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::generation::Generation;
use super::link::{Limits, QuicLink, connection_error};
use crate::address::Address;
use crate::error::AssociationError;
use crate::tls::{ShownBy, bare_host};

/// A host's next address is tried this much after the one before (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// What the other addresses have when one has said why the dial cannot succeed: one that is not answered at
/// all must not hide that. An old entry in the DNS may lead to another node, so they have something.
const OTHERS: Duration = Duration::from_secs(1);

/// Host names that are looked up at a time. A resolver that hangs keeps each call's thread for up to half a
/// minute, and dials come again sooner.
const LOOK_UPS: usize = 64;

/// What it takes to connect to one socket address.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) endpoint: Endpoint,
    pub(super) client: ClientConfig,
    pub(super) limits: Limits,
    pub(super) generation: Generation,
    #[cfg(feature = "qlog")]
    pub(super) qlog: Option<Arc<super::qlog::Qlog>>,
}

impl Dialler {
    pub(super) async fn connect(
        self,
        to: SocketAddr,
        host: String,
    ) -> Result<QuicLink, AssociationError> {
        let client = self.client;
        #[cfg(feature = "qlog")]
        let client = match &self.qlog {
            Some(qlog) => qlog.client(client, &to.to_string()),
            None => client,
        };
        let connecting = self
            .endpoint
            .connect_with(client, to, bare_host(&host))
            .map_err(|e| AssociationError::Connection(e.to_string()))?;
        let connection = connecting.await.map_err(|e| connection_error(&e))?;
        Ok(QuicLink::new(connection, self.limits, self.generation, ShownBy::Acceptor))
    }
}

/// The first of `addresses` that `connect` succeeds with, each begun a moment after the one before. Of
/// failures the most telling one: what somebody has to mend.
pub(super) async fn first_of<L: Send + 'static, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<L, AssociationError>
where
    F: Future<Output = Result<L, AssociationError>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    for (n, to) in (0..).zip(addresses) {
        let attempt = connect(to);
        attempts.spawn(async move {
            sleep(NEXT_ADDRESS_AFTER * n).await;
            attempt.await
        });
    }
    let mut failure = AssociationError::Connection("no attempt ended".into());
    let mut until: Option<Instant> = None;
    loop {
        let ended = match until {
            None => attempts.join_next().await,
            Some(until) => timeout_at(until, attempts.join_next()).await.ok().flatten(),
        };
        match ended {
            Some(Ok(Ok(link))) => return Ok(link),
            Some(Ok(Err(error))) if until.is_none() => {
                until = error.is_misconfiguration().then(|| Instant::now() + OTHERS);
                failure = error;
            }
            // What is known is more telling, or the attempt is gone with the runtime.
            Some(_) => {}
            None => return Err(failure),
        }
    }
}

/// Looks up host names.
pub(super) struct Resolver {
    turns: Arc<Semaphore>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOK_UPS)) }
    }
}

impl Resolver {
    /// The peer's socket addresses that our socket can reach.
    pub(super) async fn resolve(
        &self,
        peer: &Address,
        local: Option<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, AssociationError> {
        let failed =
            |reason: String| AssociationError::Resolve { host: peer.host().into(), reason };
        let found: Vec<_> = match peer.host().parse() {
            Ok(ip) => vec![SocketAddr::new(ip, peer.port())],
            Err(_) => {
                let (host, port) = (peer.host().to_owned(), peer.port());
                let look_up = move || (host, port).to_socket_addrs().map(Iterator::collect);
                self.on_thread(look_up).await.map_err(|e| failed(e.to_string()))?
            }
        };
        let ipv4_only = local.is_some_and(|local| local.is_ipv4());
        let usable: Vec<_> =
            found.iter().copied().filter(|to| to.is_ipv4() || !ipv4_only).collect();
        match (usable.is_empty(), found.is_empty()) {
            (false, _) => Ok(usable),
            (true, true) => Err(failed("no address".into())),
            (true, false) => {
                Err(failed("it has IPv6 addresses alone, and this node is bound to IPv4".into()))
            }
        }
    }

    /// Looks up on a thread of its own, when it is this one's turn: tokio's blocking threads may all be
    /// held by sinks.
    async fn on_thread<T: Send + 'static>(
        &self,
        look_up: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        // Never closed. It is the thread's, which goes on when nobody waits for it any more.
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(std::io::Error::other)?;
        let (found, result) = oneshot::channel();
        std::thread::Builder::new().name("cluster-quic-dns".into()).spawn(move || {
            let _turn = turn;
            let _ = found.send(look_up());
        })?;
        result.await.unwrap_or_else(|_| Err(std::io::Error::other("the resolver's thread ended")))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;

    use tokio::time::timeout;

    use super::*;
    use crate::tls::{CertificateFailure, CertificateProblem, Side};

    fn untrusted() -> AssociationError {
        let problem = CertificateProblem::UnknownIssuer;
        CertificateFailure { by: Side::Us, problem, detail: None }.into()
    }

    fn addresses(n: u16) -> Vec<SocketAddr> {
        (1..=n).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_hides_no_failure_of_another() {
        let begin = Instant::now();
        let result = first_of(addresses(3), |to| async move {
            match to.port() {
                1 => pending::<Result<(), _>>().await,
                2 => Err(untrusted()),
                _ => Err(AssociationError::TimedOut),
            }
        });
        let result = timeout(Duration::from_secs(60), result).await.expect("in time");
        assert_eq!(result.unwrap_err(), untrusted());
        assert_eq!(begin.elapsed(), NEXT_ADDRESS_AFTER + OTHERS);
        // The other way round it is not waited for.
        let begin = Instant::now();
        let result: Result<(), _> = first_of(addresses(2), |to| async move {
            match to.port() {
                1 => Err(AssociationError::TimedOut),
                _ => Err(untrusted()),
            }
        })
        .await;
        assert_eq!(result.unwrap_err(), untrusted());
        assert_eq!(begin.elapsed(), NEXT_ADDRESS_AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_address_in_the_dns_keeps_nobody_from_the_right_one() {
        let result = first_of(addresses(3), |to| async move {
            match to.port() {
                1 => Err(untrusted()),
                2 => pending().await,
                port => Ok(port),
            }
        })
        .await;
        assert_eq!(result.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_takes_so_many_threads_and_no_more() {
        let resolver = Resolver::default();
        let (begun, began) = mpsc::channel();
        let mut held = Vec::new();
        let mut hang = || {
            let (release, hanging) = mpsc::channel::<()>();
            held.push(release);
            let begun = begun.clone();
            move || {
                begun.send(()).unwrap();
                let _ = hanging.recv();
                Ok(())
            }
        };
        let limit = Duration::from_secs(10);
        // Nobody waits for them: the dials were given up.
        for _ in 0..LOOK_UPS {
            let mut call = Box::pin(resolver.on_thread(hang()));
            assert!(timeout(Duration::ZERO, &mut call).await.is_err());
        }
        for _ in 0..LOOK_UPS {
            began.recv_timeout(limit).unwrap();
        }
        let next = resolver.on_thread(hang());
        tokio::pin!(next);
        assert!(timeout(Duration::from_millis(50), &mut next).await.is_err());
        assert!(began.try_recv().is_err(), "one thread too many");
        drop(held);
        timeout(limit, next).await.unwrap().unwrap();
    }
}
