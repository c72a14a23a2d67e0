//! Whether anything speaks QUIC at an address, and how soon: a packet of a version that does not exist,
//! which every QUIC server answers with the versions that it has (RFC 9000, section 6). It opens no
//! connection, costs the server no memory, and makes no line in its log.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Of the versions that are reserved for this (RFC 9000, section 15).
const NO_VERSION: [u8; 4] = [0x5a, 0x6a, 0x7a, 0x8a];

/// Servers leave shorter ones unanswered.
const LENGTH: usize = 1200;

/// A question that is not answered is asked again after this.
const AGAIN: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub(super) enum Answer {
    /// A QUIC server.
    Quic { rtt: Duration, versions: Vec<u32> },
    /// ICMP says that no program listens on the port.
    PortUnreachable,
    /// The system does not send there, or ICMP says that there is no way.
    Unreachable(io::Error),
    /// Nothing came within the time.
    Silence,
}

/// Asks one address, again and again, until it answers or `limit` has passed.
pub(super) async fn ask(to: SocketAddr, limit: Duration) -> Answer {
    judged(asked(to, limit, AGAIN).await)
}

/// Asks once, and waits for `limit` at most.
pub(super) async fn ask_once(to: SocketAddr, limit: Duration) -> Answer {
    judged(asked(to, limit, limit).await)
}

fn judged(answer: io::Result<Answer>) -> Answer {
    match answer {
        Ok(answer) => answer,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::PortUnreachable,
        Err(error) => Answer::Unreachable(error),
    }
}

async fn asked(to: SocketAddr, limit: Duration, again: Duration) -> io::Result<Answer> {
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    // A connected socket is told what ICMP says.
    socket.connect(to).await?;
    let mut questions = Vec::new();
    let end = Instant::now() + limit;
    loop {
        // Before the clock is read: the first random number of a process takes its time.
        let ids = Ids::random()?;
        let (packet, now) = (question(&ids), Instant::now());
        if now >= end {
            return Ok(Answer::Silence);
        }
        questions.push((ids, now));
        socket.send(&packet).await?;
        let answer = answer(&socket, &questions);
        if let Ok(answer) = timeout_at(end.min(now + again), answer).await {
            return answer;
        }
    }
}

/// Waits for the answer to one of the questions; whatever else comes is passed over.
async fn answer(socket: &UdpSocket, questions: &[(Ids, Instant)]) -> io::Result<Answer> {
    let mut buffer = [0; 1500];
    loop {
        let length = socket.recv(&mut buffer).await?;
        for (ids, begin) in questions {
            if let Some(versions) = versions(&buffer[..length], ids) {
                return Ok(Answer::Quic { rtt: begin.elapsed(), versions });
            }
        }
    }
}

/// Connection ids, by which an answer is told from a forged one.
struct Ids {
    destination: [u8; 8],
    source: [u8; 8],
}

impl Ids {
    fn random() -> io::Result<Self> {
        let mut ids = Self { destination: [0; 8], source: [0; 8] };
        for id in [&mut ids.destination, &mut ids.source] {
            rand::fill(id).map_err(|_| io::Error::other("no random numbers"))?;
        }
        Ok(ids)
    }
}

fn question(ids: &Ids) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(NO_VERSION);
    for id in [&ids.destination, &ids.source] {
        packet.push(8);
        packet.extend(id);
    }
    packet.resize(LENGTH, 0);
    packet
}

/// The versions in an answer to the question with these ids; `None` if it is no such answer.
fn versions(packet: &[u8], ids: &Ids) -> Option<Vec<u32>> {
    let (first, rest) = packet.split_first()?;
    let rest = rest.strip_prefix(&[0; 4]).filter(|_| first & 0x80 != 0)?;
    let rest = rest.strip_prefix(&[8])?.strip_prefix(&ids.source)?;
    let rest = rest.strip_prefix(&[8])?.strip_prefix(&ids.destination)?;
    let (words, []) = rest.as_chunks::<4>() else { return None };
    let versions: Vec<_> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    // Those that are there to keep clients from expecting none (RFC 9000, section 6.3).
    Some(versions.into_iter().filter(|v| v & 0x0f0f_0f0f != 0x0a0a_0a0a).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let ids = Ids { destination: [1; 8], source: [2; 8] };
        let asked = question(&ids);
        assert_eq!(asked.len(), LENGTH);
        assert_eq!(versions(&asked, &ids), None);
        let mut answer = vec![0x80, 0, 0, 0, 0, 8];
        answer.extend([2; 8]);
        answer.push(8);
        answer.extend([1; 8]);
        answer.extend([0x0a, 0x1a, 0x2a, 0x3a, 0, 0, 0, 1]);
        assert_eq!(versions(&answer, &ids), Some(vec![1]));
        for cut in 0..answer.len() - 8 {
            assert_eq!(versions(&answer[..cut], &ids), None, "cut at {cut}");
        }
        let another = Ids { destination: [1; 8], source: [3; 8] };
        assert_eq!(versions(&answer, &another), None);
    }
}
