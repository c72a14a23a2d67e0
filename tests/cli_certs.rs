//! `cluster-quic certs`: the real tool, each thing that can be wrong, and its exit codes.
#![cfg(feature = "cli")]

mod cli;

use std::time::{Duration, SystemTime};

use cli::{Dir, Ran, run};
use cluster_quic::{DevCa, DevCertOptions, Identity};

const DAY: Duration = Duration::from_secs(86_400);
const HOST: &str = "a.test";

#[test]
fn init_makes_a_ca_and_replaces_none_unless_told() {
    let dir = Dir::new();
    run(dir.path(), &["certs", "init"]).expect(0).says(&["certs/ca.pem", "certs issue localhost"]);
    assert_private(&dir, "certs/ca-key.pem");
    let (ca, key) = (dir.read("certs/ca.pem"), dir.read("certs/ca-key.pem"));
    let again = run(dir.path(), &["certs", "init"]).expect(1).says(&["there already", "--force"]);
    assert_eq!(again.out, "");
    assert_eq!((dir.read("certs/ca.pem"), dir.read("certs/ca-key.pem")), (ca.clone(), key));
    // One of the two is as good as both.
    std::fs::remove_file(dir.path().join("certs/ca.pem")).unwrap();
    run(dir.path(), &["certs", "init"]).expect(1).says(&["ca-key.pem is there already"]);
    run(dir.path(), &["certs", "init", "--force", "--name", "another"]).expect(0);
    assert_ne!(dir.read("certs/ca.pem"), ca);
    assert_private(&dir, "certs/ca-key.pem");
    run(dir.path(), &["certs", "show", "certs/ca.pem"]).expect(0).says(&["CN=another", "CA yes"]);
    let long = "x".repeat(41);
    run(dir.path(), &["certs", "init", "--force", "--name", &long]).expect(2).says(&["40"]);
    run(dir.path(), &["certs", "show", "certs/ca.pem"]).expect(0).says(&["CN=another"]);
    dir.write("file", "");
    run(dir.path(), &["certs", "init", "--certs", "file"]).expect(1).says(&["file"]);
}

#[test]
fn issue_writes_what_a_node_loads_and_replaces_nothing_unless_told() {
    let dir = Dir::new();
    let issue = |args: &[&str]| run(dir.path(), &[&["certs", "issue"], args].concat());
    issue(&[HOST]).expect(1).says(&["certs holds no CA", "certs init"]);
    run(dir.path(), &["certs", "init"]).expect(0);
    issue(&[HOST, "192.0.2.7", "::1"]).expect(0).says(&[HOST, "192.0.2.7", "::1", "valid until"]);
    let load = |name: &str| {
        let file = |suffix: &str| dir.path().join(format!("certs/{name}{suffix}"));
        Identity::from_pem_files(file(".pem"), file("-key.pem"), dir.path().join("certs/ca.pem"))
    };
    assert_eq!(load(HOST).unwrap().names(), [HOST, "192.0.2.7", "::1"]);
    assert_private(&dir, "certs/a.test-key.pem");

    let (cert, key) = (dir.read("certs/a.test.pem"), dir.read("certs/a.test-key.pem"));
    issue(&[HOST]).expect(1).says(&["is there already", "--force", "--as"]);
    assert_eq!(
        (dir.read("certs/a.test.pem"), dir.read("certs/a.test-key.pem")),
        (cert, key.clone())
    );
    std::fs::remove_file(dir.path().join("certs/a.test.pem")).unwrap();
    issue(&[HOST]).expect(1).says(&["a.test-key.pem is there already"]);
    assert_eq!(dir.read("certs/a.test-key.pem"), key);
    dir.mode("certs/a.test-key.pem", 0o644);
    issue(&["--force", HOST]).expect(0);
    assert_ne!(dir.read("certs/a.test-key.pem"), key);
    assert_private(&dir, "certs/a.test-key.pem");
    load(HOST).unwrap();

    issue(&["--as", "node-b", "*.pods.test"]).expect(0);
    assert_eq!(load("node-b").unwrap().names(), ["*.pods.test"]);
    issue(&["::1"]).expect(0).says(&["ip6--1.pem"]);
    issue(&[]).expect(2);
    issue(&["two words"]).expect(2).says(&["\"two words\" cannot be covered", "white space"]);
    issue(&["--as", "ca", HOST]).expect(2).says(&["overwrite ca.pem"]);
    issue(&["--as", "../b", HOST]).expect(2);
}

