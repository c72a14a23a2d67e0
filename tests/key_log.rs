//! TLS secrets are written where the program asks for it, and nowhere else.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_quic::{
    ClusterTransport, Config, DevCa, KeyLog, RecordingSink, RemoteTell, gossip_inbox,
};

fn tell() -> RemoteTell {
    RemoteTell {
        target_path: "/user/greeter".into(),
        manifest: "text".into(),
        payload: b"hello".to_vec(),
        sender_path: None,
    }
}

/// Two nodes that tell each other something, with these key logs.
async fn talk(logs: [Option<KeyLog>; 2]) -> [ClusterTransport; 2] {
    let ca = DevCa::new("key log").unwrap();
    let identity = ca.identity(&["127.0.0.1"]).unwrap();
    let nodes = logs.map(|log| {
        let config = Config::builder("keys");
        let config = match log {
            Some(log) => config.key_log(log),
            None => config,
        };
        let node = ClusterTransport::bind(config.build().unwrap(), &identity).unwrap();
        node.start(gossip_inbox::<String>(1).0, RecordingSink::new()).unwrap();
        node
    });
    let talk = async {
        nodes[0].tell(nodes[1].address(), tell()).unwrap();
        nodes[0].flush(nodes[1].address()).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(60), talk).await.expect("in time");
    nodes
}

/// Lines, and the log that collects them.
fn collecting() -> (Arc<Mutex<Vec<String>>>, KeyLog) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    (lines, KeyLog::new(move |line| log.lock().unwrap().push(line.to_owned())))
}

#[tokio::test]
async fn both_sides_write_the_same_secrets_in_nss_s_format() {
    let [(a, log_a), (b, log_b)] = [collecting(), collecting()];
    let _nodes = talk([Some(log_a), Some(log_b)]).await;
    let sorted = |lines: &Mutex<Vec<String>>| -> BTreeSet<String> {
        lines.lock().unwrap().iter().cloned().collect()
    };
    assert_eq!(sorted(&a), sorted(&b));
    // What Wireshark needs of TLS 1.3.
    let labels = [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    ];
    for label in labels {
        let lines = sorted(&a);
        let line = lines.iter().find(|line| line.split(' ').next() == Some(label));
        let parts: Vec<_> = line.unwrap_or_else(|| panic!("no {label}")).split(' ').collect();
        let [_, random, secret] = parts[..] else { panic!("{parts:?}") };
        assert_eq!(random.len(), 64);
        assert!([64, 96].contains(&secret.len()), "{secret}");
        assert!((random.to_owned() + secret).bytes().all(|b| b.is_ascii_hexdigit()));
    }
}

/// A path that nobody else has.
fn path(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    dir.join(format!("{name}-{}", std::process::id()))
}

#[tokio::test]
async fn a_file_is_for_its_owner_alone() {
    let path = path("keys");
    let _ = std::fs::remove_file(&path);
    let _nodes = talk([Some(KeyLog::to_file(&path).unwrap()), None]).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().any(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 ")), "{text}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    std::fs::remove_file(&path).unwrap();
    assert!(KeyLog::to_file(env!("CARGO_MANIFEST_DIR")).is_err(), "a folder is no file");
}

/// Run by the test below, in a process of its own.
#[tokio::test]
#[ignore = "a part of `the_environment_alone_writes_no_secret`"]
async fn child_without_a_key_log() {
    let _nodes = talk([None, None]).await;
}

#[test]
fn the_environment_alone_writes_no_secret() {
    let path = path("from-the-environment");
    let _ = std::fs::remove_file(&path);
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["child_without_a_key_log", "--exact", "--ignored"])
        .env("SSLKEYLOGFILE", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    assert!(!path.exists(), "secrets were written");
}
