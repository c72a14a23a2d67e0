//! The encoding of everything on the wire, and the only file that names bincode.
//!
//! bincode 2's `config::standard()` (little-endian varints, `u32` enum tags) is what
//! `atomr-cluster` puts on its wires, so it is what stands here. Decoding has a limit: without one,
//! a string that claims 64 TiB in ten bytes aborts the process on allocation.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use crate::error::FrameError;
use crate::frame::MAX_FRAME;

const ENCODE: Configuration = bincode::config::standard();
const DECODE: Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT>> =
    bincode::config::standard().with_limit::<DECODE_LIMIT>();

/// What decoding one frame may claim. bincode counts an integer by its full width, however short
/// its varint, so the limit must lie above the frame's own.
const DECODE_LIMIT: usize = 2 * MAX_FRAME;

/// Appends the encoding of `value` to `buf`. On an error `buf` may hold a part of it: the caller
/// truncates.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    buf: &mut BytesMut,
) -> Result<(), FrameError> {
    bincode::serde::encode_into_writer(value, Appender(buf), ENCODE)
        .map(drop)
        .map_err(|e| FrameError::Encode(e.to_string()))
}

/// Decodes a `T` that may borrow from `bytes`, which must be used up to the last byte.
pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, FrameError> {
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, DECODE)
        .map_err(|e| FrameError::Decode(e.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        trailing => Err(FrameError::Trailing { bytes: trailing }),
    }
}

/// Splits an enum's tag from the encoding of its content.
pub(crate) fn split_tag(bytes: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    let (tag, used) = bincode::decode_from_slice::<u32, _>(bytes, DECODE)
        .map_err(|e| FrameError::Decode(e.to_string()))?;
    Ok((tag, &bytes[used..]))
}

/// The bytes that bincode's varint needs for a length.
pub(crate) const fn varint_len(n: usize) -> usize {
    match n {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

struct Appender<'a>(&'a mut BytesMut);

impl bincode::enc::write::Writer for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
