//! `cluster-quic load` against a real `cluster-quic node`.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod cli;

use std::net::{Ipv6Addr, ToSocketAddrs, UdpSocket};

use cli::process::Running;
use cli::terminal::Terminal;
use cli::{Dir, run};
use cluster_quic::DevCa;
use rustix::process::Signal;
use serde_json::Value;

const ANY: [&str; 4] = ["--listen", "127.0.0.1:0", "--as", "node"];

/// A folder with certificates for a node and for who loads it.
fn certificates() -> Dir {
    certificates_for(&["localhost", "127.0.0.1"])
}

fn certificates_for(names: &[&str]) -> Dir {
    let dir = Dir::new();
    let ca = DevCa::new("cli").unwrap();
    for file in ["node", "load"] {
        ca.write_to(dir.path().join("certs"), file, names).unwrap();
    }
    dir
}

fn load<'a>(address: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["load", address, "--as", "load", "--idle", "300ms"], args].concat()
}

/// What the node reports at its end.
fn received(node: &mut Running) -> String {
    node.signal(Signal::TERM);
    assert_eq!(node.end().code(), Some(0));
    let out = node.out();
    out.lines().last().unwrap().to_owned()
}

/// Whether the node has reported some.
fn has_tells(text: &str) -> bool {
    text.lines().any(|line| line.contains("status: ") && !line.contains("; in 0/s"))
}

#[track_caller]
fn assert_all_acknowledged(outcome: &Value) {
    assert_eq!(outcome["acknowledged"], outcome["accepted"], "{outcome:#}");
    assert_eq!((&outcome["lost"]["tells"], &outcome["pending"]), (&0.into(), &0.into()));
    assert_eq!(outcome["well"], true);
}

#[test]
fn every_tell_is_acknowledged_and_counted_and_gossip_is_measured() {
    let dir = certificates();
    let (mut node, address) = Running::node(dir.path(), &ANY);
    let args = ["--count", "20000", "--size", "100", "--targets", "3", "--json"];
    let ran = run(dir.path(), &load(&address, &args)).expect(0);
    let outcome = ran.json();
    assert_all_acknowledged(&outcome);
    assert_eq!(outcome["accepted"]["tells"], 20_000);
    for phase in ["idle", "load"] {
        let gossip = &outcome["gossip_round_trip"][phase];
        assert!(gossip["sent"].as_u64().unwrap() > 0, "{outcome:#}");
        assert_eq!(gossip["answered"], gossip["sent"], "{outcome:#}");
        let ms = |name: &str| gossip[name].as_f64().unwrap();
        assert!(0.0 < ms("p50_ms") && ms("p50_ms") <= ms("p99_ms"), "{outcome:#}");
        assert!(ms("p99_ms") <= ms("max_ms"), "{outcome:#}");
    }
    // The sender never was a member.
    node.until("the end of the connection", |text| text.contains("the peer shut down"));
    assert!(!node.out().contains("2 of 2"), "{}", node.out());
    let said = received(&mut node);
    assert!(said.ends_with("received: 20,000 tells (2.00 MB) for /user/load"), "{said}");
}

#[test]
fn a_rate_and_a_time_are_kept_and_the_table_says_so() {
    let dir = certificates();
    let (mut node, address) = Running::node(dir.path(), &ANY);
    let args = ["--rate", "200", "--for", "1500ms", "--size", "64"];
    let ran = run(dir.path(), &load(&address, &args)).expect(0);
    assert_eq!(ran.err, "", "no bar where there is no terminal");
    let sent = ran.out.lines().find(|line| line.contains("sent")).unwrap();
    let tells: u64 = sent.split_whitespace().nth(1).unwrap().parse().unwrap();
    // A busy machine may be late, and never early.
    assert!((1..=300).contains(&tells), "{sent}");
    ran.says(&["tells of 64 B to 8 targets", "lost none", "gossip, there and back", "under load"]);
    let args = ["--rate", "200", "--count", "100", "--json", "--no-gossip"];
    let outcome = run(dir.path(), &load(&address, &args)).expect(0).json();
    assert_all_acknowledged(&outcome);
    assert_eq!(outcome["accepted"]["tells"], 100);
    assert!(outcome["seconds"].as_f64().unwrap() >= 0.495, "{outcome:#}");
    assert!(outcome["gossip_round_trip"].is_null(), "{outcome:#}");
    let said = received(&mut node);
    assert!(said.contains(&format!("received: {} tells", tells + 100)), "{said}");
}

#[test]
fn a_node_that_is_not_reached_is_said_to_be_with_the_reason() {
    let dir = certificates();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = format!("akka.quic://x@{}", nobody.local_addr().unwrap());
    let args = load(&nobody, &["--patience", "1s"]);
    run(dir.path(), &args).expect(1).says(&["is not reached", "no answer", "cluster-quic ping"]);
    let json = run(dir.path(), &[&args[..], &["--json"]].concat()).expect(1).json();
    assert!(json["error"].as_str().unwrap().contains("no answer"), "{json}");

    // Another CA's: nothing to wait for.
    let (_node, address) = Running::node(dir.path(), &ANY);
    let others = certificates();
    let args = load(&address, &["--patience", "100s"]);
    run(others.path(), &args).expect(1).says(&["is not reached", "certificate"]);
    // Another cluster.
    let args = load(&address, &["--cluster", "other", "--patience", "100s"]);
    run(dir.path(), &args).expect(1).says(&["is not reached", "cluster"]);
    run(dir.path(), &load(&address, &["--size", "17M"])).expect(2).says(&["fit into a tell"]);
}

