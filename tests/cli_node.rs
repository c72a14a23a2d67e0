//! `cluster-quic node`: real processes that find each other, on a terminal and without one.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod cli;

use std::time::{Duration, SystemTime};

use cli::process::Running;
use cli::terminal::Terminal;
use cli::{Dir, free_port, run};
use cluster_quic::{DevCa, DevCertOptions, DevCertificate};
use rustix::process::Signal;

/// A folder with certificates for this machine.
fn certificates() -> Dir {
    let dir = Dir::new();
    let ca = DevCa::new("cli").unwrap();
    ca.write_to(dir.path().join("certs"), "node", &["localhost", "127.0.0.1"]).unwrap();
    dir
}

const ANY: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn two_nodes_find_each_other_and_drain_at_a_signal() {
    let dir = certificates();
    let (mut a, address) = Running::node(dir.path(), &ANY);
    let (mut b, other) = Running::node(dir.path(), &["--join", &address]);
    for node in [&a, &b] {
        node.until("two members and gossip's round trip", |text| {
            text.lines()
                .any(|line| line.contains("2 of 2 up, 1 connected") && line.contains("gossip p50"))
        });
    }
    b.until("the join", |text| text.contains("joined through cluster@127.0.0.1:"));

    b.signal(Signal::TERM);
    assert_eq!(b.end().code(), Some(0));
    let said = b.out();
    assert!(said.contains("SIGTERM: leaving the cluster, then draining"), "{said}");
    assert!(said.contains("nothing lost"), "{said}");
    // The other was told, and needed not find out.
    let gone = format!("{} is no member any more", other.trim_start_matches("akka.quic://"));
    a.until("the leave", |text| text.contains(&gone) && text.contains("1 of 1 up, 0 connected"));
    assert!(!a.out().contains("is quarantined"), "it was not downed: {}", a.out());
    a.signal(Signal::INT);
    assert_eq!(a.end().code(), Some(0));
    assert!(a.out().contains("SIGINT: leaving the cluster"));
    assert!(!a.out().contains('\u{1b}'), "no colours where there is no terminal");
}

/// All get the same list, as in a StatefulSet.
#[test]
fn a_node_among_its_own_seeds_joins_the_others_at_every_start() {
    let dir = certificates();
    let listen = [0; 2].map(|_| format!("127.0.0.1:{}", free_port()));
    let seeds = listen.each_ref().map(|listen| format!("akka.quic://shop@{listen}"));
    let start = |n: usize| {
        let args = ["--listen", &listen[n], "--join", &seeds[0], "--join", &seeds[1]];
        Running::node(dir.path(), &args).0
    };
    let both = |node: &Running| {
        node.until("two members", |text| text.contains("2 of 2 up, 1 connected"));
    };
    let (mut a, mut b) = (start(0), start(1));
    both(&a);
    both(&b);
    a.signal(Signal::TERM);
    assert_eq!(a.end().code(), Some(0));
    b.until("the leave", |text| text.contains("is no member any more"));
    // The first of the list, where nobody looks for it.
    let mut again = start(0);
    both(&again);
    again.until("the join", |text| {
        text.contains(&format!("joined through shop@{}", listen[1])) && !text.contains("first of")
    });
    for node in [&mut again, &mut b] {
        node.signal(Signal::TERM);
        assert_eq!(node.end().code(), Some(0));
    }
}

#[test]
fn a_node_that_has_no_seed_but_itself_is_the_first() {
    let dir = certificates();
    let listen = format!("127.0.0.1:{}", free_port());
    // As the library reads addresses: a host's letters are small.
    let own = format!("akka.quic://shop@LOCALHOST:{}", listen.rsplit_once(':').unwrap().1);
    let args = ["--listen", &listen, "--advertise", "localhost", "--join", &own, "--join", &own];
    let (mut node, _) = Running::node(dir.path(), &args);
    node.until("that it is the first", |text| text.contains("it is the first of its cluster"));
    node.until("its status", |text| text.contains("1 of 1 up"));
    node.signal(Signal::TERM);
    assert_eq!(node.end().code(), Some(0));
    assert!(!node.out().contains("joined through"), "{}", node.out());
}

