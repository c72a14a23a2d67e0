//! Why a handshake failed over a certificate, and which side said no.

use std::fmt;
use std::time::{Duration, SystemTime};

use quinn::ConnectionError;

use super::iso_utc;

/// A handshake failed because one side refused the other's certificate.
///
/// If this node refused the peer's, [`problem`](Self::problem) is exact. If the peer refused
/// ours, it is what the peer said: always the number of a TLS alert, and from a peer with this
/// library also a sentence. Some problems share an alert, so without the sentence the answer may
/// be one of two; the variants of [`CertificateProblem`] say so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateFailure {
    /// Who refused a certificate: this node that of the peer, or the peer that of this node.
    pub by: Side,
    /// What is wrong with the certificate.
    pub problem: CertificateProblem,
    /// More about it, if there is more: the names it covers, the date of expiry. One line.
    pub detail: Option<String>,
}

impl fmt::Display for CertificateFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.by, &self.problem) {
            (Side::Us, CertificateProblem::Missing) => {
                f.write_str("we refused the peer: it sent no certificate")?;
            }
            (Side::Peer, CertificateProblem::Missing) => {
                f.write_str("the peer refused us: we sent no certificate")?;
            }
            (Side::Us, problem) => write!(f, "we refused the peer's certificate: {problem}")?,
            (Side::Peer, problem) => write!(f, "the peer refused our certificate: {problem}")?,
        }
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CertificateFailure {}

/// One end of a connection, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This node.
    Us,
    /// The node at the other end.
    Peer,
}

/// What one side of a handshake found wrong with the certificate of the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// No CA in the bundle of the side that refused it issued it.
    #[error(
        "unknown issuer: the CA that issued it is not in the CA bundle of the side that refused it"
    )]
    UnknownIssuer,

    /// A signature does not check out. Most often a CA in the bundle has the same name as the one
    /// that issued the certificate, but another key.
    #[error(
        "bad signature: most often a CA in the bundle of the side that refused it has the \
         issuer's name but another key"
    )]
    BadSignature,

    /// Its time is over.
    #[error("expired")]
    Expired,

    /// Its time has not come, or a clock is wrong.
    #[error("not yet valid: compare the clocks of the two nodes")]
    NotYetValid,

    /// The one or the other; the peer's alert is the same for both.
    #[error("expired or not yet valid: check its dates and the clocks of the two nodes")]
    ExpiredOrNotYetValid,

    /// None was sent.
    #[error("none was sent")]
    Missing,

    /// It does not cover the name that was dialled.
    #[error("it does not cover the name that was dialled")]
    NameMismatch,

    /// It does not cover the name that was dialled, or it cannot be read; the peer's alert is the
    /// same for both.
    #[error("bad certificate: most often it does not cover the name that was dialled")]
    NameMismatchOrMalformed,

    /// It cannot be read, or it has a critical extension that is not understood.
    #[error("it is malformed or has an unknown critical extension")]
    Malformed,

    /// Its extended key usage does not allow the role: servers need serverAuth, clients clientAuth.
    #[error(
        "its extended key usage does not allow this use; a node needs serverAuth and clientAuth"
    )]
    WrongUsage,

    /// It has been revoked.
    #[error("revoked")]
    Revoked,

    /// Something else, in the words of the TLS library.
    #[error("{0}")]
    Other(String),
}

/// Was this connection lost over a certificate? `None` if it was lost for any other reason.
///
/// With TLS 1.3 the dialer is done with its handshake before the acceptor has seen the dialer's
/// certificate. So a dialer learns of a refusal from an established connection that closes at
/// once, not from the attempt to connect.
pub(crate) fn classify(error: &ConnectionError) -> Option<CertificateFailure> {
    match error {
        ConnectionError::TransportError(error) => judge(Side::Us, error.code.into(), &error.reason),
        ConnectionError::ConnectionClosed(close) => {
            judge(Side::Peer, close.error_code.into(), &String::from_utf8_lossy(&close.reason))
        }
        _ => None,
    }
}

/// What this node says of a certificate that it does not accept.
pub(super) fn refused_by_us(error: &rustls::Error) -> CertificateFailure {
    let text = one_line(&error.to_string());
    let (problem, detail) = from_text(&text).unwrap_or((CertificateProblem::Other(text), None));
    CertificateFailure { by: Side::Us, problem, detail }
}

