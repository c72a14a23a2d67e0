//! A test of the architecture itself: which file may name what.

use std::path::{Path, PathBuf};

fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The library's files under src/, without tests (the tool in bin/ is but a user of the library), that contain `needle` outside comments.
fn naming(needle: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut naming: Vec<_> = files
        .iter()
        .filter(|path| !path.starts_with(root.join("bin")))
        .filter(|path| !path.ends_with("tests.rs") && !path.ends_with("architecture.rs"))
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"))
        .filter(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            lines.any(|line| line.contains(needle))
        })
        .map(|path| path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"))
        .collect();
    naming.sort();
    naming
}

#[test]
fn only_the_codec_knows_bincode() {
    assert_eq!(naming("bincode::"), ["codec.rs"], "not even the rest of codec/");
}

#[test]
fn only_the_quic_backend_and_its_certificates_know_quinn() {
    let rooms = ["backend/quic.rs", "backend/quic/", "tls/failure.rs"];
    let naming = naming("quinn");
    assert!(
        naming.iter().all(|file| rooms.iter().any(|room| file.starts_with(room))),
        "{naming:?}"
    );
}

#[test]
fn only_the_adapter_knows_atomr() {
    assert_eq!(naming("atomr_"), ["atomr.rs", "atomr/upgrade.rs"]);
}

#[test]
fn only_its_adapter_knows_foca() {
    assert_eq!(naming("foca::"), ["foca.rs"]);
}

#[test]
fn only_its_adapter_knows_chitchat() {
    assert_eq!(naming("chitchat::"), ["chitchat.rs"]);
}

#[test]
fn tasks_are_spawned_where_a_peer_is_driven() {
    let rooms = [
        "atomr",
        "backend/quic/dial.rs",
        "driver",
        "foca.rs",
        "hub.rs",
        "metrics.rs",
        "rotation/watch.rs",
        "session",
        "transport.rs",
    ];
    for needle in ["spawn(", "spawn_blocking("] {
        let naming = naming(needle);
        assert!(naming.iter().all(|file| rooms.iter().any(|r| file.starts_with(r))), "{naming:?}");
    }
}

#[test]
fn the_pure_rooms_know_no_clock_and_no_runtime() {
    let pure = [
        "address.rs",
        "association.rs",
        "association/ending.rs",
        "association/wait.rs",
        "codec.rs",
        "codec/budget.rs",
        "codec/guard.rs",
        "congestion.rs",
        "congestion/competing.rs",
        "congestion/cubic.rs",
        "congestion/drain.rs",
        "congestion/rtt.rs",
        "congestion/startup.rs",
        "congestion/steady.rs",
        "control.rs",
        "driver/one_way.rs",
        "driver/silence.rs",
        "driver/stuck.rs",
        "frame.rs",
        "frame/run.rs",
        "lane.rs",
        "log_limit.rs",
        "outbound/queue.rs",
        "rotation/watcher.rs",
        "stats/pairs.rs",
    ];
    for needle in ["Instant::now", "SystemTime", "tokio::"] {
        let naming = naming(needle);
        assert!(naming.iter().all(|file| !pure.contains(&&**file)), "{needle} {naming:?}");
    }
}
