//! Why an association could not be had, at which step, and what to do about it: in plain words.

use std::time::Duration;

use cluster_quic::{
    Address, AssociationError as E, CertificateFailure, CertificateProblem as P, Side,
};

use crate::certificate::Description;
use crate::report::{Line, tame};

/// What is known when a dial fails.
pub(super) struct Known<'a> {
    /// What was dialled.
    pub(super) address: &'a Address,
    pub(super) cluster: &'a str,
    /// A QUIC server answered there before.
    pub(super) answered: bool,
    /// The node's certificate, if it has shown one.
    pub(super) theirs: Option<&'a Description>,
    /// This side's.
    pub(super) ours: &'a Description,
}

pub(super) const TLS: &str = "TLS";
pub(super) const GREETING: &str = "greeting";

pub(super) fn explain(error: &E, known: &Known<'_>) -> Line {
    let said = tame(&error.to_string());
    match error {
        E::Resolve { .. } => Line::wrong("name", said).hint(NO_NAME),
        E::NoAnswer(limit) if known.answered => Line::wrong(
            TLS,
            format!("QUIC answers, but the handshake did not end within {}", seconds(*limit)),
        )
        .hint(
            "the node is busy with other handshakes, or stopped, or full-sized packets are lost on \
             the way: try again, or with a longer --timeout",
        ),
        E::NoAnswer(limit) => Line::wrong("QUIC", no_answer(*limit)).hint(SILENCE),
        E::GreetingTimeout(limit) => Line::wrong(
            GREETING,
            format!("the node answered the handshake, but no greeting within {}", seconds(*limit)),
        )
        .hint("its process hangs or is very busy, or something other than cluster-quic listens there"),
        E::Certificate(failure) => certificate(failure, known),
        E::Version(_) => Line::wrong(TLS, said).hint(format!(
            "this is cluster-quic {}: take the tool of the version that the node runs. Or something \
             other than cluster-quic listens there",
            env!("CARGO_PKG_VERSION")
        )),
        E::Cluster(_) => cluster(&said, known),
        E::Claim(_) => claim(&said),
        E::Refused(text) if text.contains("max_peers") => Line::wrong(GREETING, said)
            .hint("the node is busy: it has as many peers as it may have; try later, or raise max_peers"),
        E::Connection(text) if text.contains("refused to accept") => Line::wrong(TLS, said)
            .hint("the node is busy: it takes no more connections at the moment; try again"),
        E::Quarantined | E::Stale { .. } | E::Outdated(_) => {
            Line::wrong(GREETING, said).hint(EARLIER_LIFE)
        }
        E::Goodbye | E::ShuttingDown => {
            Line::wrong(GREETING, said).hint("the node is about to end: ping it again once it is up")
        }
        E::Superseded => Line::wrong(GREETING, said)
            .hint("another ping with this certificate took the same address: try again"),
        E::TimedOut | E::Unheard | E::Reset => Line::wrong(GREETING, said)
            .hint("the node, or the way to it, failed in mid-conversation: try again"),
        _ => Line::wrong(GREETING, said).hint("the node's own log may have more"),
    }
}

const EARLIER_LIFE: &str = "the node refuses an earlier life of the address that this ping has: ping \
     again, which takes another address";

pub(super) const NO_NAME: &str =
    "check the spelling, and that this machine's resolver (DNS, /etc/hosts) knows the name";

pub(super) const PORT_UNREACHABLE: &str = "nothing listens on that UDP port of the host: is the node up, \
     and the port right? (A packet filter that rejects says the same.)";

pub(super) const UNREACHABLE: &str =
    "there is no way to that address from here: check routes and packet filters";

pub(super) const SILENCE: &str = "the host is down, or a packet filter drops UDP on the way, or the \
     process is stopped: check the address, and that UDP may pass to that port and back";

pub(super) fn no_answer(limit: Duration) -> String {
    format!("no answer within {}", seconds(limit))
}

fn certificate(failure: &CertificateFailure, known: &Known<'_>) -> Line {
    let detail = failure.detail.as_deref().map(|detail| format!(" ({})", tame(detail)));
    let detail = detail.unwrap_or_default();
    match failure.by {
        Side::Us => refused_here(&failure.problem, &detail, known),
        Side::Peer => refused_there(&failure.problem, &detail, known),
    }
}

/// This side does not take the node's certificate.
fn refused_here(problem: &P, detail: &str, known: &Known<'_>) -> Line {
    let host = known.address.host();
    let issuer = known.theirs.map(|theirs| theirs.issuer.as_str());
    let of_issuer = issuer.map_or(String::new(), |issuer| format!(", {issuer},"));
    let (text, hint) = match problem {
        P::UnknownIssuer | P::BadSignature => (
            format!(
                "this side does not trust the node's certificate: its issuer{of_issuer} is not in --ca"
            ),
            "take the CA bundle of the node's cluster as --ca. Or another node answers there"
                .into(),
        ),
        P::NameMismatch | P::NameMismatchOrMalformed => {
            let names = known.theirs.map_or_else(String::new, Description::names_text);
            let only = if names.is_empty() { detail.to_owned() } else { format!(", only {names}") };
            (
                format!("the node's certificate does not cover {host}{only}"),
                format!(
                    "dial it by a name that the certificate covers, or issue the node's \
                     certificate again with {host} among its names"
                ),
            )
        }
        P::Expired => (
            format!("the node's certificate has expired{detail}"),
            "issue it again; a running node takes a new one without a restart".into(),
        ),
        P::NotYetValid | P::ExpiredOrNotYetValid => (
            format!("the node's certificate is not valid now{detail}"),
            "compare this machine's clock with that of the one which issued it".into(),
        ),
        P::WrongUsage => (
            "the node's certificate does not allow it to be dialled".to_owned(),
            "issue it with the extended key usages serverAuth and clientAuth".into(),
        ),
        other => (
            format!(
                "this side refuses the node's certificate: {}{detail}",
                tame(&other.to_string())
            ),
            "look at it with `cluster-quic certs show` on the node".into(),
        ),
    };
    Line::wrong(TLS, text).hint(hint)
}

