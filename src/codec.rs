//! The encoding of everything on the wire: bincode, which no other file names.
//!
//! bincode 2's `config::standard()` (little-endian varints, `u32` enum tags) is what
//! `atomr-cluster` puts on its wires, so it is what stands here. Decoding has a limit: without one,
//! a string that claims 64 TiB in ten bytes aborts the process on allocation. What a limit in bytes
//! does not bound, [`guard`] does.

use std::str::Utf8Error;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use self::budget::Budget;
use self::guard::Guarded;
use crate::error::FrameError;
use crate::frame::MAX_FRAME;

mod budget;
mod guard;

const ENCODE: Configuration = bincode::config::standard();
const DECODE: Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT>> =
    bincode::config::standard().with_limit::<DECODE_LIMIT>();

/// What decoding one frame may claim. bincode counts an integer by its full width, however short
/// its varint, so the limit must lie above the frame's own. It is also the most that the elements of
/// sequences and maps may take in memory.
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

/// Decodes a `T` that may borrow from `bytes`, which must be used up to the last byte. All that is decoded
/// through serde comes through here: gossip, whose type is the user's, and control messages, whose
/// types neither nest in themselves nor have elements without bytes, and would not need the guard.
pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, FrameError> {
    let budget = Budget::new(bytes.len(), DECODE_LIMIT);
    let (value, used) = bincode::serde::seed_decode_from_slice(Guarded::by(&budget), bytes, DECODE)
        .map_err(|e| budget.refusal().unwrap_or_else(|| FrameError::Decode(e.to_string())))?;
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
#[inline]
pub(crate) const fn varint_len(n: usize) -> usize {
    match n {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Appends a length, as bincode does before text and bytes.
#[inline]
pub(crate) fn put_len(buf: &mut BytesMut, n: usize) {
    match short_len(n) {
        Some(byte) => buf.put_u8(byte),
        None => put_long_len(buf, n),
    }
}

/// The one byte that stands for a length below 251.
#[inline]
pub(crate) fn short_len(n: usize) -> Option<u8> {
    u8::try_from(n).ok().filter(|byte| *byte < U16)
}

fn put_long_len(buf: &mut BytesMut, n: usize) {
    match varint_len(n) {
        0..=3 => {
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
#[inline]
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

/// Why fields cannot be taken: small, since it is in every result; it becomes words when it is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Malformed {
    Short { wanted: u64, left: usize },
    Length(u8),
    Option(u8),
    Text(Utf8Error),
    Trailing(usize),
}

impl From<Malformed> for FrameError {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Short { wanted, left } => {
                Self::Decode(format!("{wanted} bytes wanted, and {left} are left"))
            }
            Malformed::Length(byte) => Self::Decode(format!("{byte} begins no length")),
            Malformed::Option(byte) => Self::Decode(format!("{byte} is neither Some nor None")),
            Malformed::Text(error) => Self::Decode(error.to_string()),
            Malformed::Trailing(bytes) => Self::Trailing { bytes },
        }
    }
}

impl<'a> Fields<'a> {
    #[inline]
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.len()?;
        let split = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let Some((bytes, rest)) = split else { return Err(self.short(len)) };
        self.0 = rest;
        Ok(bytes)
    }

    /// Text. `like` is what is most likely to stand here: text that was checked before, and is not
    /// checked again where it comes again.
    #[inline]
    pub(crate) fn text(&mut self, like: &'a str) -> Result<&'a str, Malformed> {
        let bytes = self.bytes()?;
        if bytes == like.as_bytes() {
            return Ok(like);
        }
        std::str::from_utf8(bytes).map_err(Malformed::Text)
    }

    #[inline]
    pub(crate) fn optional_text(
        &mut self,
        like: Option<&'a str>,
    ) -> Result<Option<&'a str>, Malformed> {
        match self.array()? {
            [0] => Ok(None),
            [1] => self.text(like.unwrap_or_default()).map(Some),
            [other] => Err(Malformed::Option(other)),
        }
    }

    /// Nothing may be left.
    #[inline]
    pub(crate) fn end(self) -> Result<(), Malformed> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(Malformed::Trailing(bytes)),
        }
    }

    #[inline]
    fn len(&mut self) -> Result<u64, Malformed> {
        match self.array()? {
            [small] if small < U16 => Ok(small.into()),
            [first] => self.long_len(first),
        }
    }

    fn long_len(&mut self, first: u8) -> Result<u64, Malformed> {
        match first {
            U16 => self.array().map(|bytes| u16::from_le_bytes(bytes).into()),
            U32 => self.array().map(|bytes| u32::from_le_bytes(bytes).into()),
            U64 => self.array().map(u64::from_le_bytes),
            other => Err(Malformed::Length(other)),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((array, rest)) = self.0.split_first_chunk() else {
            return Err(self.short(N as u64));
        };
        self.0 = rest;
        Ok(*array)
    }

    fn short(&self, wanted: u64) -> Malformed {
        Malformed::Short { wanted, left: self.0.len() }
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