#[test]
fn show_says_what_is_in_a_certificate() {
    let dir = Dir::new();
    let ca = set(&dir);
    let identity = ca.identity(&["b.test", "::1"]).unwrap();
    let issued = ca.issue(&["b.test", "::1"]).unwrap();
    dir.write("b.pem", issued.chain.clone() + ca.certificate());
    dir.write("three.pem", "no PEM at all");
    drop(identity);
    let shown = run(dir.path(), &["certs", "show", "cert.pem", "b.pem"]).expect(0);
    let fingerprint = load(&dir).fingerprint();
    let shown = shown.says(&[
        "cert.pem subject CN=a.test issuer CN=the CA, OU=development CA",
        "names a.test",
        "valid until 20",
        "days left)",
        "ECDSA, P-256",
        "digitalSignature, serverAuth, clientAuth",
        &fingerprint,
        "b.pem, certificate 1",
        "names b.test, ::1",
        "b.pem, certificate 2",
        "CA yes",
    ]);
    assert_eq!(shown.out.matches("CA        no").count(), 2);

    let shown = run(dir.path(), &["certs", "show", "--json", "cert.pem", "b.pem"]).expect(0).json();
    assert_eq!(shown[0]["file"], "cert.pem");
    let first = &shown[0]["certificates"][0];
    assert_eq!(first["sha256"], *fingerprint);
    assert_eq!(first["names"], serde_json::json!([HOST]));
    assert_eq!(first["ca"], false);
    assert!((28..=30).contains(&first["days_left"].as_i64().unwrap()));
    assert!(first["not_after"].as_str().unwrap().ends_with('Z'));
    assert_eq!(shown[1]["certificates"].as_array().unwrap().len(), 2);

    // One that cannot be shown does not keep the others from it.
    run(dir.path(), &["certs", "show", "key.pem", "three.pem", "four.pem", "cert.pem"])
        .expect(1)
        .says(&[
            "key.pem has no CERTIFICATE, but PRIVATE KEY",
            "three.pem is not a PEM file",
            "four.pem cannot be read",
            "CN=a.test",
        ]);
    let shown = run(dir.path(), &["certs", "show", "--json", "three.pem"]).expect(1).json();
    assert!(shown[0]["problem"].as_str().unwrap().contains("not a PEM file"));
    run(dir.path(), &["certs", "show"]).expect(2);
}

#[test]
fn a_good_set_is_good() {
    let dir = Dir::new();
    set(&dir);
    let good = check(&dir, &[]).expect(0).says(&["A node can work with these."]);
    assert!(!good.out.contains('✗') && good.err.is_empty());
    check(&dir, &["--name", HOST, "--name", "A.test"]).expect(0).says(&["a.test is covered"]);
    let report = check(&dir, &["--json"]).expect(0).json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["certificate"]["names"], serde_json::json!([HOST]));
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 6 && checks.iter().all(|check| check["result"] == "good"));

    run(dir.path(), &["certs", "init"]).expect(0);
    run(dir.path(), &["certs", "check"]).expect(2).says(&["no certificate in certs"]);
    run(dir.path(), &["certs", "issue", "a.test"]).expect(0);
    run(dir.path(), &["certs", "check"]).expect(0);
    run(dir.path(), &["certs", "issue", "b.test"]).expect(0);
    run(dir.path(), &["certs", "check"]).expect(2).says(&["a.test, b.test", "--as"]);
    run(dir.path(), &["certs", "check", "--as", "b.test"]).expect(0);
    run(dir.path(), &["certs", "check", "--certs", "nowhere"]).expect(2).says(&["nowhere"]);
    run(dir.path(), &["certs", "check", "--ca", "ca.pem"]).expect(2);
}