/// This node ends a connection whose certificate has expired.
pub(crate) fn has_expired(not_after: SystemTime) -> CertificateFailure {
    let detail = Some(format!("it was valid until {}", iso_utc(not_after)));
    CertificateFailure { by: Side::Us, problem: CertificateProblem::Expired, detail }
}

/// The alert number decides; the text says which of the problems that share an alert it is. From
/// a peer both are claims and nothing more, so the text is not believed against the alert.
fn judge(by: Side, code: u64, text: &str) -> Option<CertificateFailure> {
    // RFC 9001, section 4.8: the crypto error codes are 0x100 plus the TLS alert.
    let alert = u8::try_from(code.checked_sub(0x100)?).ok()?;
    let text = one_line(text);
    let failure = |problem, detail| Some(CertificateFailure { by, problem, detail });
    if let Some((problem, detail)) = from_text(&text)
        && alerts(&problem).contains(&alert)
    {
        return failure(problem, detail);
    }
    let problem = from_alert(alert)?;
    if text.is_empty() {
        failure(problem, None)
    } else if alert == DECRYPT_ERROR {
        // Also what TLS says of a handshake that was tampered with, which is not about
        // certificates.
        None
    } else {
        failure(problem, Some(text))
    }
}

/// What rustls says: `Display` of its `Error` and `CertificateError`. Not a stable interface,
/// hence the fallback to alerts, and a test that fails if the words change.
fn from_text(text: &str) -> Option<(CertificateProblem, Option<String>)> {
    if text == "peer sent no certificates" {
        return Some((CertificateProblem::Missing, None));
    }
    let words = text.strip_prefix("invalid peer certificate: ")?;
    let says = |beginning: &str, exactly: &str| words.starts_with(beginning) || words == exactly;
    let problem = if words == "UnknownIssuer" {
        (CertificateProblem::UnknownIssuer, None)
    } else if words == "BadSignature" {
        (CertificateProblem::BadSignature, None)
    } else if says("certificate expired", "Expired") {
        let until = date_after(words, "not valid after ");
        (CertificateProblem::Expired, until.map(|date| format!("it was valid until {date}")))
    } else if says("certificate not valid yet", "NotValidYet") {
        let from = date_after(words, "not valid before ");
        (CertificateProblem::NotYetValid, from.map(|date| format!("it is valid from {date}")))
    } else if says("certificate not valid for name", "NotValidForName") {
        (CertificateProblem::NameMismatch, context(words))
    } else if says("certificate does not allow extended key usage", "InvalidPurpose") {
        (CertificateProblem::WrongUsage, context(words))
    } else if words == "Revoked" {
        (CertificateProblem::Revoked, None)
    } else if words == "BadEncoding" || words == "UnhandledCriticalExtension" {
        (CertificateProblem::Malformed, context(words))
    } else {
        (CertificateProblem::Other(words.to_owned()), None)
    };
    Some(problem)
}

fn from_alert(alert: u8) -> Option<CertificateProblem> {
    Some(match alert {
        BAD_CERTIFICATE => CertificateProblem::NameMismatchOrMalformed,
        UNSUPPORTED_CERTIFICATE => CertificateProblem::WrongUsage,
        CERTIFICATE_REVOKED => CertificateProblem::Revoked,
        CERTIFICATE_EXPIRED => CertificateProblem::ExpiredOrNotYetValid,
        CERTIFICATE_UNKNOWN => CertificateProblem::Other("unacceptable certificate".to_owned()),
        UNKNOWN_CA => CertificateProblem::UnknownIssuer,
        ACCESS_DENIED => CertificateProblem::Other("access denied".to_owned()),
        DECRYPT_ERROR => CertificateProblem::BadSignature,
        BAD_CERTIFICATE_STATUS_RESPONSE => {
            CertificateProblem::Other("bad revocation status".to_owned())
        }
        CERTIFICATE_REQUIRED => CertificateProblem::Missing,
        _ => return None,
    })
}

