//! First packets from 10 000 addresses that nobody is at: what is answered to them stays small, and who is
//! really there gets in.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cluster_quic::bench_support::open_socket;
use cluster_quic::{ClusterTransport, CustomSocket};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};
use rustls::Side;
use rustls::quic::{ClientConnection, Suite, Version};

use crate::message::Options;
use crate::setup::{Folder, config, identity, until};

const SPOOFED: usize = 10_000;

/// A socket that counts what it carries, by the other side's address.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn AsyncUdpSocket>,
    counts: Arc<Mutex<HashMap<IpAddr, Count>>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    received: u64,
    packets: u64,
    answered: u64,
    /// Retry packets (RFC 9000, section 17.2.5).
    retries: u64,
    /// Stateless resets, or what else has a short header.
    short: u64,
}

impl AsyncUdpSocket for Counting {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(transmit.destination.ip()).or_default();
        count.answered += transmit.contents.len() as u64;
        let first = transmit.contents.first().copied().unwrap_or_default();
        count.retries += u64::from(first & 0xf0 == 0xf0);
        count.short += u64::from(first & 0x80 == 0);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_recv(cx, buffers, metas);
        if let Poll::Ready(Ok(n)) = polled {
            let mut counts = self.counts.lock().unwrap();
            for meta in &metas[..n] {
                let count = counts.entry(meta.addr.ip()).or_default();
                count.received += meta.len as u64;
                count.packets += meta.len.div_ceil(meta.stride.max(1)) as u64;
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

const SOURCE_ID: [u8; 8] = *b"spoofed!";

/// A `ClientHello` that fits into one packet: the answer is the whole of the server's flight.
fn client_hello(folder: &Folder) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let ca = folder.path().join("ca.pem");
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = rustls::crypto::CryptoProvider {
        kx_groups: vec![rustls::crypto::aws_lc_rs::kx_group::X25519],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"cluster-quic/1".to_vec()];
    // `initial_source_connection_id`, alone.
    let parameters = [&[0x0f, 8], &SOURCE_ID[..]].concat();
    let name = "127.0.0.1".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(tls), Version::V1, name, parameters).unwrap();
    let mut hello = Vec::new();
    assert!(client.write_hs(&mut hello).is_none());
    hello
}

/// An Initial packet (RFC 9000, section 17.2.2; RFC 9001, section 5) with `hello` in it.
fn initial(suite: &Suite, hello: &[u8], destination_id: [u8; 8]) -> Vec<u8> {
    const LEN: usize = 1200;
    const TAG: usize = 16;
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend_from_slice(&destination_id);
    packet.push(8);
    packet.extend_from_slice(&SOURCE_ID);
    // No token; the length of what follows; packet number 0 in four bytes.
    packet.push(0);
    let rest = (LEN - packet.len() - 2) as u16;
    packet.extend_from_slice(&(0x4000 | rest).to_be_bytes());
    let number = packet.len();
    packet.extend_from_slice(&[0; 4]);
    let header = packet.len();
    // CRYPTO from 0 on, and padding.
    packet.extend_from_slice(&[6, 0]);
    packet.extend_from_slice(&(0x4000 | hello.len() as u16).to_be_bytes());
    packet.extend_from_slice(hello);
    packet.resize(LEN - TAG, 0);
    let keys = suite.keys(&destination_id, Side::Client, Version::V1);
    let (head, payload) = packet.split_at_mut(header);
    let tag = keys.local.packet.encrypt_in_place(0, head, payload).unwrap();
    packet.extend_from_slice(tag.as_ref());
    let (head, payload) = packet.split_at_mut(header);
    let (first, head) = head.split_first_mut().unwrap();
    let sample = &payload[..keys.local.header.sample_len()];
    keys.local.header.encrypt_in_place(sample, first, &mut head[number - 1..]).unwrap();
    packet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spoofed_first_packets_are_answered_with_three_times_their_bytes_at_most() {
    let folder = Folder::new();
    let options = Options::default();
    let socket = open_socket(&config(&options)).unwrap();
    let counts = Arc::default();
    let inner = TokioRuntime.wrap_udp_socket(socket).unwrap();
    let counting = Arc::new(Counting { inner, counts: Arc::clone(&counts) });
    let socket = CustomSocket { socket: counting, seed: None };
    let identity = identity(folder.path());
    let victim = ClusterTransport::bind_socket(config(&options), &identity, socket).unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, victim.address().port()));
    let aes = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = aes.tls13().unwrap().quic_suite().unwrap();
    let hello = client_hello(&folder);
    let packets = || {
        let counts: std::sync::MutexGuard<'_, HashMap<IpAddr, Count>> = counts.lock().unwrap();
        counts.iter().filter(|(ip, _)| is_spoofed(ip)).map(|(_, n)| n.packets).sum::<u64>()
    };
    let honest = folder.node(&options);
    let mut joined = None;
    for n in 0..SPOOFED {
        let [.., high, low] = n.to_be_bytes();
        let from = UdpSocket::bind((Ipv4Addr::new(127, 9, high, low), 0)).unwrap();
        let packet = match n % 10 {
            // Not the beginning of anything.
            9 => vec![n as u8 | 0x40; 1200],
            _ => initial(&suite, &hello, (n as u64).to_be_bytes()),
        };
        from.send_to(&packet, to).unwrap();
        if n % 32 == 31 {
            // Its socket must not overflow, or the test tests less than it says.
            until("the packets are taken in", || packets() + 32 > n as u64).await;
        }
        if n == SPOOFED / 2 {
            let (peer, begin) = (honest.transport.peer(victim.address()).unwrap(), Instant::now());
            joined = Some(tokio::spawn(async move {
                peer.connect().await.unwrap();
                begin.elapsed()
            }));
        }
    }
    let joined = tokio::time::timeout(Duration::from_secs(10), joined.unwrap()).await;
    let joined = joined.unwrap_or_else(|_| panic!("{:?}", honest.transport.peers())).unwrap();
    until("all are taken in", || packets() == SPOOFED as u64).await;
    // Until nothing is answered any more: what was begun is given up after the dial timeout.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    // A copy: the socket still counts.
    let counts = counts.lock().unwrap().clone();
    let spoofed: Vec<_> = counts.iter().filter(|(ip, _)| is_spoofed(ip)).collect();
    let sum = |of: fn(&Count) -> u64| spoofed.iter().map(|(_, n)| of(n)).sum::<u64>();
    let (received, answered) = (sum(|n| n.received), sum(|n| n.answered));
    let (retries, short) = (sum(|n| n.retries), sum(|n| n.short));
    let worst =
        spoofed.iter().map(|(_, n)| n.answered as f64 / n.received as f64).fold(0.0, f64::max);
    println!(
        "{SPOOFED} spoofed packets of {received} bytes: answered with {answered} bytes ({:.2} x; at most \
         {worst:.2} x to one address), {retries} retries, {short} resets; a real peer joined in {joined:?}",
        answered as f64 / received as f64,
    );
    assert_eq!(spoofed.len(), SPOOFED);
    assert!(answered <= 3 * received);
    // quinn sends a whole packet while there is any room left (its issue 1082), so the last one may go over.
    assert!(spoofed.iter().all(|(_, n)| n.answered < 3 * n.received + 1200), "{worst} x");
    // Some handshakes are begun, up to the threshold at a time; each of them answers with its flight.
    assert!(worst > 1.0, "no handshake was answered: the packets are no good");
    assert!(retries >= SPOOFED as u64 / 2, "{retries}");
}

fn is_spoofed(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[1] == 9)
}