#[test]
fn a_key_of_another_certificate() {
    let dir = Dir::new();
    let ca = set(&dir);
    let other = ca.issue(&[HOST]).unwrap();
    dir.write("key.pem", &other.key);
    wrong(&dir, &[], "key", "does not belong to the certificate");
    // The chain in the wrong order.
    let first = String::from_utf8(dir.read("cert.pem")).unwrap();
    dir.write("cert.pem", first + &other.chain);
    wrong(&dir, &[], "key", "does not belong").says(&["it belongs to certificate 2 of cert.pem"]);
    dir.write("key.pem", other.key.clone() + &ca.issue(&[HOST]).unwrap().key);
    wrong(&dir, &[], "key", "has 2 private keys");
    dir.write("key.pem", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n");
    wrong(&dir, &[], "key", "cannot be used");
}

#[test]
fn a_certificate_of_another_ca() {
    let dir = Dir::new();
    let ca = set(&dir);
    let other = DevCa::new("other").unwrap();
    dir.write("ca.pem", other.certificate());
    wrong(&dir, &[], "issuer", "not signed by a CA of ca.pem")
        .says(&["its issuer is CN=the CA,", "the bundle has CN=other,"]);
    // Both, as while a cluster moves to another.
    dir.write("ca.pem", other.certificate().to_owned() + ca.certificate());
    check(&dir, &[]).expect(0);
    // Of the same name.
    let (first, second) = (namesake(), namesake());
    dir.write("ca.pem", &first.0);
    write_issued(&dir, &second.1, |_| {});
    wrong(&dir, &[], "issuer", "the name is the same");
    dir.write("ca.pem", &second.0);
    check(&dir, &[]).expect(0);
    // A wrong issuer is found beside dates and usages that are wrong too.
    let options = DevCertOptions {
        not_before: SystemTime::now() - 2 * DAY,
        not_after: SystemTime::now() - DAY,
        client_auth: false,
        ..DevCertOptions::default()
    };
    set_with(&dir, &ca, &options);
    dir.write("ca.pem", other.certificate());
    let report = check(&dir, &["--json"]).expect(1).json();
    assert_eq!(wrongs(&report), ["issuer", "dates", "usages"]);
    check(&dir, &[]).expect(1).says(&["✗ issuer not signed by a CA of ca.pem"]);
}

#[test]
fn an_intermediate_is_part_of_the_chain() {
    let dir = Dir::new();
    let (root, issuer) = namesake();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = ca_params("the intermediate");
    let intermediate = params.clone().signed_by(&key, &issuer).unwrap().pem();
    write_issued(&dir, &rcgen::Issuer::new(params.clone(), key), |_| {});
    dir.write("ca.pem", &root);
    wrong(&dir, &[], "issuer", "not signed").says(&["if there is an intermediate, add it"]);
    let leaf = String::from_utf8(dir.read("cert.pem")).unwrap();
    dir.write("cert.pem", leaf + &intermediate);
    check(&dir, &[]).expect(0);
    // It may expire before the node's does.
    let key = rcgen::KeyPair::generate().unwrap();
    params.not_after = (SystemTime::now() - DAY).into();
    let intermediate = params.clone().signed_by(&key, &issuer).unwrap().pem();
    write_issued(&dir, &rcgen::Issuer::new(params, key), |_| {});
    let leaf = String::from_utf8(dir.read("cert.pem")).unwrap();
    dir.write("cert.pem", leaf + &intermediate);
    check(&dir, &[]).expect(1).says(&["certificate 2, the intermediate", "expired on"]);
}

#[test]
fn dates() {
    let dir = Dir::new();
    let ca = set(&dir);
    let now = SystemTime::now();
    let dates = |from, until| {
        let options =
            DevCertOptions { not_before: from, not_after: until, ..DevCertOptions::default() };
        set_with(&dir, &ca, &options);
    };
    dates(now - 9 * DAY, now - 3 * DAY - DAY / 2);
    wrong(&dir, &[], "dates", "expired on").says(&["3 days ago", "issue it again"]);
    dates(now + DAY / 2 + DAY / 48, now + 9 * DAY);
    wrong(&dir, &[], "dates", "not yet valid").says(&["in 12 hours", "clock"]);
    dates(now - DAY, now + 2 * DAY + DAY / 2);
    check(&dir, &[]).expect(0).says(&["· dates", "2 days left", "renew"]);
}

#[test]
fn usages() {
    let dir = Dir::new();
    let ca = set(&dir);
    let usages = |server_auth, client_auth| {
        let options = DevCertOptions { server_auth, client_auth, ..DevCertOptions::default() };
        set_with(&dir, &ca, &options);
    };
    usages(true, false);
    wrong(&dir, &[], "usages", "lacks clientAuth").says(&["✓ issuer"]);
    usages(false, true);
    wrong(&dir, &[], "usages", "lacks serverAuth").says(&["✓ issuer"]);
    usages(false, false); // leaves the extension out, which allows both
    check(&dir, &[]).expect(0);
    let (root, issuer) = namesake();
    dir.write("ca.pem", root);
    write_issued(&dir, &issuer, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    });
    wrong(&dir, &[], "usages", "lacks serverAuth and clientAuth");
}

