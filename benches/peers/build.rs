//! The gRPC service of the benchmark, as a `.proto` file would have it, but without need of protoc; and the
//! versions of what is compared with, for the report.

use tonic_build::manual::{Builder, Method, Service};

const LOCK: &str = "../../Cargo.lock";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LOCK}");
    let lock = std::fs::read_to_string(LOCK)?;
    for (name, variable) in [("zenoh", "ZENOH"), ("tonic", "TONIC")] {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let version = lock.split_once(&entry).and_then(|(_, rest)| rest.split('"').next());
        let version = version.ok_or_else(|| format!("{LOCK} has no {name}"))?;
        println!("cargo::rustc-env={variable}={version}");
    }
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::grpc::Tell")
            .output_type("crate::grpc::Done")
            .codec_path("crate::grpc::Codec")
            .client_streaming()
            .build()
    };
    let service = Service::builder()
        .name("Node")
        .package("peers")
        .method(method("tell", "Tell"))
        .method(method("gossip", "Gossip"))
        .build();
    Builder::new().compile(&[service]);
    Ok(())
}
