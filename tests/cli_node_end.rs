//! How `cluster-quic node` ends when nobody looks any more: in order, as at a signal.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod cli;

use std::io::{BufRead, BufReader};

use cli::Dir;
use cli::process::Running;
use cli::terminal::Terminal;
use cluster_quic::DevCa;
use rustix::process::Signal;

/// A folder with certificates for this machine, and a node that sees how the other goes.
fn witness() -> (Dir, Running, String) {
    let dir = Dir::new();
    let ca = DevCa::new("cli").unwrap();
    ca.write_to(dir.path().join("certs"), "node", &["localhost", "127.0.0.1"]).unwrap();
    let (node, address) = Running::node(dir.path(), &["--listen", "127.0.0.1:0"]);
    (dir, node, address)
}

const TWO: &str = "2 of 2 up, 1 connected";

/// The witness was told that the other leaves, and needed not find out.
#[track_caller]
fn assert_left_in_order(mut witness: Running) {
    witness.until("the leave", |text| {
        text.contains("is no member any more")
            && text.lines().last().is_some_and(|line| line.contains("1 of 1 up, 0 connected"))
    });
    witness.signal(Signal::TERM);
    assert_eq!(witness.end().code(), Some(0));
    let out = witness.out();
    assert!(out.contains("the peer shut down"), "a goodbye:\n{out}");
    assert!(!out.contains("is quarantined"), "{out}");
}

#[test]
fn a_node_whose_reader_has_gone_leaves_in_order() {
    let (dir, witness, address) = witness();
    let (reader, writer) = std::io::pipe().unwrap();
    let args = ["node", "--plain", "--every", "100ms", "--join", &address];
    let mut node = Running::start_into(dir.path(), &args, writer);
    witness.until("two members", |text| text.contains(TWO));
    // As `| head` does.
    let mut lines = BufReader::new(reader).lines();
    assert!(lines.next().unwrap().unwrap().contains(" is up"));
    drop(lines);
    assert_eq!(node.end().code(), Some(0));
    assert_eq!(node.err(), "", "it is no fault");
    assert_left_in_order(witness);
}

#[test]
fn a_node_whose_terminal_is_closed_leaves_in_order() {
    let (dir, witness, address) = witness();
    let args = ["node", "--join", &address];
    let mut terminal = Terminal::start(dir.path(), &args, 80, 24);
    terminal.until("both members", |text| text.contains("2 of 2 up"));
    witness.until("two members", |text| text.contains(TWO));
    terminal.close();
    assert_eq!(terminal.end(), 0);
    assert_left_in_order(witness);
}

/// A full disk is said where it can be.
#[test]
fn a_node_whose_output_cannot_be_written_says_so_and_leaves_in_order() {
    let (dir, witness, address) = witness();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let args = ["node", "--plain", "--join", &address];
    let mut node = Running::start_into(dir.path(), &args, full);
    assert_eq!(node.end().code(), Some(0));
    assert!(node.err().contains("the output cannot be written"), "{}", node.err());
    drop(witness);
}
