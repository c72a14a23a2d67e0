//! Frames: what travels in the gossip and tell lanes.
//!
//! On the wire a frame is a 4-byte big-endian length and the bincode encoding of a
//! [`ClusterFrame`], byte for byte that of `atomr_cluster::ClusterFrame`. One frame is at most
//! [`MAX_FRAME`] bytes without its prefix.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::codec::{self, Fields};
use crate::error::FrameError;

mod run;

pub(crate) use run::{FrameDecoder, Run};

/// The longest frame, in bytes and without its length prefix: 16 MiB, as in `atomr-cluster`.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// The length prefix's own length.
pub(crate) const PREFIX: usize = 4;

const TAG_GOSSIP: u32 = 0;
const TAG_TELL: u32 = 1;

/// A frame that owns its content; `G` is the cluster's gossip type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterFrame<G> {
    /// Membership gossip.
    Gossip(G),
    /// A message to an actor on the other node.
    RemoteTell(RemoteTell),
}

impl<G: Serialize> ClusterFrame<G> {
    /// The frame's encoding, without the length prefix.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`], or [`FrameError::Encode`] where `G` cannot be serialized.
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        let mut buf = BytesMut::new();
        match self {
            Self::Gossip(gossip) => encode_gossip(gossip, &mut buf)?,
            Self::RemoteTell(tell) => {
                let tell = tell.borrowed();
                encode_tell(&tell, check_len(tell.encoded_len())?, &mut buf);
            }
        }
        buf.advance(PREFIX);
        Ok(buf.freeze())
    }
}

impl<G: serde::de::DeserializeOwned> ClusterFrame<G> {
    /// Decodes one frame without its length prefix; every byte must belong to it.
    ///
    /// # Errors
    /// [`FrameError`], for any input that is not exactly one frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        check_len(bytes.len())?;
        match codec::split_tag(bytes)? {
            (TAG_GOSSIP, body) => codec::decode(body).map(Self::Gossip),
            (TAG_TELL, body) => {
                let tell = TellDecoder::default().body(body)?;
                Ok(Self::RemoteTell(tell.to_owned()))
            }
            (tag, _) => Err(FrameError::UnknownVariant { tag }),
        }
    }
}

/// A message to an actor on another node, owned.
///
/// Debug output has the payload's length alone.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemoteTell {
    /// Path of the actor that gets it. Tells to one path arrive in the order of their sending.
    pub target_path: String,
    /// Names the payload's type to the receiving side's codecs.
    pub manifest: String,
    /// The message, encoded by the application.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    /// Path of the sending actor, where an answer is expected.
    pub sender_path: Option<String>,
}

impl RemoteTell {
    /// The same tell, borrowed.
    pub fn borrowed(&self) -> RemoteTellRef<'_> {
        RemoteTellRef {
            target_path: &self.target_path,
            manifest: &self.manifest,
            payload: &self.payload,
            sender_path: self.sender_path.as_deref(),
        }
    }
}

/// A message to an actor on another node, borrowed: from the caller's own buffers when sent, from
/// the received chunk when delivered.
///
/// Debug output has the payload's length alone.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemoteTellRef<'a> {
    /// Path of the actor that gets it.
    pub target_path: &'a str,
    /// Names the payload's type to the receiving side's codecs.
    pub manifest: &'a str,
    /// The message, encoded by the application.
    #[serde(with = "serde_bytes", borrow)]
    pub payload: &'a [u8],
    /// Path of the sending actor, where an answer is expected.
    pub sender_path: Option<&'a str>,
}

impl fmt::Debug for RemoteTell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrowed().describe("RemoteTell", f)
    }
}

impl fmt::Debug for RemoteTellRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe("RemoteTellRef", f)
    }
}

impl RemoteTellRef<'_> {
    /// Without the payload: it may be 16 MiB and is nobody's to read, and refused tells are in errors.
    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("target_path", &self.target_path)
            .field("manifest", &self.manifest)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .field("sender_path", &self.sender_path)
            .finish()
    }

    /// Copies the tell out of the buffer it borrows from.
    pub fn to_owned(&self) -> RemoteTell {
        RemoteTell {
            target_path: self.target_path.into(),
            manifest: self.manifest.into(),
            payload: self.payload.into(),
            sender_path: self.sender_path.map(Into::into),
        }
    }

    /// The length of the frame's encoding in bytes, without its prefix.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        let field = |len: usize| codec::varint_len(len) + len;
        1 + field(self.target_path.len())
            + field(self.manifest.len())
            + field(self.payload.len())
            + 1
            + self.sender_path.map_or(0, |path| field(path.len()))
    }
}

/// What can be sent as a tell: owned, or borrowed. A refused tell is handed back as it came.
pub trait Tell {
    /// The tell's parts.
    fn as_tell(&self) -> RemoteTellRef<'_>;
}

impl Tell for RemoteTell {
    fn as_tell(&self) -> RemoteTellRef<'_> {
        self.borrowed()
    }
}

impl Tell for &RemoteTell {
    fn as_tell(&self) -> RemoteTellRef<'_> {
        self.borrowed()
    }
}

impl Tell for RemoteTellRef<'_> {
    fn as_tell(&self) -> RemoteTellRef<'_> {
        *self
    }
}

