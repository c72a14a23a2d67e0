//! How a node behaves; every limit and time of the transport.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::address::{Incarnation, check_system};
use crate::error::ConfigError;
use crate::frame::MAX_FRAME;
use crate::lane::MAX_TELL_LANES;
use crate::outbound::{CHUNK, PIECE};
use crate::tls::KeyLog;
use crate::wall_clock::WallClock;

mod recording;

#[cfg(feature = "qlog")]
pub(crate) use recording::QlogSettings;

/// What gossip and control may always use of the connection's send window, in bytes.
const GOSSIP_RESERVE: u64 = 2 * 1024 * 1024;

/// Room for the largest frame, in whole grants: a tell that never fits would wait for ever.
const MIN_BUDGET: u64 = (MAX_FRAME + CHUNK) as u64;

/// What a peer with the most tell lanes can still admit within the send window that it grows to.
const MAX_STREAM_WINDOW: u64 = 8 * 1024 * 1024;

/// What `stream_window` becomes in process, where it is the default.
const IN_PROCESS_WINDOW: u64 = 4 * 1024 * 1024;

/// Where the transport's tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Runtime {
    /// On the runtime that the node is started in.
    #[default]
    Current,
    /// On threads of its own (at least 1), so that an application that keeps its runtime busy delays
    /// neither gossip nor acknowledgements.
    Dedicated {
        /// How many threads.
        threads: usize,
    },
    /// On the runtime that the node is started in, and the sinks there too, in place of threads of their
    /// own: a simulation in a current-thread runtime with a paused clock repeats itself. A sink that
    /// blocks holds up everything.
    Simulated,
}

/// What decides how much of a connection may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Congestion {
    /// Keeps the queue in the network about a millisecond long, whatever the buffer's size, so that
    /// gossip does not stand behind the tells that were sent before it. Holds its own beside flows
    /// that fill the buffer, and does not take single losses for congestion. After Copa (Arun and
    /// Balakrishnan, NSDI 2018).
    #[default]
    LowDelay,
    /// Cubic (RFC 9438), as TCP mostly uses it: fills the buffer of the narrowest link until it
    /// overflows, and gossip waits as long as that buffer lasts.
    Cubic,
}

/// What becomes of a standing connection when the certificate that the peer showed on it expires. New
/// connections are refused then in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnExpiry {
    /// It goes on, with warnings. Certificates issued together expire together: were their connections to
    /// end, a renewal that was forgotten would take the whole cluster down in one second, with every node
    /// taking all others for dead.
    #[default]
    GoOn,
    /// It ends, as [`AssociationError::Certificate`](crate::AssociationError::Certificate), within a
    /// quarter second. For certificates whose short life is the way to revoke them.
    End,
}

/// A node's configuration; made by [`Config::builder`], which checks it.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) system: String,
    pub(crate) cluster: String,
    pub(crate) bind: SocketAddr,
    pub(crate) advertise_host: Option<String>,
    pub(crate) advertise_port: Option<u16>,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) runtime: Runtime,
    pub(crate) tell_lanes: u8,
    pub(crate) lane_budget: usize,
    pub(crate) peer_budget: usize,
    pub(crate) node_budget: usize,
    pub(crate) gossip_budget: usize,
    pub(crate) large_budget: usize,
    pub(crate) stream_window: u64,
    pub(crate) send_window: u64,
    pub(crate) max_peers: usize,
    pub(crate) ack_delay: Duration,
    pub(crate) retention: Duration,
    pub(crate) dial_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) idle_release: Option<Duration>,
    pub(crate) lane_stuck_after: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) congestion: Congestion,
    pub(crate) max_udp_payload: u16,
    pub(crate) socket_buffer: usize,
    pub(crate) expiry_warning: Duration,
    pub(crate) on_expiry: OnExpiry,
    pub(crate) wall_clock: WallClock,
    pub(crate) key_log: Option<KeyLog>,
    #[cfg(feature = "qlog")]
    pub(crate) qlog: QlogSettings,
}

impl Config {
    /// A configuration for a node of the actor system (or database, …) `system`, to be adapted.
    pub fn builder(system: impl Into<String>) -> ConfigBuilder {
        let system = system.into();
        ConfigBuilder(Self {
            cluster: system.clone(),
            system,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise_host: None,
            advertise_port: None,
            incarnation: None,
            runtime: Runtime::Current,
            tell_lanes: 8,
            lane_budget: 32 * 1024 * 1024,
            peer_budget: 128 * 1024 * 1024,
            node_budget: 1024 * 1024 * 1024,
            gossip_budget: 256 * 1024,
            large_budget: 32 * 1024 * 1024,
            stream_window: 256 * 1024,
            send_window: 32 * 1024 * 1024,
            max_peers: 4096,
            ack_delay: Duration::from_millis(1),
            retention: Duration::from_secs(60),
            dial_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(2),
            idle_release: Some(Duration::from_secs(300)),
            lane_stuck_after: Duration::from_secs(10),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            congestion: Congestion::LowDelay,
            max_udp_payload: 6500,
            socket_buffer: 4 * 1024 * 1024,
            expiry_warning: Duration::from_secs(7 * 86_400),
            on_expiry: OnExpiry::GoOn,
            wall_clock: WallClock::default(),
            key_log: None,
            #[cfg(feature = "qlog")]
            qlog: QlogSettings::default(),
        })
    }