#[test]
fn names() {
    let dir = Dir::new();
    set(&dir);
    wrong(&dir, &["--name", "b.test"], "names", "b.test is not covered, only a.test");
    check(&dir, &["--name", "b.test", "--name", HOST]).expect(1).says(&["a.test is covered"]);
    let (root, issuer) = namesake();
    dir.write("ca.pem", root);
    write_issued(&dir, &issuer, |params| params.subject_alt_names.clear());
    wrong(&dir, &[], "names", "no subject alternative name").says(&["common name does not count"]);
    let names = ["*.pods.test".to_owned(), "192.0.2.7".into(), "fe80::1".into()];
    write_issued(&dir, &issuer, |params| {
        params.subject_alt_names = rcgen::CertificateParams::new(names).unwrap().subject_alt_names;
    });
    check(&dir, &["--name", "x.pods.test", "--name", "192.0.2.7", "--name", "[fe80::1]"]).expect(0);
    wrong(&dir, &["--name", "x.y.pods.test"], "names", "x.y.pods.test is not covered");
    wrong(&dir, &["--name", "two words"], "names", "two words is not covered");
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let dir = Dir::new();
    let ca = set(&dir);
    let good = ["cert.pem", "key.pem", "ca.pem"].map(|file| dir.read(file));
    for (file, what) in [("cert.pem", "cert"), ("key.pem", "key"), ("ca.pem", "CA")] {
        let before = dir.read(file);
        dir.write(file, "not at all");
        wrong(&dir, &[], what, &format!("{file} is not a PEM file"));
        dir.write(file, &before[..before.len() / 2]);
        wrong(&dir, &[], what, "no end line");
        for der in [&[0x30, 0x82, 1, 2, 3][..], &[0x30, 0x81, 2, 3], &[0x30, 3, 2, 1, 0]] {
            dir.write(file, der);
            wrong(&dir, &[], what, "is DER").says(&["openssl"]);
        }
        std::fs::remove_file(dir.path().join(file)).unwrap();
        wrong(&dir, &[], what, "cannot be read");
        dir.write(file, before);
    }
    dir.write("cert.pem", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    wrong(&dir, &[], "cert", "is malformed");
    dir.write("cert.pem", &good[0]);
    dir.write(
        "key.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    wrong(&dir, &[], "key", "passphrase").says(&["openssl pkey"]);
    dir.write("key.pem", &good[1]);
    // The CA's certificate where the node's should be, and the other way round.
    dir.write("cert.pem", ca.certificate());
    check(&dir, &[]).expect(1).says(&["begins with a CA's certificate"]);
    dir.write("cert.pem", &good[0]);
    dir.write("ca.pem", &good[0]);
    wrong(&dir, &[], "CA", "is no CA's certificate");
}

#[test]
fn files_that_are_exchanged() {
    let dir = Dir::new();
    set(&dir);
    let files = ["cert.pem", "key.pem", "ca.pem"];
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let [cert, key, ca] = order.map(|n| files[n]);
        let args = ["certs", "check", "--cert", cert, "--key", key, "--ca", ca];
        run(dir.path(), &args).expect(1).says(&[
            "the files are exchanged: cert.pem is the node's certificate, key.pem the private key, \
             ca.pem the CA",
            "--cert cert.pem --key key.pem --ca ca.pem",
            "One thing is wrong.",
        ]);
    }
}

#[cfg(unix)]
#[test]
fn a_private_key_that_others_can_read() {
    let dir = Dir::new();
    set(&dir);
    for mode in [0o604, 0o644, 0o660, 0o602, 0o620] {
        dir.mode("key.pem", mode);
        wrong(&dir, &[], "key", &format!("(mode {mode:04o})")).says(&["chmod 600 key.pem"]);
    }
    for mode in [0o640, 0o440] {
        dir.mode("key.pem", mode);
        check(&dir, &[])
            .expect(0)
            .says(&[&format!("· key key.pem can be read by its group (mode {mode:04o})")]);
    }
    dir.mode("key.pem", 0o400);
    assert!(!check(&dir, &[]).expect(0).out.contains("group"));
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let dir = Dir::new();
    let ca = set(&dir);
    let now = SystemTime::now();
    let options = DevCertOptions {
        not_before: now - 2 * DAY,
        not_after: now - DAY,
        server_auth: false,
        client_auth: true,
    };
    set_with(&dir, &ca, &options);
    dir.write("ca.pem", DevCa::new("other").unwrap().certificate());
    dir.write("key.pem", &ca.issue(&[HOST]).unwrap().key);
    let report = check(&dir, &["--json", "--name", "b.test"]).expect(1).json();
    assert_eq!(report["ok"], false);
    assert_eq!(wrongs(&report), ["key", "issuer", "dates", "usages", "names"]);
    check(&dir, &["--name", "b.test"]).expect(1).says(&["5 things are wrong."]);
}

/// A good set, `cert.pem`, `key.pem`, `ca.pem`; returns its CA.
fn set(dir: &Dir) -> DevCa {
    let ca = DevCa::new("the CA").unwrap();
    set_with(dir, &ca, &DevCertOptions::default());
    ca
}

fn set_with(dir: &Dir, ca: &DevCa, options: &DevCertOptions) {
    let issued = ca.issue_with(&[HOST], options).unwrap();
    dir.write("cert.pem", &issued.chain);
    dir.write("key.pem", &issued.key);
    dir.write("ca.pem", ca.certificate());
}

fn load(dir: &Dir) -> Identity {
    let [cert, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(|file| dir.path().join(file));
    Identity::from_pem_files(cert, key, ca).unwrap()
}

/// A CA whose name does not depend on its key, unlike those of [`DevCa`].
fn namesake() -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = ca_params("namesake");
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, rcgen::Issuer::new(params, key))
}

