//! Loading identities, and the development certificates they are loaded from.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use cluster_quic::{DevCa, DevCertError, DevCertOptions, Identity, IdentityError};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn files_that_a_dev_ca_wrote_load() {
    let dir = Dir::new();
    let ca = DevCa::load_or_create(&dir).unwrap();
    let files = ca.write_to(&dir, "node-a", &["localhost", "127.0.0.1", "[::1]"]).unwrap();
    let identity =
        Identity::from_pem_files(&files.certificate, &files.private_key, &files.ca).unwrap();
    assert_eq!(identity.names(), ["localhost", "127.0.0.1", "::1"]);
    assert_eq!(identity.names(), files.names);
    assert_eq!(identity.fingerprint().len(), 64);
    let left = identity.not_after().duration_since(SystemTime::now()).unwrap();
    assert!(left > 29 * 24 * HOUR && left <= 30 * 24 * HOUR);
    let debug = format!("{identity:?}");
    assert!(debug.contains("localhost") && !debug.contains("key"), "{debug}");
    assert_eq!(dir.files(), ["ca-key.pem", "ca.pem", "node-a-key.pem", "node-a.pem"]);
}

#[test]
fn a_second_run_adds_a_node_under_the_same_ca() {
    let dir = Dir::new();
    DevCa::load_or_create(&dir).unwrap().write_to(&dir, "node-a", &["a.test"]).unwrap();
    let (ca, key) = (dir.read("ca.pem"), dir.read("ca-key.pem"));
    let first = dir.read("node-a.pem");

    let again = DevCa::load_or_create(&dir).unwrap();
    again.write_to(&dir, "node-b", &["b.test"]).unwrap();
    again.write_to(&dir, "node-a", &["a.test"]).unwrap();
    assert_eq!((dir.read("ca.pem"), dir.read("ca-key.pem")), (ca, key));
    assert_ne!(dir.read("node-a.pem"), first);
    assert_eq!(again.certificate(), dir.read("ca.pem"));
}

