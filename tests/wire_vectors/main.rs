//! `docs/wire.md` against the code: every block of bytes in it is one of the protocol, byte for byte.
//!
//! Three parties must agree on each block: its hex, what stands beside it (encoded by the rules of the
//! page, which [`notation`] has written out once more), and the library, which decodes it into what the
//! page says and encodes that into the same bytes. The example conversation is held with a real node, in
//! both roles, over QUIC in simulated time.

mod conversation;
mod document;
#[allow(dead_code)] // shared with other tests
#[path = "../simulation/identity.rs"]
mod identity;
#[allow(dead_code)] // shared with other tests
#[path = "../simulated/network.rs"]
mod network;
mod notation;
mod peer;
mod vectors;

use document::{Block, blocks};

/// Blocks whose description begins with `kind`.
fn of_kind<'a>(all: &'a [Block], kind: &'a str) -> impl Iterator<Item = &'a Block> {
    all.iter().filter(move |block| block.kind.split(' ').next() == Some(kind))
}

#[test]
fn bytes_and_words_agree() {
    let all = blocks();
    assert!(all.len() >= 30, "{} blocks", all.len());
    for block in &all {
        notation::check(block).unwrap();
    }
}

#[test]
fn every_block_is_of_a_kind_that_is_checked() {
    let known = ["message", "frame", "stream", "lax", "refused", "talk"];
    for block in blocks() {
        let kind = block.kind.split(' ').next().unwrap_or_default();
        assert!(known.contains(&kind), "line {}: {}", block.line, block.kind);
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    for block in blocks().iter().filter(|block| !block.kind.starts_with("refused")) {
        for at in 0..block.bytes().len() {
            let mut changed = block.clone();
            changed.flip(at);
            let raw = block.kind.starts_with("lax");
            assert!(raw || notation::check(&changed).is_err(), "line {}: byte {at}", block.line);
        }
    }
}