#[test]
fn a_node_takes_new_certificates_and_says_when_they_are_to_be_renewed() {
    let dir = Dir::new();
    let ca = DevCa::new("cli").unwrap();
    let write = |issued: &DevCertificate| {
        dir.write("cert.pem", &issued.chain);
        dir.write("key.pem", &issued.key);
    };
    dir.write("ca.pem", ca.certificate());
    write(&ca.issue(&["127.0.0.1"]).unwrap());
    let files = ["--cert", "cert.pem", "--key", "key.pem", "--ca", "ca.pem"];
    let (mut node, address) = Running::node(dir.path(), &[&ANY, &files[..]].concat());
    let ping = || run(dir.path(), &[&["ping", &address, "--count", "1"], &files[..]].concat());
    ping().expect(0).says(&["for 127.0.0.1 valid until"]);

    let hour = Duration::from_secs(3600);
    let options = DevCertOptions {
        not_before: SystemTime::now() - 24 * 30 * hour,
        not_after: SystemTime::now() + 50 * hour,
        ..DevCertOptions::default()
    };
    write(&ca.issue_with(&["127.0.0.1", "new.test"], &options).unwrap());
    node.until("the new certificate", |text| text.contains("this node has another certificate"));
    ping().expect(0).says(&["for 127.0.0.1, new.test valid until"]);
    node.until("that it expires", |text| {
        text.contains("! the certificate of this node is to be renewed: valid until")
            && text.contains("(2 days left)")
    });
    // A key of another certificate.
    dir.write("key.pem", ca.issue(&["127.0.0.1"]).unwrap().key);
    node.until("the refusal", |text| {
        text.contains("! the certificate files changed, and are not taken: ")
    });
    node.signal(Signal::TERM);
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_killed_member_is_downed_and_lines_can_be_json() {
    let dir = certificates();
    let (mut a, address) =
        Running::node(dir.path(), &["--listen", "127.0.0.1:0", "--down-after", "1s"]);
    let args = ["node", "--json", "--every", "100ms", "--join", &address];
    let b = Running::start(dir.path(), &args);
    b.until("two members", |text| {
        text.lines().any(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["status"]["up"] == 2 && line["status"]["gossip_round_trip_ms"]["p99"].is_number()
        })
    });
    a.until("two members", |text| text.contains("2 of 2 up, 1 connected"));
    b.signal(Signal::KILL);
    a.until("the downing", |text| {
        text.contains("is quarantined") && text.contains("1 of 1 up, 0 connected")
    });
    a.signal(Signal::TERM);
    assert_eq!(a.end().code(), Some(0));
}

#[test]
fn a_node_that_finds_no_seed_says_so_and_tries_on() {
    let dir = certificates();
    let seed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let seed = format!("akka.quic://shop@{}", seed.local_addr().unwrap());
    let (mut node, address) = Running::node(dir.path(), &["--join", &seed]);
    assert!(address.starts_with("akka.quic://shop@"), "the seed's system: {address}");
    node.until("the reason", |text| text.contains("cannot connect to shop@127.0.0.1"));
    node.until("another try", |text| {
        text.contains("no gossip from seed") && text.contains("trying on")
    });
    node.signal(Signal::TERM);
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let dir = certificates();
    let node = |args: &[&str]| run(dir.path(), &[&["node"], args].concat());
    node(&["--listen", "0.0.0.0:0"]).expect(2).says(&["--advertise", "certificate"]);
    node(&["--listen", "[::1]:0"]).expect(2).says(&["numeric IPv6", "--advertise"]);
    node(&["--advertise", "[::1]:4400"]).expect(2).says(&["numeric IPv6"]);
    node(&["--advertise", "localhost:x"]).expect(2).says(&["no port"]);
    node(&["--join", "akka.tcp://a@b:1"]).expect(2).says(&["akka.quic"]);
    let remote = "akka.quic://a@192.0.2.7:4400";
    for listen in [&[][..], &["--listen", "127.0.0.1:4400"]] {
        // One that started would not end.
        let args = [&["node"], listen, &["--join", remote]].concat();
        let mut node = Running::start(dir.path(), &args);
        assert_eq!(node.end().code(), Some(2));
        let said = node.err().split_whitespace().collect::<Vec<_>>().join(" ");
        for text in [remote, "is on another machine", "--listen"] {
            assert!(said.contains(text), "{said}");
        }
    }
    node(&["--listen", "127.0.0.1:0", "--advertise", "other.host"]).expect(1).says(&["other.host"]);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let held = std::net::UdpSocket::bind(&taken);
    node(&["--listen", &taken]).expect(1).says(&["cannot open UDP socket"]);
    drop(held);
    node(&["--certs", "nowhere"]).expect(2).says(&["nowhere"]);
}