/// Of the names that a machine may have for `::1` alone.
fn ipv6_name() -> Option<&'static str> {
    ["ip6-localhost", "ip6-loopback", "localhost6"].into_iter().find(|name| {
        let found = (*name, 0).to_socket_addrs().map(Vec::from_iter).unwrap_or_default();
        !found.is_empty() && found.iter().all(|to| to.ip() == Ipv6Addr::LOCALHOST)
    })
}

#[test]
fn a_node_whose_name_is_of_ipv6_alone_is_reached() {
    let Some(name) = ipv6_name().filter(|_| UdpSocket::bind("[::1]:0").is_ok()) else {
        println!("no name for an IPv6 address, or no IPv6, on this machine");
        return;
    };
    let dir = certificates_for(&[name]);
    let args = ["--listen", "[::1]:0", "--advertise", name, "--as", "node"];
    let (_node, address) = Running::node(dir.path(), &args);
    let outcome = run(dir.path(), &load(&address, &["--count", "100", "--json"])).expect(0).json();
    assert_all_acknowledged(&outcome);
}

#[test]
fn a_name_that_does_not_resolve_is_the_reason() {
    let dir = certificates();
    let address = "akka.quic://x@nowhere.invalid:4400";
    let args = load(address, &["--json"]);
    let ran = run(dir.path(), &args).expect(1).says(&["is not reached: nowhere.invalid does not"]);
    assert!(ran.json()["error"].as_str().unwrap().contains("does not resolve"), "{ran}");
    for patience in ["5ms", "25h", "0"] {
        run(dir.path(), &load(address, &["--patience", patience])).expect(2).says(&["--patience"]);
    }
}

#[test]
fn what_a_killed_node_had_not_acknowledged_is_lost_with_its_reason() {
    let dir = certificates();
    let (node, address) = Running::node(dir.path(), &ANY);
    let args = ["--for", "1000s", "--json"];
    let mut loading = Running::start(dir.path(), &load(&address, &args));
    node.until("tells", has_tells);
    node.signal(Signal::KILL);
    // It gives up by itself, long before its time.
    assert_eq!(loading.end().code(), Some(1));
    assert!(loading.err().contains("could not be reached for too long"), "{}", loading.err());
    let outcome: Value = serde_json::from_str(&loading.out()).unwrap();
    assert!(outcome["lost"]["expired"].as_u64().unwrap() > 0, "{outcome:#}");
    let number = |of: &str| outcome[of]["tells"].as_u64().unwrap();
    assert_eq!(number("accepted"), number("acknowledged") + number("lost"), "{outcome:#}");
    assert_eq!((&outcome["well"], &outcome["pending"]), (&false.into(), &0.into()));
}

#[test]
fn an_interruption_ends_in_order_with_the_figures_so_far() {
    let dir = certificates();
    let (mut node, address) = Running::node(dir.path(), &ANY);
    let args = ["--for", "1000s", "--rate", "1000", "--json"];
    let mut loading = Running::start(dir.path(), &load(&address, &args));
    node.until("tells", has_tells);
    loading.signal(Signal::INT);
    assert_eq!(loading.end().code(), Some(0));
    let outcome: Value = serde_json::from_str(&loading.out()).unwrap();
    assert_all_acknowledged(&outcome);
    assert_eq!(outcome["interrupted"], true);
    let tells = outcome["accepted"]["tells"].as_u64().unwrap();
    let said = received(&mut node);
    let (_, of_load) = said.split_once("received: ").unwrap();
    let counted = of_load.split_whitespace().next().unwrap().replace(',', "");
    assert_eq!(counted.parse(), Ok(tells), "{said}");
}

#[test]
fn the_bar_on_a_terminal_gives_way_to_the_table() {
    let dir = certificates();
    let (_node, address) = Running::node(dir.path(), &ANY);
    let args = load(&address, &["--rate", "5000", "--for", "3s"]);
    let mut terminal = Terminal::start(dir.path(), &args, 80, 24);
    let idle = terminal.until("the idle phase", |text| text.contains("idle") && text.contains('%'));
    println!("{idle}");
    let sending = terminal.until("the bar", |text| {
        text.contains("sending") && text.contains('█') && text.contains("(idle ")
    });
    println!("{sending}");
    assert!(sending.lines().all(|line| line.chars().count() <= 80), "{sending}");
    assert_eq!(terminal.end(), 0);
    let left = terminal.until("the table", |text| text.contains("under load"));
    println!("{left}");
    assert!(!left.contains('█') && left.contains("acknowledged"), "{left}");
    assert_eq!(terminal.is_taken(), (false, false));
}
