//! What a ping found, said as it is found, or as JSON at its end.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use cluster_quic::{Address, ConnectionInfo, Identity, Incarnation, LinkStats};
use serde::Serialize;

use super::hint::{GREETING, TLS};
use crate::certificate::{Description, day};
use crate::failure::Failure;
use crate::report::{Line, field, json, tame};

#[derive(Serialize)]
pub(super) struct Outcome {
    ok: bool,
    address: String,
    steps: Vec<Line>,
    pub(super) resolved: Vec<String>,
    /// The socket address that answered a probe of QUIC.
    pub(super) answered: Option<String>,
    /// QUIC versions of the server there.
    #[serde(rename = "quic_versions")]
    pub(super) versions: Vec<u32>,
    /// The node's.
    certificate: Option<Description>,
    node: Option<Node>,
    rtt_ms: Option<Rtt>,
    connection: Option<Connection>,
    #[serde(skip)]
    as_json: bool,
}

#[derive(Serialize)]
struct Node {
    incarnation: u64,
    wire_version: u16,
    alpn: String,
    /// Tell lanes in which it sends.
    tell_lanes: u8,
    /// Bytes per lane that it holds unread.
    stream_window: u64,
    /// Who this ping was to it.
    pinged_by: String,
}

#[derive(Serialize)]
struct Rtt {
    sent: u32,
    answered: usize,
    min: Option<f64>,
    avg: Option<f64>,
    max: Option<f64>,
}

#[derive(Serialize)]
struct Connection {
    smoothed_rtt_ms: f64,
    mtu: u16,
    sent_packets: u64,
    lost_packets: u64,
    /// What was asked for first, which every node of this version takes.
    cipher_suite: String,
    key_exchange: String,
}

/// Round trips, in order.
#[derive(Debug, Default)]
pub(super) struct Probes {
    sent: u32,
    answered: Vec<Duration>,
}

impl Probes {
    pub(super) fn add(&mut self, answered: Option<Duration>) {
        self.sent += 1;
        self.answered.extend(answered);
    }

    /// Shortest, mean and longest.
    fn figures(&self) -> Option<[Duration; 3]> {
        let count = u32::try_from(self.answered.len()).ok()?;
        let sum: Duration = self.answered.iter().sum();
        let (min, max) = (self.answered.iter().min()?, self.answered.iter().max()?);
        Some([*min, sum / count, *max])
    }
}

impl Outcome {
    pub(super) fn new(address: &Address, as_json: bool) -> Self {
        Self {
            ok: false,
            address: address.to_string(),
            steps: Vec::new(),
            resolved: Vec::new(),
            answered: None,
            versions: Vec::new(),
            certificate: None,
            node: None,
            rtt_ms: None,
            connection: None,
            as_json,
        }
    }

    pub(super) fn begin(&self, ours: &Description) -> io::Result<()> {
        if self.as_json {
            return Ok(());
        }
        writeln!(io::stdout(), "{}, with the certificate of {}\n", self.address, ours.subject)
    }

    pub(super) fn line(&mut self, line: Line) -> io::Result<()> {
        if !self.as_json {
            line.print(&mut io::stdout().lock())?;
        }
        self.steps.push(line);
        Ok(())
    }

    /// The node's certificate.
    pub(super) fn shown(&mut self, theirs: Description, trusted: bool) -> io::Result<()> {
        let text = format!(
            "{}, for {}\n{}\nissued by {}",
            theirs.subject,
            theirs.names_text(),
            theirs.validity(),
            theirs.issuer
        );
        self.certificate = Some(theirs);
        self.line(if trusted {
            Line::good(TLS, text)
        } else {
            Line::note("cert", format!("the node shows {text}"))
        })
    }