/// Every line fits, and the rules go from side to side. Not so while it is being drawn.
fn is_tidy(text: &str, columns: usize) -> bool {
    let is = |start: &str| text.lines().any(|line| line.starts_with(start) && line.contains("───"));
    let mut rules = text.lines().filter(|line| line.contains("───"));
    [" Nodes", " Tells", " Events"].iter().all(|start| is(start))
        && rules.all(|rule| rule.chars().count() == columns)
        && text.lines().all(|line| line.chars().count() <= columns)
}

#[test]
fn the_live_view_shows_both_members_follows_the_size_and_leaves_the_terminal_as_it_was() {
    let dir = certificates();
    let (mut a, address) = Running::node(dir.path(), &ANY);
    let args = ["node", "--join", &address, "--listen", "127.0.0.1:0"];
    let mut terminal = Terminal::start(dir.path(), &args, 80, 24);
    let complete = |text: &str| {
        text.lines().any(|line| line.contains(" Up ") && line.contains("this node"))
            && text.lines().any(|line| line.contains(" Up ") && line.contains(" connected "))
            && text.contains("2 of 2 up")
            && text.contains("connected")
            && text.contains("p99")
    };
    let small = terminal.until("both members", |text| complete(text) && is_tidy(text, 80));
    println!("{small}");
    assert_eq!(terminal.is_taken(), (true, true));
    assert_ne!(terminal.settings(), terminal.before, "raw");

    terminal.resize(140, 40);
    let wide = terminal.until("the wide view", |text| {
        complete(text) && text.contains("  incarnation #") && is_tidy(text, 140)
    });
    println!("{wide}");

    terminal.resize(20, 5);
    terminal.until("the tiny view", |text| text.lines().count() <= 5 && text.contains("akka"));
    terminal.resize(80, 24);
    terminal.until("the first view again", |text| complete(text) && is_tidy(text, 80));

    let own = wide.split_whitespace().next().unwrap().to_owned();
    let args = ["load", &own, "--count", "3000", "--rate", "1000", "--idle", "100ms"];
    let mut load = Running::start(dir.path(), &args);
    let busy = terminal.until("tells", |text| {
        text.contains("1 not a member") && text.lines().any(|line| line.contains(" kB/s"))
    });
    println!("{busy}");
    assert_eq!(load.end().code(), Some(0));
    terminal.until("all tells, and the sender's end", |text| {
        text.contains("received 3,000 tells, 3.07 MB") && !text.contains("not a member")
    });

    terminal.press("xyz");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    let left = terminal.until("the report", |text| text.contains("received: 3,000 tells"));
    assert!(left.contains("nothing lost"), "{left}");
    println!("{left}");
    assert_eq!(terminal.is_taken(), (false, false));
    assert_eq!(terminal.settings(), terminal.before);
    a.until("the leave", |text| text.contains("is no member any more"));
    a.signal(Signal::TERM);
    assert_eq!(a.end().code(), Some(0));
}

#[test]
fn ctrl_c_ends_the_live_view_too() {
    let dir = certificates();
    let mut terminal =
        Terminal::start(dir.path(), &["node", "--listen", "127.0.0.1:0", "--system", "x"], 80, 24);
    terminal.until("the member", |text| text.contains("1 of 1 up"));
    assert_ne!(terminal.settings(), terminal.before, "raw");
    terminal.press("\u{3}");
    assert_eq!(terminal.end(), 0);
    terminal.until("the report", |text| text.contains("nothing lost"));
    assert_eq!(terminal.is_taken(), (false, false));
    assert_eq!(terminal.settings(), terminal.before);
}
