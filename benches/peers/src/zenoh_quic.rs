//! zenoh over QUIC, two peers with one link, in the strongest configuration that was found for it.
//!
//! What decides its rate:
//!
//! * **A subscriber for exactly the key expression of the tells.** The receiving node then keeps the route
//!   of that key; under a subscription with wildcards it computes the route of every message anew, which
//!   makes small messages four to five times slower. The publisher declares the key as well, so that the
//!   wire has its number; the manifest is a part of the key, where it costs nothing.
//! * `transport/link/tx/queue/batching`, on by default: small messages share a batch of up to 64 KiB while
//!   the link is behind. Tells are not `express`, which would put each into a batch of its own.
//! * Segmentation offload of the endpoint, on by default; the rates are lower without it.
//! * Callbacks, which run where zenoh receives, on its own runtime's two threads, with no channel between;
//!   `Locality::Remote`, so that no publication looks for subscribers in its own session; the payload
//!   is copied only where it came in several pieces.
//! * The process's rustls provider is aws-lc, as this crate's is, and not ring, which zenoh would install.
//!
//! What decides the delay of gossip: `transport/unicast/qos/enabled`, on by default, is a queue for each
//! priority, and the endpoint's `multistream` (`auto`, hence on between two such peers; asked for here so
//! that its lack would be an error) a QUIC stream for each, with quinn's stream priorities and a task that
//! reads it. Gossip is `Priority::RealTime`, the highest of a user's, and `express`.
//!
//! Larger than the defaults, as its documentation advises for high throughput, though here the rates do not
//! stand out from the noise for it: `transport/link/tx/queue/size/data` is 16 batches, the most there can
//! be, instead of 2; `transport/link/rx/buffer_size` 16 MiB; `initial_mtu` 1472, the largest datagram that
//! its endpoints take. Nor do they for `multistream=0`, or other numbers of threads (`ZENOH_RUNTIME`). Its
//! UDP sockets have the system's buffers: zenoh has no setting for them.
//!
//! Both kinds are `CongestionControl::Block`, so that nothing is dropped and the sender waits, and reliable,
//! which is the default. Putting blocks the thread, so tells are sent from one for blocking calls.

use std::sync::Arc;
use std::time::Duration;

use cluster_quic::{DevCa, DevFiles};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use zenoh::Wait;
use zenoh::pubsub::Publisher;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::sample::Locality;
use zenoh::{Config, Session};

use crate::Error;
use crate::counter::{Load, target_path};
use crate::subject::{MANIFEST, Probe, Receiver, Sending, Subject};

const GOSSIP: &str = "peers/gossip";

pub(crate) struct Zenoh {
    tells: Publisher<'static>,
    gossip: Publisher<'static>,
    receiver: Arc<Receiver>,
    /// Kept alive.
    _nodes: [Session; 2],
}

impl Zenoh {
    pub(crate) async fn new(ca: &DevCa) -> Result<Self, Error> {
        let certificates = TempDir::with_prefix("cluster-quic-peers-")?;
        let files = ca.write_to(certificates.path(), "node", &["127.0.0.1"])?;
        // zenoh takes no port of the system's choice that could be asked for.
        let port = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let endpoint = format!("quic/127.0.0.1:{port}?multistream=1#initial_mtu=1472");
        let to = zenoh::open(config("listen", &endpoint, &files)?).await?;
        let from = zenoh::open(config("connect", &endpoint, &files)?).await?;

        let receiver = Receiver::new();
        let counting = Arc::clone(&receiver);
        // A target's key, with the number at its end, by which the counter knows it.
        let tell = format!("peers/{MANIFEST}{}", target_path(0));
        to.declare_subscriber(tell.clone())
            .callback(move |sample| {
                counting.tells.record(sample.key_expr().as_str(), &sample.payload().to_bytes());
            })
            .background()
            .await?;
        let hearing = Arc::clone(&receiver);
        to.declare_subscriber(GOSSIP)
            .callback(move |sample| hearing.hear(&sample.payload().to_bytes()))
            .background()
            .await?;

        let tells = from
            .declare_publisher(tell)
            .priority(Priority::Data)
            .congestion_control(CongestionControl::Block)
            .allowed_destination(Locality::Remote)
            .await?;
        let gossip = from
            .declare_publisher(GOSSIP)
            .priority(Priority::RealTime)
            .congestion_control(CongestionControl::Block)
            .express(true)
            .allowed_destination(Locality::Remote)
            .await?;
        for publisher in [&tells, &gossip] {
            timeout(Duration::from_secs(10), async {
                while !publisher.matching_status().await?.matching() {
                    sleep(Duration::from_millis(10)).await;
                }
                Ok::<_, Error>(())
            })
            .await
            .map_err(|_| "zenoh's two sessions did not find each other within 10 s")??;
        }
        Ok(Self { tells, gossip, receiver, _nodes: [from, to] })
    }

    fn send_all(&self, load: Load) -> Result<(), Error> {
        let mut payload = vec![0x5a; load.payload];
        for sequence in 0..load.tells {
            payload[..8].copy_from_slice(&sequence.to_le_bytes());
            self.tells.put(&payload[..]).wait()?;
        }
        Ok(())
    }
}

/// A peer that does one of `listen` and `connect`, and looks for no others.
fn config(role: &str, endpoint: &str, files: &DevFiles) -> Result<Config, Error> {
    let mut config = Config::default();
    let mut set =
        |key: &str, value: serde_json::Value| config.insert_json5(key, &value.to_string());
    set("mode", json!("peer"))?;
    set("listen/endpoints", json!([]))?;
    set(&format!("{role}/endpoints"), json!([endpoint]))?;
    set("scouting/multicast/enabled", json!(false))?;
    set("scouting/gossip/enabled", json!(false))?;
    set("transport/unicast/qos/enabled", json!(true))?;
    set("transport/link/tx/queue/batching/enabled", json!(true))?;
    set("transport/link/tx/queue/size/data", json!(16))?;
    set("transport/link/rx/buffer_size", json!(16 << 20))?;
    set(
        "transport/link/tls",
        json!({
            "root_ca_certificate": files.ca,
            "enable_mtls": true,
            "listen_private_key": files.private_key,
            "listen_certificate": files.certificate,
            "connect_private_key": files.private_key,
            "connect_certificate": files.certificate,
        }),
    )?;
    Ok(config)
}

impl Subject for Zenoh {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        Box::pin(async move { tokio::task::spawn_blocking(move || self.send_all(load)).await? })
    }

    fn gossip(&self, probe: Probe) -> Result<(), Error> {
        self.gossip.put(probe).wait()
    }

    fn receiver(&self) -> &Receiver {
        &self.receiver
    }
}
