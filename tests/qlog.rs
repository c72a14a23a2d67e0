//! qlog files: one per connection, valid, and bounded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster_quic::{
    BindError, ClusterTransport, Config, ConfigBuilder, DevCa, Identity, RecordingSink, RemoteTell,
    gossip_inbox,
};
use serde_json::Value;

/// A folder that is gone in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = dir.join(format!("qlog-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    /// Names and contents, in order.
    fn files(&self) -> Vec<(String, String)> {
        let files = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        let file = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        };
        let mut files: Vec<_> = files.map(file).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn identity() -> Identity {
    DevCa::new("qlog").unwrap().identity(&["127.0.0.1"]).unwrap()
}

fn node(
    identity: &Identity,
    adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> ClusterTransport {
    let config = adapt(Config::builder("qlog")).build().unwrap();
    let node = ClusterTransport::bind(config, identity).unwrap();
    node.start(gossip_inbox::<String>(1).0, RecordingSink::new()).unwrap();
    node
}

/// Tells from one to the other, and the end of both.
async fn talk(a: &ClusterTransport, b: &ClusterTransport, tells: u64) {
    let talk = async {
        for n in 0..tells {
            let tell = RemoteTell {
                target_path: format!("/user/{n}"),
                manifest: "number".into(),
                payload: vec![7; 4_000],
                sender_path: None,
            };
            a.tell_when_ready(b.address(), tell).await.unwrap();
        }
        a.flush(b.address()).await.unwrap();
        a.shutdown(Duration::from_secs(10)).await;
        b.shutdown(Duration::from_secs(10)).await;
    };
    tokio::time::timeout(Duration::from_secs(60), talk).await.expect("in time");
}

/// The records of a JSON text sequence (RFC 7464).
fn records(text: &str) -> Vec<Value> {
    let mut records = text.split('\u{1e}');
    assert_eq!(records.next(), Some(""), "each record begins with RS");
    let record = |record: &str| {
        assert!(record.ends_with('\n'), "each ends with a line feed: {record}");
        serde_json::from_str(record).unwrap()
    };
    records.map(record).collect()
}

/// Waits until files that were being written are complete: quinn's tasks let go of them last.
async fn complete(folder: &Folder, done: impl Fn(&[(String, String)]) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !done(&folder.files()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("complete files");
}

fn events(text: &str, name: &str) -> usize {
    text.matches(&format!("\"name\":\"{name}\"")).count()
}

#[tokio::test]
async fn each_connection_has_a_valid_file_named_by_peer_and_role() {
    let folder = Folder::new("valid");
    let identity = identity();
    let [a, b] = [(); 2].map(|()| node(&identity, |c| c.qlog(&folder.0)));
    let [port_a, port_b] = [&a, &b].map(|node| node.address().port());
    talk(&a, &b, 100).await;
    complete(&folder, |files| {
        files
            .iter()
            .all(|(_, text)| text.ends_with('\n') && events(text, "recovery:metrics_updated") > 0)
    })
    .await;
    let files = folder.files();
    let find = |end: String| {
        let found: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(&end)).collect();
        assert_eq!(found.len(), 1, "{end}: {:?}", files.iter().map(|(n, _)| n).collect::<Vec<_>>());
        found[0]
    };
    assert_eq!(files.len(), 2);
    let client = find(format!("-{port_a}-0-client-127.0.0.1_{port_b}.sqlog"));
    let server = find(format!("-{port_b}-0-server-127.0.0.1_{port_a}.sqlog"));
    let packets: usize =
        [client, server].iter().map(|(_, t)| events(t, "transport:packet_sent")).sum();
    let bytes: usize = [client, server].iter().map(|(_, text)| text.len()).sum();
    println!("{bytes} bytes for {packets} packets");
    for (name, text) in [client, server] {
        let records = records(text);
        let header = &records[0];
        assert_eq!(header["qlog_format"], "JSON-SEQ");
        assert_eq!(header["title"], name.as_str());
        assert!(header["qlog_version"].is_string() && header["trace"].is_object());
        assert!(records.len() > 20, "{} records", records.len());
        let mut last = 0.0;
        for event in &records[1..] {
            let time = event["time"].as_f64().expect("a time");
            assert!(time >= last, "{time} after {last}");
            last = time;
            assert!(event["name"].is_string() && event["data"].is_object(), "{event}");
        }
        for kind in ["transport:packet_sent", "transport:packet_received"] {
            assert!(events(text, kind) > 5, "{kind}: {}", &text[..2_000]);
        }
    }
}

#[tokio::test]
async fn a_file_stays_within_its_limit_and_ends_with_a_whole_record() {
    const LIMIT: u64 = 10_000;
    let folder = Folder::new("limit");
    let identity = identity();
    let a = node(&identity, |c| c.qlog_limits(LIMIT, 1 << 20).qlog(&folder.0));
    let b = node(&identity, |c| c);
    talk(&a, &b, 2_000).await;
    complete(&folder, |files| files.iter().all(|(_, text)| text.len() as u64 > LIMIT * 9 / 10))
        .await;
    let files = folder.files();
    assert_eq!(files.len(), 1);
    let (_, text) = &files[0];
    assert!(text.len() as u64 <= LIMIT, "{} bytes", text.len());
    assert!(records(text).len() > 10);
}

#[tokio::test]
async fn all_files_together_have_a_limit() {
    let folder = Folder::new("in-all");
    let identity = identity();
    let a = node(&identity, |c| c.qlog(&folder.0).qlog_limits(10_000, 25_000));
    let b = node(&identity, |c| c);
    let peer = a.peer(b.address()).unwrap();
    let again = async {
        for _ in 0..5 {
            peer.connect().await.unwrap();
            let mut events = a.events();
            peer.disconnect();
            while !matches!(events.recv().await, Some(cluster_quic::Event::PeerDown { .. })) {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.expect("in time");
    talk(&a, &b, 10).await;
    let files = folder.files();
    assert_eq!(files.len(), 2, "connections beyond the limit have none");
}

#[tokio::test]
async fn without_being_asked_for_there_are_none_and_a_bad_folder_is_an_error() {
    let folder = Folder::new("none");
    std::fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("file");
    std::fs::write(&file, "in the way").unwrap();
    let identity = identity();
    let config = Config::builder("qlog").qlog(file.join("folder")).build().unwrap();
    let error = ClusterTransport::bind(config, &identity).unwrap_err();
    assert!(
        matches!(&error, BindError::Qlog { folder, .. } if folder.starts_with(&file)),
        "{error}"
    );
    assert!(error.to_string().contains("qlog"), "{error}");
    let [a, b] = [(); 2].map(|()| node(&identity, |c| c));
    talk(&a, &b, 1).await;
    assert!(Path::new(&file).exists());
    assert_eq!(folder.files().len(), 1);
}
