//! The encoding of everything on the wire: bincode, which no other file names.
//!
//! bincode 2's `config::standard()` (little-endian varints, `u32` enum tags) is what
//! `atomr-cluster` puts on its wires, so it is what stands here. Decoding has a limit: without one,
//! a string that claims 64 TiB in ten bytes aborts the process on allocation.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bytes::{BufMut, BytesMut};
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

/// Appends a length, as bincode does before text and bytes.
pub(crate) fn put_len(buf: &mut BytesMut, n: usize) {
    match varint_len(n) {
        1 => buf.put_u8(n as u8),
        3 => {
            buf.put_u8(U16);
            buf.put_u16_le(n as u16);
        }
        5 => {
            buf.put_u8(U32);
            buf.put_u32_le(n as u32);
        }
        _ => {
            buf.put_u8(U64);
            buf.put_u64_le(n as u64);
        }
    }
}

/// Appends a length and the bytes it counts.
pub(crate) fn put_bytes(buf: &mut BytesMut, bytes: &[u8]) {
    put_len(buf, bytes.len());
    buf.extend_from_slice(bytes);
}

/// What a varint's first byte says of the integer that follows it.
const U16: u8 = 251;
const U32: u8 = 252;
const U64: u8 = 253;

/// Takes fields off an encoding, borrowing from it; for the one type that is decoded millions of times
/// a second. bincode's own way through serde took a fifth of the processor's time at 64-byte payloads,
/// and stays the measure of what is right: a property test compares the two.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FrameError> {
        let len = self.len()?;
        let (bytes, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or_else(|| self.short(len))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, FrameError> {
        std::str::from_utf8(self.bytes()?).map_err(|e| FrameError::Decode(e.to_string()))
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<&'a str>, FrameError> {
        match self.array()? {
            [0] => Ok(None),
            [1] => self.text().map(Some),
            [other] => Err(FrameError::Decode(format!("{other} is neither Some nor None"))),
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), FrameError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(FrameError::Trailing { bytes }),
        }
    }

    fn len(&mut self) -> Result<u64, FrameError> {
        match self.array()? {
            [U16] => self.array().map(|bytes| u16::from_le_bytes(bytes).into()),
            [U32] => self.array().map(|bytes| u32::from_le_bytes(bytes).into()),
            [U64] => self.array().map(u64::from_le_bytes),
            [small] if small < U16 => Ok(small.into()),
            [other] => Err(FrameError::Decode(format!("{other} begins no length"))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(|| self.short(N as u64))?;
        self.0 = rest;
        Ok(*array)
    }

    fn short(&self, wanted: u64) -> FrameError {
        FrameError::Decode(format!("{wanted} bytes wanted, and {} are left", self.0.len()))
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