    /// The send window that leaves gossip its part beside `lanes` tell lanes of `window` bytes.
    ///
    /// quinn counts a segment until all of it is acknowledged, so a lane can hold its window and one
    /// more segment; the half on top is for what is acknowledged out of order.
    pub(crate) fn send_window_for(lanes: u8, window: u64) -> u64 {
        let lane = window.saturating_add(PIECE as u64);
        (u64::from(lanes).saturating_mul(lane).saturating_mul(3) / 2).saturating_add(GOSSIP_RESERVE)
    }

    fn check(&self) -> Result<(), ConfigError> {
        check_system(&self.system)?;
        range("tell_lanes", self.tell_lanes.into(), 1, MAX_TELL_LANES.into())?;
        if self.cluster.is_empty() || self.cluster.len() > 255 {
            return Err(ConfigError::OutOfRange {
                field: "cluster",
                value: format!("{} bytes long", self.cluster.len()),
                must: "1 to 255 bytes long".into(),
            });
        }
        range("lane_budget", self.lane_budget as u64, 64 * 1024, 1 << 40)?;
        range("peer_budget", self.peer_budget as u64, MIN_BUDGET, 1 << 50)?;
        range("node_budget", self.node_budget as u64, MIN_BUDGET, 1 << 50)?;
        range("gossip_budget", self.gossip_budget as u64, 1024, 1 << 30)?;
        range("large_budget", self.large_budget as u64, MIN_BUDGET, 1 << 40)?;
        range("stream_window", self.stream_window, 16 * 1024, MAX_STREAM_WINDOW)?;
        range("send_window", self.send_window, 64 * 1024, 1 << 40)?;
        range("max_peers", self.max_peers as u64, 1, 1 << 24)?;
        range("max_udp_payload", self.max_udp_payload.into(), 1200, 6500)?;
        range("socket_buffer", self.socket_buffer as u64, 64 * 1024, 1 << 30)?;
        if let Runtime::Dedicated { threads } = self.runtime {
            range("runtime threads", threads as u64, 1, 1024)?;
        }
        let day = Duration::from_secs(86_400);
        let ms = Duration::from_millis;
        period("ack_delay", self.ack_delay, Duration::ZERO, ms(100))?;
        period("retention", self.retention, ms(100), day)?;
        period("dial_timeout", self.dial_timeout, ms(10), ms(600_000))?;
        period("idle_timeout", self.idle_timeout, ms(50), ms(600_000))?;
        period("keep_alive", self.keep_alive, ms(10), self.idle_timeout / 2)?;
        if let Some(idle) = self.idle_release {
            period("idle_release", idle, ms(10), 365 * day)?;
        }
        period("lane_stuck_after", self.lane_stuck_after, ms(100), day)?;
        period("backoff_min", self.backoff_min, ms(1), self.backoff_max)?;
        period("backoff_max", self.backoff_max, ms(1), day)?;
        period("expiry_warning", self.expiry_warning, Duration::ZERO, 3650 * day)?;
        self.check_send_window()
    }

    /// For a node of this process's: what a lane has under way is its sender's own memory there, so more of it
    /// costs nothing, and reader and sink switch threads less often.
    pub(crate) fn in_process(mut self) -> Self {
        let window = (16 * self.stream_window).min(IN_PROCESS_WINDOW);
        self.stream_window = self.stream_window.max(window);
        self
    }

    fn check_send_window(&self) -> Result<(), ConfigError> {
        let needed = Self::send_window_for(self.tell_lanes, self.stream_window) - GOSSIP_RESERVE;
        let available = self.send_window.saturating_sub(GOSSIP_RESERVE);
        if needed > available {
            return Err(ConfigError::SendWindow {
                needed,
                available,
                lanes: self.tell_lanes,
                stream_window: self.stream_window,
                chunk: PIECE as u64,
            });
        }
        Ok(())
    }
}

fn range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange {
        field,
        value: value.to_string(),
        must: format!("{min} to {max}"),
    })
}

fn period(
    field: &'static str,
    value: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let (value, must) = (format!("{value:?}"), format!("{min:?} to {max:?}"));
    Err(ConfigError::OutOfRange { field, value, must })
}

