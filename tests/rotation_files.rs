//! Certificates, keys and CA bundles from files, on call and watched, over real sockets. The watch looks
//! every few milliseconds here; how it decides is tested without files and clocks, beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use cluster_quic::{
    BindError, ClusterTransport, Config, DevCa, DevCertOptions, DevCertificate, Event, Events,
    IdentityError, IdentityFiles, PeerState, RecordingSink, gossip_inbox,
};
use tokio::time::{sleep, timeout};

const HOST: &str = "127.0.0.1";

/// Long enough for a new file to be whole, short enough to wait for.
const PERIOD: Duration = Duration::from_millis(25);

/// How long to wait for what comes soon, or never.
const NEVER: Duration = Duration::from_secs(30);

/// A folder for the time of a test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cluster-quic-rotation-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn put(&self, issued: &DevCertificate, bundle: &str) {
        self.write("tls.crt", &issued.chain);
        self.write("tls.key", &issued.key);
        self.write("ca.crt", bundle);
    }

    fn files(&self) -> IdentityFiles {
        IdentityFiles::new(self.path("tls.crt"), self.path("tls.key"), self.path("ca.crt"))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Certificates of one life each, so that they can be told apart by it.
fn issue(ca: &DevCa, days: u64) -> DevCertificate {
    let now = SystemTime::now();
    let life = Duration::from_secs(days * 86_400);
    let options =
        DevCertOptions { not_before: now, not_after: now + life, ..DevCertOptions::default() };
    ca.issue_with(&[HOST], &options).unwrap()
}

fn bind(files: &IdentityFiles) -> ClusterTransport {
    let config = Config::builder("files").build().unwrap();
    let node = ClusterTransport::bind(config, &files.load().unwrap()).unwrap();
    node.start(gossip_inbox::<()>(1).0, RecordingSink::new()).unwrap();
    node
}

async fn renewed(events: &mut Events) -> SystemTime {
    let renewed = async {
        loop {
            match events.recv().await.expect("the node lives") {
                Event::IdentityRenewed { expires, .. } => return expires,
                Event::IdentityRejected { reason } => panic!("rejected: {reason}"),
                _ => {}
            }
        }
    };
    timeout(NEVER, renewed).await.expect("a renewal")
}

async fn rejected(events: &mut Events) -> String {
    let rejected = async {
        loop {
            match events.recv().await.expect("the node lives") {
                Event::IdentityRejected { reason } => return reason,
                Event::IdentityRenewed { .. } => panic!("renewed"),
                _ => {}
            }
        }
    };
    timeout(NEVER, rejected).await.expect("a rejection")
}

/// That nothing is said of identities for a few periods.
async fn silence(events: &mut Events) {
    let end = Instant::now() + 8 * PERIOD;
    while let Ok(event) =
        timeout(end.saturating_duration_since(Instant::now()), events.recv()).await
    {
        let about = matches!(
            event,
            Some(Event::IdentityRenewed { .. } | Event::IdentityRejected { .. }) | None
        );
        assert!(!about, "{event:?}");
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    timeout(NEVER, async {
        while !done() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn files_are_taken_on_call_and_bad_ones_are_errors() {
    let (ca, dir) = (DevCa::new("ca").unwrap(), Dir::new());
    dir.put(&issue(&ca, 10), ca.certificate());
    let (files, node) = (dir.files(), bind(&dir.files()));
    let old = node.identity_expires();
    let mut events = node.events();

    let better = issue(&ca, 20);
    dir.write("tls.crt", &better.chain);
    let error = node.renew_from_files(&files).unwrap_err();
    assert!(matches!(error, BindError::Identity(IdentityError::KeyMismatch { .. })), "{error}");
    assert!(error.to_string().contains("tls.key"), "{error}");
    dir.write("tls.key", &better.key);
    fs::remove_file(dir.path("ca.crt")).unwrap();
    let error = node.renew_from_files(&files).unwrap_err();
    assert!(matches!(error, BindError::Identity(IdentityError::Read { .. })), "{error}");
    let elsewhere = ca.issue(&["elsewhere.example"]).unwrap();
    dir.put(&elsewhere, ca.certificate());
    let error = node.renew_from_files(&files).unwrap_err();
    assert!(matches!(error, BindError::OwnName { .. }), "{error}");
    assert_eq!(node.identity_expires(), old, "the old identity stays");

    dir.put(&better, ca.certificate());
    node.renew_from_files(&files).unwrap();
    assert!(node.identity_expires() > old);
    assert_eq!(Some(renewed(&mut events).await), node.identity_expires());
}

/// As a Kubernetes volume has it: the files are links into `..data`, a link that is replaced by a rename.
#[cfg(unix)]
struct Volume<'a> {
    dir: &'a Dir,
    versions: u32,
}

#[cfg(unix)]
impl Volume<'_> {
    fn publish(&mut self, issued: &DevCertificate, bundle: &str) {
        use std::os::unix::fs::symlink;
        self.versions += 1;
        let version = format!("..{}", self.versions);
        fs::create_dir(self.dir.path(&version)).unwrap();
        for (name, content) in
            [("tls.crt", &*issued.chain), ("tls.key", &issued.key), ("ca.crt", bundle)]
        {
            self.dir.write(&format!("{version}/{name}"), content);
            if self.versions == 1 {
                symlink(Path::new("..data").join(name), self.dir.path(name)).unwrap();
            }
        }
        symlink(&version, self.dir.path("..data_tmp")).unwrap();
        fs::rename(self.dir.path("..data_tmp"), self.dir.path("..data")).unwrap();
        if self.versions > 1 {
            let before = format!("..{}", self.versions - 1);
            fs::remove_dir_all(self.dir.path(&before)).unwrap();
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_kubernetes_volume_is_followed_and_standing_connections_with_it() {
    let (ca, new_ca) = (DevCa::new("ca").unwrap(), DevCa::new("new").unwrap());
    let (dir, other) = (Dir::new(), Dir::new());
    let mut volume = Volume { dir: &dir, versions: 0 };
    volume.publish(&issue(&ca, 10), ca.certificate());
    other.put(&issue(&ca, 10), ca.certificate());
    let (node, peer) = (bind(&dir.files()), bind(&other.files()));
    let (mut events, mut peer_events) = (node.events(), peer.events());
    let watch = node.watch_identity(dir.files(), PERIOD);
    peer.watch_identity(other.files(), PERIOD).detach();
    let seen = peer.peer(node.address()).unwrap();
    timeout(NEVER, seen.connect()).await.unwrap().unwrap();
    silence(&mut events).await;

    // A certificate, then another CA in three steps.
    let both = format!("{}{}", ca.certificate(), new_ca.certificate());
    let leaf = issue(&ca, 20);
    volume.publish(&leaf, ca.certificate());
    assert_eq!(Some(renewed(&mut events).await), node.identity_expires());
    until("the peer sees it", || seen.stats().certificate_expires == node.identity_expires()).await;
    volume.publish(&leaf, &both);
    renewed(&mut events).await;
    other.put(&issue(&ca, 10), &both);
    renewed(&mut peer_events).await;
    volume.publish(&issue(&new_ca, 30), &both);
    renewed(&mut events).await;
    other.put(&issue(&new_ca, 30), new_ca.certificate());
    renewed(&mut peer_events).await;
    until("the peer sees it", || seen.stats().certificate_expires == node.identity_expires()).await;
    assert_eq!(seen.stats().state, PeerState::Connected);
    assert!(watch.last_error().is_none());
    silence(&mut events).await;
}

#[tokio::test]
async fn what_is_not_in_order_keeps_the_old_identity_and_is_reported_once() {
    let (ca, dir) = (DevCa::new("ca").unwrap(), Dir::new());
    dir.put(&issue(&ca, 10), ca.certificate());
    let node = bind(&dir.files());
    let old = node.identity_expires();
    let mut events = node.events();
    let watch = node.watch_identity(dir.files(), PERIOD);

    // The certificate without its key, for good.
    let better = issue(&ca, 20);
    dir.write("tls.crt", &better.chain);
    let reason = rejected(&mut events).await;
    assert!(reason.contains("does not belong") && reason.contains("tls.key"), "{reason}");
    let error = watch.last_error().unwrap();
    assert!(matches!(&*error, BindError::Identity(IdentityError::KeyMismatch { .. })), "{error}");
    silence(&mut events).await;
    // Gone altogether: another fault, and news.
    fs::remove_file(dir.path("tls.crt")).unwrap();
    let reason = rejected(&mut events).await;
    assert!(reason.contains("tls.crt") && reason.contains("cannot be read"), "{reason}");
    silence(&mut events).await;
    // For another host.
    dir.put(&ca.issue(&["elsewhere.example"]).unwrap(), ca.certificate());
    let reason = rejected(&mut events).await;
    assert!(reason.contains("elsewhere.example"), "{reason}");
    assert!(matches!(&*watch.last_error().unwrap(), BindError::OwnName { .. }));
    assert_eq!(node.identity_expires(), old);
    // In order at last. What is the same but for the way it is written is no news.
    dir.put(&better, ca.certificate());
    assert!(renewed(&mut events).await > old.unwrap());
    assert!(watch.last_error().is_none());
    // Broken again, and put back, which is what the node has: all is well.
    fs::remove_file(dir.path("tls.key")).unwrap();
    rejected(&mut events).await;
    assert!(watch.last_error().is_some());
    dir.put(&better, ca.certificate());
    until("no error", || watch.last_error().is_none()).await;
    dir.write("ca.crt", &format!("# our own\n{}", ca.certificate()));
    silence(&mut events).await;
}

/// The node's clock decides when a certificate's time has come, with nothing new in the files.
#[tokio::test]
async fn a_certificate_whose_time_has_not_come_is_taken_when_it_has() {
    let (ca, dir) = (DevCa::new("ca").unwrap(), Dir::new());
    dir.put(&issue(&ca, 10), ca.certificate());
    let ahead = std::sync::Arc::new(AtomicU32::new(0));
    let hours = std::sync::Arc::clone(&ahead);
    let config = Config::builder("files").wall_clock(move || {
        SystemTime::now() + Duration::from_secs(3600) * hours.load(Ordering::Relaxed)
    });
    let node =
        ClusterTransport::bind(config.build().unwrap(), &dir.files().load().unwrap()).unwrap();
    let mut events = node.events();
    let _watch = node.watch_identity(dir.files(), PERIOD);
    let now = SystemTime::now();
    let options = DevCertOptions {
        not_before: now + Duration::from_secs(3600),
        not_after: now + Duration::from_secs(100 * 86_400),
        ..DevCertOptions::default()
    };
    dir.put(&ca.issue_with(&[HOST], &options).unwrap(), ca.certificate());
    let reason = rejected(&mut events).await;
    assert!(reason.contains("valid only from"), "{reason}");
    ahead.store(2, Ordering::Relaxed);
    renewed(&mut events).await;
}

#[tokio::test]
async fn the_watch_ends_with_the_transport_or_its_handle() {
    let (ca, dir) = (DevCa::new("ca").unwrap(), Dir::new());
    dir.put(&issue(&ca, 10), ca.certificate());
    let node = bind(&dir.files());
    let mut events = node.events();
    let watch = node.watch_identity(dir.files(), PERIOD);
    assert!(!watch.is_finished());
    drop(watch);
    dir.put(&issue(&ca, 20), ca.certificate());
    silence(&mut events).await;

    // Files that are ahead of the node when the watch begins are taken; dropping the transport ends it.
    let watch = node.watch_identity(dir.files(), PERIOD);
    renewed(&mut events).await;
    assert!(!watch.is_finished());
    drop(node);
    until("the watch ends with the last handle", || watch.is_finished()).await;

    let node = bind(&dir.files());
    let watch = node.watch_identity(dir.files(), Duration::ZERO);
    // Half an hour between two looks does not hold up a shutdown.
    let slow = node.watch_identity(dir.files(), Duration::from_secs(1800));
    let report = node.shutdown(NEVER).await;
    assert!(report.took < NEVER / 3, "{:?}", report.took);
    until("the watch ends with a shutdown", || watch.is_finished() && slow.is_finished()).await;
}
