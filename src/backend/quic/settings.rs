//! The socket, and quinn's settings with their reasons.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{ControllerFactory, CubicConfig};
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;

use super::congestion::{CountingFactory, LowDelayFactory};
use super::reset::ResetKey;
use crate::config::{Config, Congestion};
use crate::control::ALPN;
use crate::error::BindError;
use crate::tls::{Identity, IdentityError};

/// The node's UDP socket.
///
/// # Errors
/// The system's.
pub fn open_socket(config: &Config) -> std::io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(config.bind);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if config.bind.is_ipv6() {
        // `[::]` is to mean all addresses, on every system.
        let _ = socket.set_only_v6(false);
    }
    // Small buffers lose packets even on loopback; the system may grant less than asked.
    let _ = socket.set_recv_buffer_size(config.socket_buffer);
    let _ = socket.set_send_buffer_size(config.socket_buffer);
    // Linux doubles what was asked for, for its own bookkeeping, and answers with that.
    let overhead = if cfg!(any(target_os = "linux", target_os = "android")) { 2 } else { 1 };
    let granted = socket.recv_buffer_size()?.min(socket.send_buffer_size()?) / overhead;
    if granted < config.socket_buffer {
        tracing::info!(
            granted,
            wanted = config.socket_buffer,
            "the system limits UDP socket buffers (on Linux: net.core.rmem_max, wmem_max)"
        );
    }
    socket.bind(&config.bind.into())?;
    Ok(socket.into())
}

pub(super) fn transport_config(config: &Config) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(config.max_udp_payload);
    let mut acks = AckFrequencyConfig::default();
    // A lost tail waits for the peer's delay; the default of 25 ms is half of a local gossip's p99.
    acks.max_ack_delay(Some(Duration::from_millis(5)));
    let mut transport = TransportConfig::default();
    transport
        // Control, gossip and tells; permitted streams are allocated up front.
        .max_concurrent_uni_streams(VarInt::from_u32(streams(config.tell_lanes)))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(var(config.stream_window))
        // One stalled lane must not use up what the others need; memory is bounded by the streams.
        .receive_window(VarInt::MAX)
        .send_window(config.send_window)
        // Without it a stream that was partly sent goes before one of higher priority.
        .send_fairness(true)
        .ack_frequency_config(Some(acks))
        // Of a cluster's network, not of the internet: the first handshake's retry waits for it.
        .initial_rtt(Duration::from_millis(50))
        .max_idle_timeout(IdleTimeout::try_from(config.idle_timeout).ok())
        .keep_alive_interval(Some(config.keep_alive))
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(CountingFactory(controllers(config))));
    transport
}

fn controllers(config: &Config) -> Arc<dyn ControllerFactory + Send + Sync> {
    match config.congestion {
        Congestion::LowDelay => Arc::new(LowDelayFactory),
        Congestion::Cubic => {
            let mut cubic = CubicConfig::default();
            cubic.initial_window((10 * u64::from(config.max_udp_payload)).max(14_720));
            Arc::new(cubic)
        }
    }
}

pub(super) fn streams(tell_lanes: u8) -> u32 {
    u32::from(tell_lanes) + 2
}

fn var(value: u64) -> VarInt {
    VarInt::try_from(value).unwrap_or(VarInt::MAX)
}

/// Both keys come from the identity, so that a restarted process answers its predecessor's
/// connections with stateless resets: peers learn of the restart within a round trip.
pub(super) fn endpoint_config(config: &Config, identity: &Identity, port: u16) -> EndpointConfig {
    let reset = identity.derive_secret(&format!("stateless reset {port}"));
    let [k0, k1, k2, k3, k4, k5, k6, k7, ..] =
        identity.derive_secret(&format!("connection ids {port}"));
    let cid_key = u64::from_le_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
    let mut endpoint = EndpointConfig::new(Arc::new(ResetKey::new(&reset)));
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    // In range by the configuration's own check.
    let _ = endpoint.max_udp_payload_size(config.max_udp_payload.max(1472));
    endpoint
}

pub(super) fn server_crypto(
    config: &Config,
    identity: &Identity,
) -> Result<Arc<QuicServerConfig>, BindError> {
    let mut tls = identity.server_config(ALPN, &config.wall_clock)?;
    if let Some(log) = &config.key_log {
        tls.key_log = log.for_rustls();
    }
    let crypto = QuicServerConfig::try_from(tls);
    crypto.map(Arc::new).map_err(|e| no_cipher(&e))
}

pub(super) fn client_crypto(
    config: &Config,
    identity: &Identity,
) -> Result<Arc<QuicClientConfig>, BindError> {
    let mut tls = identity.client_config(ALPN, &config.wall_clock)?;
    if let Some(log) = &config.key_log {
        tls.key_log = log.for_rustls();
    }
    let crypto = QuicClientConfig::try_from(tls);
    crypto.map(Arc::new).map_err(|e| no_cipher(&e))
}

fn no_cipher(error: &NoInitialCipherSuite) -> BindError {
    BindError::Identity(IdentityError::Configuration { detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that a UDP socket which asks for `wanted` gets for what it receives, and for what it sends.
    fn granted(wanted: usize) -> [usize; 2] {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        let _ = socket.set_recv_buffer_size(wanted);
        let _ = socket.set_send_buffer_size(wanted);
        [socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()]
    }

    /// What arrives while the receiving task is not running waits in the socket, or is lost.
    #[test]
    fn the_socket_holds_a_burst() {
        let config = Config::builder("sys").build().unwrap();
        let socket = open_socket(&config).unwrap();
        let buffers = socket2::SockRef::from(&socket);
        let has = [buffers.recv_buffer_size().unwrap(), buffers.send_buffer_size().unwrap()];
        // Some systems grant as much as they may, and some nothing, where too much is asked for.
        let most = granted(1 << 30).map(|most| most.min(config.socket_buffer));
        assert!(has[0] >= most[0] && has[1] >= most[1], "{has:?} bytes where {most:?} are granted");
        // Each takes more room than its bytes.
        let burst = has[0] / 4 / 1400;
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..burst {
            sender.send_to(&[0x5a; 1400], socket.local_addr().unwrap()).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        let held = (0..).take_while(|_| socket.recv(&mut [0; 1400]).is_ok()).count();
        assert_eq!(held, burst);
    }
}