/// The alerts with which a problem may be reported.
fn alerts(problem: &CertificateProblem) -> &'static [u8] {
    match problem {
        CertificateProblem::UnknownIssuer => &[UNKNOWN_CA],
        CertificateProblem::BadSignature => &[DECRYPT_ERROR],
        CertificateProblem::Expired
        | CertificateProblem::NotYetValid
        | CertificateProblem::ExpiredOrNotYetValid => &[CERTIFICATE_EXPIRED],
        CertificateProblem::Missing => &[CERTIFICATE_REQUIRED],
        CertificateProblem::NameMismatch
        | CertificateProblem::NameMismatchOrMalformed
        | CertificateProblem::Malformed => &[BAD_CERTIFICATE],
        CertificateProblem::WrongUsage => &[UNSUPPORTED_CERTIFICATE],
        CertificateProblem::Revoked => &[CERTIFICATE_REVOKED],
        CertificateProblem::Other(_) => &[
            CERTIFICATE_UNKNOWN,
            ACCESS_DENIED,
            BAD_CERTIFICATE_STATUS_RESPONSE,
            // A revocation status that cannot be known, and an algorithm that is not supported.
            UNKNOWN_CA,
            DECRYPT_ERROR,
        ],
    }
}

// RFC 8446, section 6.
const BAD_CERTIFICATE: u8 = 42;
const UNSUPPORTED_CERTIFICATE: u8 = 43;
const CERTIFICATE_REVOKED: u8 = 44;
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
const DECRYPT_ERROR: u8 = 51;
const BAD_CERTIFICATE_STATUS_RESPONSE: u8 = 113;
const CERTIFICATE_REQUIRED: u8 = 116;

/// A sentence is worth repeating; the bare name of a variant is not.
fn context(words: &str) -> Option<String> {
    words.contains(' ').then(|| words.to_owned())
}

