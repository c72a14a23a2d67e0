//! The single messages, frames and streams of the page.

use std::collections::BTreeMap;

use bytes::Bytes;
use cluster_quic::fuzz_support::{control, control_lane, stream};
use cluster_quic::{ClusterFrame, FrameError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::document::{Block, blocks};
use crate::notation::hex;
use crate::of_kind;

/// The length prefix's own length.
const PREFIX: usize = 4;

/// What a control message was understood as, and that again in bytes.
fn message(bytes: &[u8]) -> Result<(String, Bytes), String> {
    let header: &[u8] = &[0; 9];
    let (mut messages, end) = control_lane(vec![Bytes::from([header, bytes].concat())]);
    end.map_err(|e| e.to_string())?;
    assert_eq!(messages.len(), 1, "{}", hex(bytes));
    Ok((messages.remove(0), control(&bytes[PREFIX..])?))
}

/// Gossip of whatever types serde has, and the transport's own messages have not.
#[derive(Debug, Serialize, Deserialize)]
struct Types {
    flag: bool,
    tiny: i8,
    small: i16,
    medium: i32,
    large: i64,
    single: f32,
    double: f64,
    letter: char,
    wide: u128,
    array: [u16; 2],
    pairs: BTreeMap<u32, String>,
    nothing: (),
    choice: Choice,
}

#[derive(Debug, Serialize, Deserialize)]
enum Choice {
    First,
    Second(u64),
}

/// The same for a frame. Gossip is a string, but where the block says otherwise.
fn frame(block: &Block) -> Result<(String, Bytes), FrameError> {
    if block.kind.ends_with("types") {
        return frame_of::<Types>(&block.bytes());
    }
    #[cfg(feature = "atomr")]
    if block.kind.ends_with("atomr") {
        return frame_of::<atomr_cluster::GossipPdu>(&block.bytes());
    }
    frame_of::<String>(&block.bytes())
}

fn frame_of<G>(bytes: &[u8]) -> Result<(String, Bytes), FrameError>
where
    G: Serialize + DeserializeOwned + std::fmt::Debug,
{
    let frame = ClusterFrame::<G>::decode(&bytes[PREFIX..])?;
    Ok((format!("{frame:?}"), frame.encode()?))
}

fn with_prefix(body: &Bytes) -> String {
    hex(&[&(body.len() as u32).to_be_bytes(), &body[..]].concat())
}

fn skipped(block: &Block) -> bool {
    cfg!(not(feature = "atomr")) && block.kind.ends_with("atomr")
}

#[test]
fn messages_and_frames_mean_what_the_page_says() {
    let all = blocks();
    let mut checked = 0;
    for block in of_kind(&all, "message").chain(of_kind(&all, "frame")).filter(|b| !skipped(b)) {
        let result = match block.kind.starts_with("message") {
            true => message(&block.bytes()),
            false => frame(block).map_err(|e| e.to_string()),
        };
        let (meaning, again) = result.unwrap_or_else(|e| panic!("line {}: {e}", block.line));
        assert_eq!(block.meaning.as_deref(), Some(&*meaning), "line {}", block.line);
        assert_eq!(hex(&block.bytes()), with_prefix(&again), "line {}", block.line);
        checked += 1;
    }
    assert!(checked >= 10, "{checked}");
}

#[test]
fn what_is_read_but_never_written_is_read() {
    let all = blocks();
    assert!(of_kind(&all, "lax").count() > 0);
    for block in of_kind(&all, "lax") {
        let (meaning, again) = frame(block).unwrap_or_else(|e| panic!("line {}: {e}", block.line));
        assert_eq!(block.meaning.as_deref(), Some(&*meaning), "line {}", block.line);
        assert_ne!(hex(&block.bytes()), with_prefix(&again), "line {}", block.line);
    }
}

#[test]
fn streams_are_lanes_with_frames() {
    let all = blocks();
    assert!(of_kind(&all, "stream").count() > 0);
    for block in of_kind(&all, "stream") {
        let (lane, first, frames) =
            stream(vec![block.bytes().into()]).unwrap_or_else(|e| panic!("{}: {e}", block.line));
        let meaning = format!("{lane} lane, first {first}, frames {frames}");
        assert_eq!(block.meaning, Some(meaning), "line {}", block.line);
    }
}

#[test]
fn what_the_page_calls_refused_is_refused_with_its_words() {
    let all = blocks();
    assert!(of_kind(&all, "refused").count() > 5);
    let mut wrong = Vec::new();
    for block in of_kind(&all, "refused") {
        let error = match &*block.kind {
            "refused message" => message(&block.bytes()).map(drop).unwrap_err(),
            "refused frame" => frame(block).map(drop).unwrap_err().to_string(),
            "refused stream" => stream(vec![block.bytes().into()]).unwrap_err().to_string(),
            other => panic!("line {}: {other}", block.line),
        };
        if block.error.as_ref() != Some(&error) {
            wrong.push(format!("line {}: {error}", block.line));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