/// The node does not take this side's certificate.
fn refused_there(problem: &P, detail: &str, known: &Known<'_>) -> Line {
    let ours = &known.ours.subject;
    let (text, hint) = match problem {
        P::UnknownIssuer | P::BadSignature => (
            format!(
                "the node does not trust this side's certificate, {ours}: its CA bundle lacks the \
                 issuer, {}",
                known.ours.issuer
            ),
            "take a certificate of the node's CA as --cert, or add this issuer to the node's bundle",
        ),
        P::Expired | P::NotYetValid | P::ExpiredOrNotYetValid => (
            format!(
                "to the node this side's certificate, {}, is expired or not yet valid{detail}",
                known.ours.validity()
            ),
            "compare the two machines' clocks",
        ),
        P::WrongUsage => (
            format!("this side's certificate, {ours}, does not allow it to dial"),
            "issue it with the extended key usages serverAuth and clientAuth",
        ),
        other => (
            format!(
                "the node refuses this side's certificate, {ours}: {}{detail}",
                tame(&other.to_string())
            ),
            "the node's own log has more; `cluster-quic certs check` looks at this side's files",
        ),
    };
    Line::wrong(TLS, text).hint(hint)
}

/// `said` names both clusters: the one that was asked for, then the node's own.
fn cluster(said: &str, known: &Known<'_>) -> Line {
    let theirs = said.rsplit('`').nth(1).filter(|name| !name.is_empty() && *name != known.cluster);
    let asked = known.cluster;
    let Some(theirs) = theirs else {
        return Line::wrong(GREETING, said).hint("name its system in ADDRESS, or give --cluster");
    };
    let (host, port) = (known.address.host(), known.address.port());
    let hint = match Address::new(theirs, host, port) {
        Ok(address) => {
            format!("ping {address}, or give --cluster {theirs} if its system has another name")
        }
        Err(_) => format!("give --cluster '{theirs}'"),
    };
    let text = format!("the node belongs to another cluster: `{theirs}`, and not `{asked}`");
    Line::wrong(GREETING, text).hint(hint)
}

/// `said` may name the address by which the node knows itself.
fn claim(said: &str) -> Line {
    let own = said.rsplit_once("but this is ").map(|(_, own)| own.trim());
    match own.and_then(|own| own.parse::<Address>().ok()) {
        Some(own) => Line::wrong(GREETING, format!("the node goes by another address: {own}"))
            .hint(format!(
                "ping {own}: a node answers to the address that it advertises, and to no other"
            )),
        None => {
            Line::wrong(GREETING, said).hint("compare the address with what the node advertises")
        }
    }
}

/// `5 s`, `0.25 s`.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_quic::DevCa;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use std::time::SystemTime;

    fn explained(error: &E, answered: bool) -> Line {
        let issued = DevCa::new("test").unwrap().issue(&["a.test"]).unwrap();
        let der = CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap();
        let ours = Description::of(&der, SystemTime::now()).unwrap();
        let address = "akka.quic://asked@a.test:7".parse().unwrap();
        let cluster = "asked";
        explain(error, &Known { address: &address, cluster, answered, theirs: None, ours: &ours })
    }

    #[test]
    fn every_failure_of_a_dial_has_a_step_and_a_hint() {
        let text = || "some words".to_owned();
        let limit = Duration::from_secs(5);
        let all = [
            (E::NoAnswer(limit), "QUIC"),
            (E::GreetingTimeout(limit), GREETING),
            (E::Version(text()), TLS),
            (E::Cluster(text()), GREETING),
            (E::Claim(text()), GREETING),
            (E::Outdated(text()), GREETING),
            (E::Quarantined, GREETING),
            (E::Refused("1 peers are known, which is the limit of max_peers".into()), GREETING),
            (E::Connection("the server refused to accept a new connection".into()), TLS),
            (E::TimedOut, GREETING),
            (E::Unheard, GREETING),
            (E::Reset, GREETING),
            (E::Goodbye, GREETING),
            (E::Superseded, GREETING),
        ];
        for (error, step) in all {
            let line = explained(&error, false);
            assert_eq!(line.what, step, "{error}");
            assert!(line.is_wrong() && line.hint.is_some(), "{error}");
        }
        assert_eq!(explained(&E::NoAnswer(limit), true).what, TLS, "QUIC answered");
    }

    #[test]
    fn what_the_node_is_called_comes_from_its_words() {
        let cluster = "the peer says: `asked`, and this node to `real`".to_owned();
        let hint = explained(&E::Cluster(cluster), true).hint.unwrap();
        assert!(hint.starts_with("ping akka.quic://real@a.test:7"), "{hint}");
        let claim = "the peer says: dialled as akka.quic://asked@a.test:7, but this is \
                     akka.quic://asked@b.test:8";
        let hint = explained(&E::Claim(claim.into()), true).hint.unwrap();
        assert!(hint.starts_with("ping akka.quic://asked@b.test:8"), "{hint}");
        // From a peer that says something else.
        for odd in ["", "``", "`asked`", "but this is \u{1b}[2J"] {
            for error in [E::Cluster(odd.into()), E::Claim(odd.into())] {
                let line = explained(&error, true);
                assert!(line.hint.is_some());
                assert!(!line.text.contains('\u{1b}'), "{line:?}");
            }
        }
    }
}