/// The number of seconds since 1970 that follows `marker`, as a date.
fn date_after(words: &str, marker: &str) -> Option<String> {
    let (_, rest) = words.split_once(marker)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    let seconds: u64 = digits.parse().ok()?;
    // The end of the year 9999, the last that a certificate can name. A peer can write anything.
    if seconds > 253_402_300_799 {
        return None;
    }
    Some(iso_utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}

/// The text may come from a peer that has not proved who it is, and it ends up in logs.
fn one_line(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

const MAX_TEXT: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{AlertDescription, CertificateError, Error, ExtendedKeyPurpose};

    /// Every kind of refusal, from rustls itself: the words it uses and the alert it sends.
    #[test]
    fn the_words_and_alerts_of_rustls_are_understood() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let name = ServerName::try_from("b.test").unwrap();
        let cases = [
            (CertificateError::UnknownIssuer, CertificateProblem::UnknownIssuer),
            (CertificateError::BadSignature, CertificateProblem::BadSignature),
            (CertificateError::Expired, CertificateProblem::Expired),
            (
                CertificateError::ExpiredContext {
                    time: at(1_700_000_000),
                    not_after: at(1_600_000_000),
                },
                CertificateProblem::Expired,
            ),
            (CertificateError::NotValidYet, CertificateProblem::NotYetValid),
            (
                CertificateError::NotValidYetContext {
                    time: at(1_600_000_000),
                    not_before: at(1_700_000_000),
                },
                CertificateProblem::NotYetValid,
            ),
            (CertificateError::NotValidForName, CertificateProblem::NameMismatch),
            (
                CertificateError::NotValidForNameContext {
                    expected: name,
                    presented: vec!["a.test".to_owned()],
                },
                CertificateProblem::NameMismatch,
            ),
            (CertificateError::InvalidPurpose, CertificateProblem::WrongUsage),
            (
                CertificateError::InvalidPurposeContext {
                    required: ExtendedKeyPurpose::ClientAuth,
                    presented: vec![ExtendedKeyPurpose::ServerAuth],
                },
                CertificateProblem::WrongUsage,
            ),
            (CertificateError::Revoked, CertificateProblem::Revoked),
            (CertificateError::BadEncoding, CertificateProblem::Malformed),
            (
                CertificateError::ApplicationVerificationFailure,
                CertificateProblem::Other("ApplicationVerificationFailure".to_owned()),
            ),
            (
                CertificateError::UnknownRevocationStatus,
                CertificateProblem::Other("UnknownRevocationStatus".to_owned()),
            ),
        ];
        for (error, problem) in cases {
            let alert = u8::from(AlertDescription::from(error.clone()));
            let text = Error::InvalidCertificate(error).to_string();
            for (by, error) in both_ways(alert, &text) {
                let failure = classify(&error).unwrap();
                assert_eq!((failure.by, &failure.problem), (by, &problem), "{text}");
                assert!(!failure.to_string().contains('\n'));
            }
        }

        let text = Error::NoCertificatesPresented.to_string();
        for (by, error) in both_ways(AlertDescription::CertificateRequired.into(), &text) {
            let failure = classify(&error).unwrap();
            assert_eq!((failure.by, failure.problem), (by, CertificateProblem::Missing));
        }
    }

    #[test]
    fn an_alert_alone_gives_an_honest_answer() {
        for (alert, problem) in [
            (42, CertificateProblem::NameMismatchOrMalformed),
            (43, CertificateProblem::WrongUsage),
            (44, CertificateProblem::Revoked),
            (45, CertificateProblem::ExpiredOrNotYetValid),
            (48, CertificateProblem::UnknownIssuer),
            (51, CertificateProblem::BadSignature),
            (116, CertificateProblem::Missing),
        ] {
            let [_, (_, remote)] = both_ways(alert, "");
            let failure = classify(&remote).unwrap();
            assert_eq!((failure.by, failure.problem), (Side::Peer, problem));
            assert_eq!(failure.detail, None);
        }
    }

    #[test]
    fn dates_are_given_as_dates() {
        let text = "invalid peer certificate: certificate expired: verification time 1700000000 \
                    (UNIX), but certificate is not valid after 1600000000 (100000000 seconds ago)";
        let [(_, local), (_, remote)] = both_ways(45, text);
        assert_eq!(
            classify(&local).unwrap().to_string(),
            "we refused the peer's certificate: expired (it was valid until 2020-09-13 12:26 UTC)"
        );
        assert_eq!(
            classify(&remote).unwrap().to_string(),
            "the peer refused our certificate: expired (it was valid until 2020-09-13 12:26 UTC)"
        );
    }

    #[test]
    fn a_text_that_contradicts_the_alert_is_not_believed() {
        let [_, (_, remote)] = both_ways(48, "invalid peer certificate: Expired");
        assert_eq!(classify(&remote).unwrap().problem, CertificateProblem::UnknownIssuer);
    }

    #[test]
    fn a_text_from_the_peer_stays_short_and_on_one_line() {
        let hostile = format!("certificate\r\n\u{1b}[31mowned{}", "x".repeat(5000));
        let [_, (_, remote)] = both_ways(42, &hostile);
        let text = classify(&remote).unwrap().to_string();
        assert!(!text.chars().any(char::is_control), "{text}");
        assert!(text.len() < 600);

        let [_, (_, remote)] = both_ways(
            45,
            "invalid peer certificate: certificate expired: not valid after 99999999999999999999",
        );
        assert_eq!(classify(&remote).unwrap().detail, None);
    }

    #[test]
    fn other_ways_to_lose_a_connection_are_none() {
        let alerts = [
            (40, "handshake failure"),
            (120, "peer doesn't support any known protocol"),
            (51, "cannot decrypt peer's message"),
        ];
        for (alert, text) in alerts {
            for (_, error) in both_ways(alert, text) {
                assert_eq!(classify(&error), None, "{text}");
            }
        }
        for error in [
            ConnectionError::TimedOut,
            ConnectionError::Reset,
            ConnectionError::LocallyClosed,
            ConnectionError::TransportError(quinn_proto::TransportError {
                code: quinn::TransportErrorCode::PROTOCOL_VIOLATION,
                frame: None,
                reason: "invalid peer certificate: Expired".to_owned(),
            }),
        ] {
            assert_eq!(classify(&error), None);
        }
    }

    fn both_ways(alert: u8, text: &str) -> [(Side, ConnectionError); 2] {
        let code = quinn::TransportErrorCode::crypto(alert);
        let local = quinn_proto::TransportError { code, frame: None, reason: text.to_owned() };
        let remote = quinn::ConnectionClose {
            error_code: code,
            frame_type: None,
            reason: text.as_bytes().to_vec().into(),
        };
        [
            (Side::Us, ConnectionError::TransportError(local)),
            (Side::Peer, ConnectionError::ConnectionClosed(remote)),
        ]
    }
}
