//! The control lane's messages, and the header of every stream.
//!
//! Control messages are framed like everything else (4-byte big-endian length, bincode), at most
//! [`MAX_CONTROL`] bytes each.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::address::{Address, Incarnation};
use crate::codec;
use crate::error::FrameError;
use crate::frame::encode_prefixed;
use crate::lane::Lane;

/// The version of the messages in this file. The ALPN name changes with what is incompatible
/// before a greeting can be read at all.
pub(crate) const WIRE_VERSION: u16 = 1;

/// ALPN protocol name.
pub(crate) const ALPN: &[u8] = b"cluster-quic/1";

/// The longest control message in bytes, prefix excluded.
pub(crate) const MAX_CONTROL: usize = 8 * 1024;

/// A stream's first bytes: lane id, then the sequence number of its first frame (big-endian).
pub(crate) const STREAM_HEADER: usize = 9;

/// Far from where counting on could overflow; at 10 million frames a second it lasts 14 000 years.
const MAX_SEQUENCE: u64 = 1 << 62;

/// What each side says first on its control lane: the dialler as `Hello`, the acceptor as
/// `Accepted`. No payload flows before `Accepted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    /// The first field, so that any version can be told from its first bytes.
    pub(crate) version: u16,
    pub(crate) cluster: String,
    /// The sender's advertised address.
    pub(crate) address: Address,
    /// Whom the sender means to speak to: a node that was dialled by another name says so at once.
    pub(crate) to: Address,
    pub(crate) instance: Instance,
    /// Dials of the sender towards this peer: the number of this one in a `Hello`; in an
    /// `Accepted`, of the last one, which is abandoned with all before it.
    pub(crate) attempt: u64,
    /// Tell lanes that the sender sends in.
    pub(crate) lanes: u8,
    /// Bytes per stream that the sender is ready to hold unread.
    pub(crate) stream_window: u64,
    /// Where the receiver of this greeting is to resume its lanes.
    pub(crate) resume: Option<Resume>,
}

/// Whose sequence numbers: a life of the process, and a life of its memory of this peer (which it
/// may give up for a peer long gone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) incarnation: Incarnation,
    pub(crate) session: u64,
}

/// The next sequence number expected per lane, out of those that `of` numbered. A lane that is not
/// named has not been received from yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resume {
    pub(crate) of: Instance,
    pub(crate) next: Vec<(Lane, u64)>,
}

/// A message on the control lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Control {
    Hello(Greeting),
    Accepted(Greeting),
    /// Everything before `next` in the lane was delivered: the sink returned. Repeated as a sign of life to who
    /// sends tells.
    Ack {
        lane: Lane,
        next: u64,
    },
    /// Nothing more follows; the connection is about to be closed.
    Goodbye {
        reason: GoodbyeReason,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GoodbyeReason {
    ShutDown,
    Idle,
}

impl Control {
    /// Appends the message, length prefix included.
    pub(crate) fn encode(&self, buf: &mut BytesMut) -> Result<(), FrameError> {
        encode_prefixed(buf, |buf| codec::encode(self, buf))
    }

    /// Decodes one message without its prefix.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ControlError> {
        if bytes.len() > MAX_CONTROL {
            let error = FrameError::TooLarge { len: bytes.len(), max: MAX_CONTROL };
            return Err(error.into());
        }
        let (tag, body) = codec::split_tag(bytes)?;
        if matches!(tag, 0 | 1) {
            // The version stands first, so another one is told before its fields are guessed at.
            let (version, _) = codec::split_tag(body)?;
            if version != u32::from(WIRE_VERSION) {
                return Err(ControlError::Version { theirs: version });
            }
        }
        Ok(codec::decode(bytes)?)
    }
}

/// A control message that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("version {theirs}, and this node speaks {WIRE_VERSION}")]
    Version { theirs: u32 },
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The header of a lane's stream whose first frame has sequence number `first`.
pub(crate) fn stream_header(lane: Lane, first: u64) -> Bytes {
    let mut header = Vec::with_capacity(STREAM_HEADER);
    header.push(lane.id());
    header.extend_from_slice(&first.to_be_bytes());
    header.into()
}

/// Reads a stream's header: the lane and the first sequence number.
pub(crate) fn parse_stream_header(header: &[u8; STREAM_HEADER]) -> Result<(Lane, u64), String> {
    let [id, first @ ..] = header;
    let lane = Lane::from_id(*id).ok_or_else(|| format!("unknown lane {id}"))?;
    match u64::from_be_bytes(*first) {
        first @ 0..=MAX_SEQUENCE => Ok((lane, first)),
        first => Err(format!("sequence number {first} is out of range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        let instance = Instance { incarnation: Incarnation(7), session: 1 };
        Greeting {
            version: WIRE_VERSION,
            cluster: "c".into(),
            address: "akka.quic://s@h:1".parse().unwrap(),
            to: "akka.quic://s@h:2".parse().unwrap(),
            instance,
            attempt: 3,
            lanes: 4,
            stream_window: 1 << 20,
            resume: Some(Resume { of: instance, next: vec![(Lane::Tell(2), 99)] }),
        }
    }

    fn body(message: &Control) -> Vec<u8> {
        let mut buf = BytesMut::new();
        message.encode(&mut buf).unwrap();
        buf[4..].to_vec()
    }

    #[test]
    fn messages_come_back() {
        for message in [
            Control::Hello(greeting()),
            Control::Accepted(greeting()),
            Control::Ack { lane: Lane::Tell(15), next: u64::MAX },
            Control::Goodbye { reason: GoodbyeReason::Idle },
        ] {
            assert_eq!(Control::decode(&body(&message)), Ok(message));
        }
    }

    #[test]
    fn another_version_is_told_before_its_fields() {
        let mut hello = body(&Control::Hello(greeting()));
        assert_eq!(hello[1], 1);
        hello[1] = 2;
        hello.truncate(5);
        assert_eq!(Control::decode(&hello), Err(ControlError::Version { theirs: 2 }));
    }

    #[test]
    fn hostile_messages_are_errors() {
        let hello = body(&Control::Hello(greeting()));
        for cut in 0..hello.len() {
            assert!(Control::decode(&hello[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Control::decode(&[9]).is_err());
        assert!(Control::decode(&vec![0; MAX_CONTROL + 1]).is_err());
        // A cluster name that claims 2^62 bytes.
        assert!(Control::decode(&[0, 1, 253, 0, 0, 0, 0, 0, 0, 0, 64]).is_err());
    }
}