    pub(super) fn associated(
        &mut self,
        shown: &ConnectionInfo,
        incarnation: Option<Incarnation>,
        own: &Address,
    ) -> io::Result<()> {
        self.ok = true;
        let incarnation = incarnation.unwrap_or(Incarnation(0));
        let leaf = shown.certificates.first();
        if let Some(theirs) = leaf.and_then(|der| Description::of(der, SystemTime::now()).ok()) {
            self.shown(theirs, true)?;
        }
        self.line(Line::good(
            GREETING,
            format!(
                "it is {}, wire version {},\nincarnation {incarnation}{}",
                self.address,
                shown.wire_version,
                started(incarnation, SystemTime::now())
            ),
        ))?;
        self.line(Line::good(
            "lanes",
            format!(
                "control, gossip, and {} tell lanes from there, each with {} KiB unread at most",
                shown.tell_lanes,
                shown.stream_window / 1024
            ),
        ))?;
        self.node = Some(Node {
            incarnation: incarnation.0,
            wire_version: shown.wire_version,
            alpn: tame(&shown.protocol),
            tell_lanes: shown.tell_lanes,
            stream_window: shown.stream_window,
            pinged_by: own.to_string(),
        });
        Ok(())
    }

    pub(super) fn measured(&mut self, probes: &Probes, link: Option<&LinkStats>) -> io::Result<()> {
        let figures = probes.figures();
        let figures = figures.map(|figures| figures.map(rounded));
        let millis = |n: usize| figures.map(|figures| figures[n]);
        self.rtt_ms = Some(Rtt {
            sent: probes.sent,
            answered: probes.answered.len(),
            min: millis(0),
            avg: millis(1),
            max: millis(2),
        });
        let [cipher_suite, key_exchange] = Identity::first_choices();
        self.connection = link.map(|link| Connection {
            cipher_suite: cipher_suite.clone(),
            key_exchange: key_exchange.clone(),
            smoothed_rtt_ms: rounded(link.rtt),
            mtu: link.mtu,
            sent_packets: link.sent_packets,
            lost_packets: link.lost_packets,
        });
        if self.as_json {
            return Ok(());
        }
        let out = &mut io::stdout().lock();
        writeln!(out)?;
        let (answered, sent) = (probes.answered.len(), probes.sent);
        let rtt = match figures {
            Some([min, avg, max]) => format!("min {min:?} / avg {avg:?} / max {max:?} ms, "),
            None => String::new(),
        };
        field(out, "RTT", &format!("{rtt}{answered} of {sent} probes answered"))?;
        if let Some(link) = link {
            let text =
                format!("{} ms as QUIC has it, smoothed over the handshake", rounded(link.rtt));
            field(out, "", &text)?;
            field(out, "MTU", &format!("{} bytes in a UDP packet, as found so far", link.mtu))?;
        }
        let alpn = self.node.as_ref().map_or("", |node| node.alpn.as_str());
        field(out, "cipher", &format!("TLS 1.3, ALPN {alpn},\n{cipher_suite}, {key_exchange}"))?;
        field(out, "QUIC", "version 1")?;
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), Failure> {
        if self.as_json {
            json(&mut io::stdout().lock(), self)?;
        }
        if self.ok { Ok(()) } else { Err(Failure::Told) }
    }
}

/// When an incarnation began, if it is a time: it may be any number.
fn started(incarnation: Incarnation, now: SystemTime) -> String {
    const PLAUSIBLE: Duration = Duration::from_secs(1_577_836_800);
    let begin = SystemTime::UNIX_EPOCH + Duration::from_micros(incarnation.0);
    let plausible = begin > SystemTime::UNIX_EPOCH + PLAUSIBLE && begin <= now;
    if plausible { format!(", up since {}", day(begin)) } else { String::new() }
}

/// In milliseconds, to the hundredth.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 1e2
}

/// `0.12 ms`.
pub(super) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_summed_up() {
        let mut probes = Probes::default();
        assert_eq!(probes.figures(), None);
        for millis in [Some(3), None, Some(1), Some(8)] {
            probes.add(millis.map(Duration::from_millis));
        }
        assert_eq!((probes.sent, probes.answered.len()), (4, 3));
        assert_eq!(probes.figures(), Some([1, 4, 8].map(Duration::from_millis)));
    }

    #[test]
    fn an_incarnation_that_is_a_time_is_one() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let at = |micros| started(Incarnation(micros), now);
        assert_eq!(at(1_700_000_000_000_000), ", up since 2023-11-14 22:13 UTC");
        assert_eq!(at(1_900_000_000_000_000), "", "to come");
        assert_eq!(at(7), "", "a count");
    }
}