fn ca_params(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
}

/// Writes a certificate and its key, but for what `change` changes a good one.
fn write_issued(
    dir: &Dir,
    issuer: &rcgen::Issuer<'_, rcgen::KeyPair>,
    change: impl FnOnce(&mut rcgen::CertificateParams),
) {
    let mut params = rcgen::CertificateParams::new([HOST.to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    change(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    dir.write("cert.pem", params.signed_by(&key, issuer).unwrap().pem());
    dir.write("key.pem", key.serialize_pem());
}

#[track_caller]
fn check(dir: &Dir, more: &[&str]) -> Ran {
    let files = ["certs", "check", "--cert", "cert.pem", "--key", "key.pem", "--ca", "ca.pem"];
    run(dir.path(), &[&files, more].concat())
}

/// One thing is wrong, and this is it: in words, and in JSON.
#[track_caller]
fn wrong(dir: &Dir, more: &[&str], what: &str, text: &str) -> Ran {
    let report = check(dir, &[&["--json"], more].concat()).expect(1).json();
    assert_eq!(report["ok"], false);
    assert_eq!(wrongs(&report), [what], "{report:#}");
    check(dir, more).expect(1).says(&[text, "One thing is wrong."])
}

fn wrongs(report: &serde_json::Value) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap();
    let wrong = checks.iter().filter(|check| check["result"] == "wrong");
    wrong.map(|check| check["what"].as_str().unwrap().to_owned()).collect()
}

#[cfg(unix)]
#[track_caller]
fn assert_private(dir: &Dir, file: &str) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{file}");
}

#[cfg(not(unix))]
fn assert_private(_: &Dir, _: &str) {}
