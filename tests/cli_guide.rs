//! `docs/operations.md`, "Two nodes in five minutes", from an empty folder, as it is written there.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod cli;

use std::path::Path;

use cli::process::Running;
use cli::{Dir, free_port, run};
use rustix::process::Signal;

/// The tool's arguments in each command of the guide that is for one machine, in their order.
fn commands(port: u16) -> Vec<Vec<String>> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, section) = guide.split_once("\n## Two nodes in five minutes\n").expect("the section");
    let (section, _) = section.split_once("\nOn two machines").expect("its second part");
    let lines = section.lines().filter_map(|line| line.strip_prefix("cluster-quic "));
    let commands = lines.map(|line| {
        let line = line.split(" #").next().unwrap();
        let line = line.replace("127.0.0.1:4400", &format!("127.0.0.1:{port}"));
        line.split_whitespace().map(str::to_owned).collect()
    });
    commands.collect()
}

#[test]
fn two_nodes_in_five_minutes() {
    let (dir, port) = (Dir::new(), free_port());
    let (mut nodes, mut done) = (Vec::new(), Vec::new());
    for command in commands(port) {
        let args: Vec<_> = command.iter().map(String::as_str).collect();
        if args[0] == "node" {
            let (node, address) = Running::node(dir.path(), &args[1..]);
            assert!(address.starts_with("akka.quic://demo@127.0.0.1:"), "{address}");
            nodes.push(node);
            continue;
        }
        // All of them, before anybody looks at them.
        for node in &nodes {
            node.until("both members", |text| {
                text.contains(&format!("{0} of {0} up", nodes.len()))
            });
        }
        run(dir.path(), &args).expect(0);
        done.push(args[..2].join(" "));
    }
    assert_eq!(done, ["certs init", "certs issue", "certs issue", "certs check", "ping --as"]);
    assert_eq!(nodes.len(), 2);

    let address = format!("akka.quic://demo@127.0.0.1:{port}");
    let args = ["load", &address, "--as", "node-b", "--count", "5000", "--idle", "200ms"];
    run(dir.path(), &args).expect(0).says(&["acknowledged 5,000 tells: all"]);
    for mut node in nodes {
        node.signal(Signal::TERM);
        assert_eq!(node.end().code(), Some(0));
    }
}