#[test]
fn what_is_new_overwrites_nothing() {
    let dir = Dir::new();
    assert!(DevCa::load(&dir).unwrap().is_none());
    let ca = DevCa::new("first").unwrap();
    ca.save_to(&dir).unwrap();
    ca.save_to(&dir).unwrap();
    assert!(DevCa::new("second").unwrap().save_to(&dir).is_err());
    let ca = DevCa::load(&dir).unwrap().expect("it was saved");
    ca.write_new_to(&dir, "node-a", &["a.test"]).unwrap();
    let exists = |result: Result<_, DevCertError>| match result {
        Err(DevCertError::File { source, .. }) => {
            source.kind() == std::io::ErrorKind::AlreadyExists
        }
        _ => false,
    };
    for missing in [None, Some("node-a.pem"), Some("node-a-key.pem")] {
        let taken = missing.map(|file| (file, dir.read(file)));
        if let Some((file, _)) = &taken {
            fs::remove_file(dir.path(file)).unwrap();
        }
        let before = (dir.files(), dir.files().iter().map(|f| dir.read(f)).collect::<Vec<_>>());
        assert!(exists(ca.write_new_to(&dir, "node-a", &["a.test"])), "without {missing:?}");
        let after = (dir.files(), dir.files().iter().map(|f| dir.read(f)).collect::<Vec<_>>());
        assert_eq!(before, after, "without {missing:?}");
        if let Some((file, text)) = taken {
            fs::write(dir.path(file), text).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn key_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let ca = DevCa::load_or_create(&dir).unwrap();
    ca.write_to(&dir, "node-a", &["a.test"]).unwrap();
    for file in ["ca-key.pem", "node-a-key.pem"] {
        let mode = fs::metadata(dir.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_folder_keeps_to_one_ca() {
    let dir = Dir::new();
    let ca = DevCa::new("first").unwrap();
    ca.write_to(&dir, "node-a", &["a.test"]).unwrap();
    let error = DevCa::new("second").unwrap().write_to(&dir, "node-b", &["b.test"]).unwrap_err();
    assert!(matches!(error, DevCertError::DifferentCa { .. }), "{error}");

    fs::remove_file(dir.path("ca.pem")).unwrap();
    let error = DevCa::load_or_create(&dir).unwrap_err();
    assert!(matches!(error, DevCertError::IncompleteCa { .. }), "{error}");

    fs::write(dir.path("ca.pem"), DevCa::new("third").unwrap().certificate()).unwrap();
    let error = DevCa::load_or_create(&dir).unwrap_err();
    assert!(matches!(error, DevCertError::UnusableCa { .. }), "{error}");
    assert!(error.to_string().contains("not the key of ca.pem"), "{error}");
}

#[test]
fn one_ca_from_two_threads_or_an_error() {
    let dir = Dir::new();
    let certificates: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| DevCa::load_or_create(&dir))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap().ok())
            .map(|ca| ca.certificate().to_owned())
            .collect()
    });
    assert!(!certificates.is_empty());
    for certificate in certificates {
        assert_eq!(certificate, dir.read("ca.pem"));
    }
    DevCa::load_or_create(&dir).unwrap();
    assert_eq!(dir.files(), ["ca-key.pem", "ca.pem"]);
}

#[test]
fn names_are_checked_before_anything_is_made() {
    let ca = DevCa::new("test").unwrap();
    let none: [&str; 0] = [];
    assert!(matches!(ca.issue(&none), Err(DevCertError::NoNames)));
    for name in [
        "",
        " ",
        "a b",
        " a.test",
        "a..test",
        "-a.test",
        "a_b!",
        "300.1.1.1",
        "1.2.3",
        "a.test.",
        "*",
        "*.",
        "a.*.test",
        "[::1",
        "bücher.test",
        "a/b",
        "localhost:80",
    ] {
        let error = ca.issue(&["good.test", name]).unwrap_err();
        assert!(matches!(error, DevCertError::Name { .. }), "{name:?}: {error}");
    }
    for name in ["", " ", "x\ny", &"x".repeat(41)] {
        assert!(matches!(DevCa::new(name), Err(DevCertError::CaName { .. })));
    }
    let names = ["*.a.test", "node_1", "xn--bcher-kva.test", "10.0.0.1", "::1", "[::1]"];
    let issued = ca.issue(&names).unwrap();
    assert_eq!(issued.names, names[..5]);
    assert!(!format!("{issued:?}{ca:?}").contains("PRIVATE"));
}

#[test]
fn node_names_stay_within_their_folder_and_off_the_ca() {
    let dir = Dir::new();
    let ca = DevCa::new("test").unwrap();
    for name in [
        "",
        "..",
        "../x",
        "a/b",
        "a\\b",
        ".hidden",
        "ca",
        "CA",
        "ca-key",
        "node-a-key",
        "a b",
        "-x",
        "a\0",
    ] {
        let error = ca.write_to(&dir, name, &["a.test"]).unwrap_err();
        assert!(matches!(error, DevCertError::NodeName { .. }), "{name:?}: {error}");
    }
    assert!(dir.files().is_empty());
}

#[test]
fn a_missing_file_is_named() {
    let (dir, files) = written();
    let missing = dir.path("nowhere.pem");
    for (chain, key, ca) in [
        (&missing, &files.private_key, &files.ca),
        (&files.certificate, &missing, &files.ca),
        (&files.certificate, &files.private_key, &missing),
    ] {
        let error = Identity::from_pem_files(chain, key, ca).unwrap_err();
        assert!(matches!(error, IdentityError::Read { .. }));
        assert!(error.to_string().contains("nowhere.pem"), "{error}");
    }
}

#[test]
fn swapped_files_are_told_apart() {
    let (_dir, files) = written();
    let error = Identity::from_pem_files(&files.private_key, &files.certificate, &files.ca);
    says(error, &["node-a-key.pem", "contains PRIVATE KEY, expected CERTIFICATE"]);
    let error = Identity::from_pem_files(&files.certificate, &files.ca, &files.ca);
    says(error, &["ca.pem", "contains CERTIFICATE, expected PRIVATE KEY"]);
    let error =
        Identity::from_pem_files(&files.certificate, &files.private_key, &files.certificate);
    says(error, &["CA bundle", "node-a.pem", "not a usable CA", "CA:FALSE"]);
    let error =
        Identity::from_pem_files(&files.ca, files.ca.with_file_name("ca-key.pem"), &files.ca);
    says(error, &["ca.pem", "is a CA certificate"]);
}

#[test]
fn bad_pem_is_explained() {
    let parts = Parts::new();
    says(parts.load_chain(b""), &["the certificate chain given in memory", "no PEM block"]);
    says(parts.load_ca(b""), &["the CA bundle given in memory", "no PEM block"]);
    says(parts.load_chain(&[0x30, 0x82, 1, 2, 0xff]), &["looks like DER"]);
    says(
        parts.load_chain(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        &["certificate 1 is malformed"],
    );
    says(
        parts.load_chain(&parts.chain.as_bytes()[..200]),
        &["not valid PEM: the block CERTIFICATE has no end line"],
    );
    says(
        parts.load_chain(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
        &["not valid PEM"],
    );
    let half = format!("{}{}", parts.chain, parts.chain.replace("MII", "MIJ"));
    says(parts.load_chain(half.as_bytes()), &["certificate 2 is malformed"]);
    says(
        parts.load_key(
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ),
        &["ENCRYPTED PRIVATE KEY: decrypt it first"],
    );
    says(
        parts.load_key(
            b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n",
        ),
        &["decrypt it first"],
    );
    says(
        parts.load_key(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        &["the private key cannot be used"],
    );
    let twice = format!("{}{}", parts.key, parts.key);
    says(parts.load_key(twice.as_bytes()), &["holds 2 private keys"]);
}

#[test]
fn the_key_must_be_the_first_certificates() {
    let parts = Parts::new();
    let other = parts.ca.issue(&["b.test"]).unwrap();
    says(
        parts.load_key(other.key.as_bytes()),
        &["the private key given in memory", "does not belong to the first certificate"],
    );
    let wrong_order = format!("{}{}", other.chain, parts.chain);
    says(
        parts.load_chain(wrong_order.as_bytes()),
        &["but to certificate 2 of it", "own certificate first"],
    );
}

#[test]
fn a_certificate_out_of_its_time_is_refused_with_the_dates() {
    let now = SystemTime::now();
    let expired = DevCertOptions {
        not_before: SystemTime::UNIX_EPOCH,
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        ..DevCertOptions::default()
    };
    says(with(&expired), &["expired on 2023-11-14 22:13 UTC; it is now 20"]);
    let early = DevCertOptions {
        not_before: SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(4_100_000_000),
        ..DevCertOptions::default()
    };
    says(with(&early), &["valid only from 2096-10-02 07:06 UTC", "clock"]);
    let backwards =
        DevCertOptions { not_before: now, not_after: now - HOUR, ..DevCertOptions::default() };
    let ca = DevCa::new("test").unwrap();
    assert!(matches!(ca.issue_with(&["a.test"], &backwards), Err(DevCertError::Validity { .. })));
}

#[test]
fn a_node_needs_both_usages() {
    let usage = |server_auth, client_auth| DevCertOptions {
        server_auth,
        client_auth,
        ..DevCertOptions::default()
    };
    says(with(&usage(true, false)), &["does not allow clientAuth"]);
    says(with(&usage(false, true)), &["does not allow serverAuth"]);
    with(&usage(false, false)).expect("without the extension everything is allowed");
}

#[test]
fn a_certificate_without_names_is_refused() {
    let parts = Parts::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let email = "ops@a.test".try_into().unwrap();
    for sans in [vec![], vec![rcgen::SanType::Rfc822Name(email)]] {
        params.subject_alt_names = sans;
        let chain = params.self_signed(&key).unwrap().pem();
        let loaded = Identity::from_pem(
            chain.as_bytes(),
            key.serialize_pem().as_bytes(),
            parts.ca.certificate().as_bytes(),
        );
        says(loaded, &["no DNS name and no IP address", "subject alternative"]);
    }
}

#[test]
fn every_certificate_of_the_bundle_must_be_a_ca() {
    let parts = Parts::new();
    let other = DevCa::new("other").unwrap();
    let both = format!("{}{}", parts.ca.certificate(), other.certificate());
    parts.load_ca(both.as_bytes()).expect("several CAs");
    parts.load_ca(other.certificate().as_bytes()).expect("the issuer need not be among them");

    let with_node = format!("{}{}", parts.ca.certificate(), parts.chain);
    says(parts.load_ca(with_node.as_bytes()), &["certificate 2 (CN=a.test)", "not a usable CA"]);

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let plain = params.self_signed(&key).unwrap().pem();
    says(parts.load_ca(plain.as_bytes()), &["no basic constraints"]);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let cannot_sign = params.self_signed(&key).unwrap().pem();
    says(parts.load_ca(cannot_sign.as_bytes()), &["key usage"]);
}

#[track_caller]
fn says(loaded: Result<Identity, IdentityError>, phrases: &[&str]) {
    let text = loaded.expect_err("refused").to_string();
    println!("{text}");
    for phrase in phrases {
        assert!(text.contains(phrase), "{phrase:?} is not in {text:?}");
    }
}

fn with(options: &DevCertOptions) -> Result<Identity, IdentityError> {
    let ca = DevCa::new("test").unwrap();
    let issued = ca.issue_with(&["a.test"], options).unwrap();
    Identity::from_pem(issued.chain.as_bytes(), issued.key.as_bytes(), ca.certificate().as_bytes())
}

fn written() -> (Dir, cluster_quic::DevFiles) {
    let dir = Dir::new();
    let ca = DevCa::load_or_create(&dir).unwrap();
    let files = ca.write_to(&dir, "node-a", &["a.test"]).unwrap();
    (dir, files)
}

/// An identity of which one part can be replaced.
struct Parts {
    ca: DevCa,
    chain: String,
    key: String,
}

impl Parts {
    fn new() -> Self {
        let ca = DevCa::new("test").unwrap();
        let issued = ca.issue(&["a.test"]).unwrap();
        Self { ca, chain: issued.chain, key: issued.key }
    }

    fn load_chain(&self, chain: &[u8]) -> Result<Identity, IdentityError> {
        Identity::from_pem(chain, self.key.as_bytes(), self.ca.certificate().as_bytes())
    }

    fn load_key(&self, key: &[u8]) -> Result<Identity, IdentityError> {
        Identity::from_pem(self.chain.as_bytes(), key, self.ca.certificate().as_bytes())
    }

    fn load_ca(&self, ca_bundle: &[u8]) -> Result<Identity, IdentityError> {
        Identity::from_pem(self.chain.as_bytes(), self.key.as_bytes(), ca_bundle)
    }
}

/// A folder of its own for each test, gone afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "cluster-quic-identity-{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl AsRef<Path> for Dir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
