//! The oldest Rust that is claimed to do (`rust-version`), against what the dependencies claim.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// `1.88` as `[1, 88, 0]`.
fn version(text: &str) -> [u32; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// Whatever the features and the system, and for tests and benchmarks as well.
#[test]
#[ignore = "asks cargo for all there are, which it has to download: run by .ci/run"]
fn no_dependency_needs_a_newer_rust_than_is_claimed() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--all-features", "--format-version", "1"]);
    let output = cargo.arg("--manifest-path").arg(manifest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let claimed = version(env!("CARGO_PKG_RUST_VERSION"));

    let (mut silent, mut newer) = (0, Vec::new());
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        match package["rust_version"].as_str() {
            Some(needs) if version(needs) > claimed => {
                let name = package["name"].as_str().unwrap();
                newer.push(format!("{name} {}: {needs}", package["version"].as_str().unwrap()));
            }
            Some(_) => {}
            None => silent += 1,
        }
    }
    println!("{} packages, of which {silent} do not say", packages.len());
    assert!(packages.len() > 200, "{}", packages.len());
    assert!(newer.is_empty(), "{newer:#?}");
}