/// Appends a tell's frame, prefix included. `len` is its [`encoded_len`](RemoteTellRef::encoded_len),
/// which the caller has checked.
#[inline]
pub(crate) fn encode_tell(tell: &RemoteTellRef<'_>, len: u32, buf: &mut BytesMut) {
    // Each piece costs a call and a check for room, so the first bytes go as one.
    let [a, b, c, d] = len.to_be_bytes();
    match codec::short_len(tell.target_path.len()) {
        Some(path_len) => buf.extend_from_slice(&[a, b, c, d, TELL_BYTE, path_len]),
        None => {
            buf.extend_from_slice(&[a, b, c, d, TELL_BYTE]);
            codec::put_len(buf, tell.target_path.len());
        }
    }
    buf.extend_from_slice(tell.target_path.as_bytes());
    codec::put_bytes(buf, tell.manifest.as_bytes());
    codec::put_bytes(buf, tell.payload);
    buf.put_u8(tell.sender_path.is_some().into());
    if let Some(path) = tell.sender_path {
        codec::put_bytes(buf, path.as_bytes());
    }
}

/// A tell's tag as bincode writes it.
const TELL_BYTE: u8 = TAG_TELL as u8;

/// Appends a gossip frame, prefix included.
pub(crate) fn encode_gossip<G: Serialize + ?Sized>(
    gossip: &G,
    buf: &mut BytesMut,
) -> Result<(), FrameError> {
    encode_prefixed(buf, |buf| {
        codec::encode(&TAG_GOSSIP, buf)?;
        codec::encode(gossip, buf)
    })
}

/// Decodes the frames of a tell lane (without their prefixes), borrowing from them.
///
/// Paths and manifests come again and again: what stands in a frame as in the one before it has been
/// found to be text, and is not checked twice.
#[derive(Default)]
pub(crate) struct TellDecoder<'a> {
    last: RemoteTellRef<'a>,
}

impl<'a> TellDecoder<'a> {
    #[inline]
    pub(crate) fn decode(&mut self, frame: &'a [u8]) -> Result<RemoteTellRef<'a>, FrameError> {
        match frame {
            [TELL_BYTE, body @ ..] => self.body(body),
            _ => match codec::split_tag(frame)? {
                (TAG_TELL, body) => self.body(body),
                (TAG_GOSSIP, _) => Err(FrameError::WrongLane { what: "gossip" }),
                (tag, _) => Err(FrameError::UnknownVariant { tag }),
            },
        }
    }

    #[inline]
    fn body(&mut self, body: &'a [u8]) -> Result<RemoteTellRef<'a>, FrameError> {
        let mut fields = Fields::of(body);
        let tell = RemoteTellRef {
            target_path: fields.text(self.last.target_path)?,
            manifest: fields.text(self.last.manifest)?,
            payload: fields.bytes()?,
            sender_path: fields.optional_text(self.last.sender_path)?,
        };
        fields.end()?;
        self.last = tell;
        Ok(tell)
    }
}

/// Decodes a frame of the gossip lane (without its prefix).
pub(crate) fn decode_gossip<G: serde::de::DeserializeOwned>(frame: &[u8]) -> Result<G, FrameError> {
    match codec::split_tag(frame)? {
        (TAG_GOSSIP, body) => codec::decode(body),
        (TAG_TELL, _) => Err(FrameError::WrongLane { what: "a tell" }),
        (tag, _) => Err(FrameError::UnknownVariant { tag }),
    }
}

/// Appends a length prefix and what `body` writes; on an error `buf` is as it was.
pub(crate) fn encode_prefixed(
    buf: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    let start = buf.len();
    buf.extend_from_slice(&[0; PREFIX]);
    let result = body(buf).and_then(|()| check_len(buf.len() - start - PREFIX));
    match result {
        Ok(len) => {
            buf[start..start + PREFIX].copy_from_slice(&len.to_be_bytes());
            Ok(())
        }
        Err(e) => {
            buf.truncate(start);
            Err(e)
        }
    }
}

/// A frame's length as its prefix has it.
#[inline]
pub(crate) fn check_len(len: usize) -> Result<u32, FrameError> {
    match u32::try_from(len) {
        Ok(0) => Err(FrameError::Empty),
        Ok(n) if len <= MAX_FRAME => Ok(n),
        _ => Err(FrameError::TooLarge { len, max: MAX_FRAME }),
    }
}

/// The length of the first frame in `bytes`, prefix included, if its prefix is there.
#[inline]
fn frame_len(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
    let len = check_len(u32::from_be_bytes(*prefix) as usize)?;
    Ok(Some(PREFIX + len as usize))
}

/// Counts the whole frames at the start of `bytes`, up to `max` of them: how many, and their length
/// in bytes with prefixes.
#[inline]
pub(crate) fn whole_frames(bytes: &[u8], max: u64) -> Result<(u64, usize), FrameError> {
    let (mut frames, mut at) = (0, 0);
    while frames < max {
        match frame_len(&bytes[at..])? {
            Some(len) if bytes.len() - at >= len => at += len,
            _ => break,
        }
        frames += 1;
    }
    Ok((frames, at))
}

/// Takes the first frame off a run of whole frames, without its prefix.
#[inline]
pub(crate) fn next_frame<'a>(run: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = frame_len(run).ok()??;
    let (frame, rest) = run.split_at_checked(len)?;
    *run = rest;
    Some(&frame[PREFIX..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{BudgetScope, SendError};

    #[test]
    fn debug_output_leaves_the_payload_out() {
        let tell = RemoteTell {
            target_path: "/user/a".into(),
            manifest: "text".into(),
            payload: vec![42; 5_000_000],
            sender_path: None,
        };
        let told = "{ target_path: \"/user/a\", manifest: \"text\", payload: 5000000 bytes, \
                    sender_path: None }";
        assert_eq!(format!("{:?}", tell.borrowed()), format!("RemoteTellRef {told}"));
        assert_eq!(format!("{tell:?}"), format!("RemoteTell {told}"));
        let refused = SendError::Full { message: tell, scope: BudgetScope::Peer };
        assert!(format!("{refused:?}").len() < 300);
    }
}