/// Makes a [`Config`]; every setting has a default that suits a local network.
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct ConfigBuilder(Config);

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        impl ConfigBuilder {
            $($(#[$doc])*
            pub fn $name(mut self, $name: $type) -> Self {
                self.0.$name = $name;
                self
            })*
        }
    };
}

settings! {
    /// The UDP socket's address; port 0 lets the system choose. Default 127.0.0.1:0. The in-process
    /// backend does not use it.
    bind: SocketAddr,
    /// Where the transport's tasks run. Default: the current runtime.
    runtime: Runtime,
    /// Tell lanes to each peer, 1 to 16. Default 8.
    ///
    /// Large tells delay small ones to other targets if both share a lane, and senders on several
    /// threads wait for each other if theirs do: the chance is one in as many lanes. Each lane costs
    /// memory per peer once it is used. `cargo bench --bench throughput -- lanes` shows what the number
    /// does to rates and delays.
    tell_lanes: u8,
    /// Bytes that one tell lane to one peer holds, queued and in flight together. Default 32 MiB.
    /// `tell` refuses beyond.
    lane_budget: usize,
    /// Bytes that all tell lanes to one peer hold together, in grants of 64 KiB. Default 128 MiB, at least
    /// room for one frame of the largest size.
    peer_budget: usize,
    /// Bytes that all tell lanes of the node hold together, in grants of 64 KiB. Default 1 GiB, at
    /// least room for one frame of the largest size.
    node_budget: usize,
    /// Bytes of gossip that wait for one peer; the oldest is dropped beyond. Default 256 KiB.
    gossip_budget: usize,
    /// Bytes that one lane from one peer may have sent ahead of the sink: once in the connection's
    /// buffers, and once in the queue behind them. Default 256 KiB, at most 8 MiB.
    ///
    /// One lane moves at most this much per round trip: 256 MB/s at 1 ms, 6.5 MB/s at 40 ms. Raise it
    /// (and with it `send_window`) where nodes are far apart. In a fast network a larger one makes gossip
    /// later, because more waits in the receiver's socket: on loopback at full load, a p99 of 1.8 ms
    /// becomes 2.7 ms with 1 MiB.
    ///
    /// In process it counts 16 times, up to 4 MiB: what is under way is the sender's own memory there.
    stream_window: u64,
    /// Bytes of tells longer than `stream_window` that are received from one peer at a time, from their first
    /// byte until the sink has them. Default 32 MiB, at least room for one of the largest size. A lane whose
    /// next tell finds no room waits, with what comes behind it, for the large tells of the other lanes.
    large_budget: usize,
    /// Bytes that one connection holds sent and not acknowledged by the peer's transport. Default
    /// 32 MiB. Checked against `tell_lanes` and `stream_window`, so that tells cannot use it up.
    send_window: u64,
    /// Peers that are known at a time. Default 4096. One that was not needed for `retention`, and that
    /// nobody has a [`Peer`](crate::Peer) of, is forgotten; of as many that were quarantined the refused life is
    /// kept.
    max_peers: usize,
    /// How long a delivered tell's acknowledgement waits for others to go with it. Default 1 ms.
    ack_delay: Duration,
    /// How long tells to a peer are kept while there is no association, or none over which the peer takes any
    /// notice of them ([`Unresponsive`](crate::AssociationError::Unresponsive)), however many there are. Default 60 s. For as long, a
    /// peer that was lost is dialled again even if nothing is to be sent.
    retention: Duration,
    /// How long a dial waits for the handshake; and then for the greeting, a quarter longer. Default 5 s.
    dial_timeout: Duration,
    /// Silence after which a connection is given up. Default 10 s; the smaller of both sides' holds.
    idle_timeout: Duration,
    /// How often an idle connection is probed; at most half of `idle_timeout`. Default 2 s.
    keep_alive: Duration,
    /// Closes a connection that carried nothing for so long; the next send opens it again. Default
    /// 5 minutes; `None` never does.
    idle_release: Option<Duration>,
    /// How long a tell lane may stand still, with tells pending and the peer alive, before
    /// [`Event::LaneStuck`](crate::Event::LaneStuck) says so. Default 10 s. Looked at four times a second.
    lane_stuck_after: Duration,
    /// The wait after a first failed dial; it doubles with each further one. Default 100 ms.
    backoff_min: Duration,
    /// The longest wait between dials, and the wait after a failure that only a change of
    /// certificates or configuration can mend. Default 10 s.
    backoff_max: Duration,
    /// The congestion controller of each connection. Default [`Congestion::LowDelay`].
    congestion: Congestion,
    /// The largest UDP payload that path MTU discovery tries, 1200 to 6500 bytes. Default 6500, which
    /// loopback and jumbo frames carry; on other paths discovery settles below. (Ten of them, which quinn
    /// hands over at a time, must not exceed 64 KiB.)
    max_udp_payload: u16,
    /// Bytes of the UDP socket's send and receive buffers. Default 4 MiB; the system may grant less
    /// (on Linux `net.core.rmem_max` and `wmem_max`), which is logged once.
    socket_buffer: usize,
    /// How long before a certificate expires [`Event::CertificateExpiring`](crate::Event::CertificateExpiring)
    /// comes, for the node's own and for those of connected peers. Default 7 days. A quarter of
    /// the certificate's life, where that is shorter.
    expiry_warning: Duration,
    /// What becomes of a standing connection when the peer's certificate expires. Default
    /// [`OnExpiry::GoOn`].
    on_expiry: OnExpiry,
}

impl ConfigBuilder {
    /// The cluster's name: nodes of different clusters refuse each other. Default: the system's name.
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.0.cluster = cluster.into();
        self
    }

    /// The host that peers dial, where it is not the bound one: a DNS name, or another address.
    /// Needed when a wildcard address is bound.
    pub fn advertise_host(mut self, host: impl Into<String>) -> Self {
        self.0.advertise_host = Some(host.into());
        self
    }

    /// The port that peers dial, where it is not the bound one (containers, NAT).
    pub fn advertise_port(mut self, port: u16) -> Self {
        self.0.advertise_port = Some(port);
        self
    }

    /// The node's incarnation, where the clock cannot be relied upon: must be greater at each start.
    /// Default: microseconds since the Unix epoch.
    ///
    /// Peers take a node that comes back with the same one for the one that it was. They refuse its first dials
    /// as old ones ([`Superseded`](crate::AssociationError::Superseded)), and then drop what it tells them as
    /// received before, without a word.
    pub fn incarnation(mut self, incarnation: u64) -> Self {
        self.0.incarnation = Some(Incarnation(incarnation));
        self
    }

    /// What certificates' dates are held against, in handshakes and afterwards. Default: the system's clock.
    /// For tests, which cannot wait for a certificate to expire; everything else goes by the runtime's
    /// clock.
    pub fn wall_clock(
        mut self,
        now: impl Fn() -> std::time::SystemTime + Send + Sync + 'static,
    ) -> Self {
        self.0.wall_clock = WallClock::new(now);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and its range.
    pub fn build(self) -> Result<Config, ConfigError> {
        self.0.check()?;
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_order() {
        Config::builder("sys").build().unwrap();
    }

    #[test]
    fn lanes_that_could_starve_gossip_are_refused() {
        let error =
            Config::builder("sys").tell_lanes(16).stream_window(4 << 20).build().unwrap_err();
        let told = "tell lanes could hold 102629376 bytes of the send window (16 lanes x (window \
                    4194304 + chunk 81920) x 1.5), but only";
        assert!(error.to_string().starts_with(told), "{error}");
        Config::builder("sys")
            .tell_lanes(16)
            .stream_window(4 << 20)
            .send_window(Config::send_window_for(16, 4 << 20))
            .build()
            .unwrap();
    }

    #[test]
    fn a_window_counts_more_in_process_and_never_less() {
        let window = |bytes| {
            let config = Config::builder("sys").stream_window(bytes).send_window(1 << 30);
            config.build().unwrap().in_process().stream_window
        };
        let windows = [16 << 10, 256 << 10, 1 << 20, 8 << 20].map(window);
        assert_eq!(windows, [256 << 10, 4 << 20, 4 << 20, 8 << 20]);
    }

    #[test]
    fn out_of_range_names_the_setting() {
        let of = |builder: ConfigBuilder| match builder.build() {
            Err(ConfigError::OutOfRange { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let base = || Config::builder("sys");
        assert_eq!(of(base().tell_lanes(0)), "tell_lanes");
        assert_eq!(of(base().tell_lanes(17)), "tell_lanes");
        assert_eq!(of(base().cluster("")), "cluster");
        // A frame of the largest size must fit, and every peer must be able to admit the window.
        assert_eq!(of(base().peer_budget(MAX_FRAME)), "peer_budget");
        assert_eq!(of(base().node_budget(MAX_FRAME)), "node_budget");
        assert_eq!(of(base().stream_window(9 << 20).send_window(1 << 30)), "stream_window");
        assert_eq!(of(base().max_udp_payload(9000)), "max_udp_payload");
        assert_eq!(of(base().keep_alive(Duration::from_secs(9))), "keep_alive");
        assert_eq!(of(base().runtime(Runtime::Dedicated { threads: 0 })), "runtime threads");
        assert!(matches!(Config::builder("a b").build(), Err(ConfigError::Address(_))));
    }
}
