//! Makes certificates for a cluster on your own machine.
//!
//! ```text
//! cargo run --example dev_certs
//! cargo run --example dev_certs -- --dir certs node-a=localhost,127.0.0.1,::1 node-b=b.test
//! ```
//!
//! The first run makes a CA, later ones issue under the same CA. See `certs/README.md`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use cluster_quic::{DevCa, DevCertError, DevFiles, Identity};
use time::OffsetDateTime;

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(Some(request)) => request,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("dev_certs: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dev_certs: {error}");
            match error.downcast_ref() {
                Some(DevCertError::Name { .. } | DevCertError::NodeName { .. }) => {
                    ExitCode::from(2)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

const USAGE: &str = "\
usage: dev_certs [--dir DIR] [NODE=NAME[,NAME...]]...

  --dir DIR   where the certificates go; certs if not given
  NODE        becomes the name of the files NODE.pem and NODE-key.pem
  NAME        a DNS name or IP address under which other nodes dial this one

Without nodes: node-a and node-b, both for localhost,127.0.0.1,::1.";

struct Request {
    dir: PathBuf,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    covers: Vec<String>,
}

impl Request {
    /// `None` if help was asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut dir = PathBuf::from("certs");
        let mut nodes: Vec<Node> = Vec::new();
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                return Ok(None);
            } else if argument == "--dir" {
                dir = arguments.next().ok_or("--dir needs a folder")?.into();
            } else if let Some(value) = argument.strip_prefix("--dir=") {
                dir = value.into();
            } else if argument.starts_with('-') {
                return Err(format!("there is no option {argument}"));
            } else {
                let node = Node::parse(&argument)?;
                if nodes.iter().any(|other| other.name == node.name) {
                    return Err(format!("{} is given twice", node.name));
                }
                nodes.push(node);
            }
        }
        if dir.as_os_str().is_empty() {
            return Err("--dir needs a folder".to_owned());
        }
        if nodes.is_empty() {
            for node in ["node-a", "node-b"] {
                nodes.push(Node {
                    name: node.to_owned(),
                    covers: ["localhost", "127.0.0.1", "::1"].map(String::from).into(),
                });
            }
        }
        Ok(Some(Self { dir, nodes }))
    }
}

impl Node {
    fn parse(argument: &str) -> Result<Self, String> {
        let Some((name, covers)) = argument.split_once('=') else {
            return Err(format!("{argument:?} is not of the form NODE=NAME[,NAME...]"));
        };
        if covers.is_empty() {
            return Err(format!("{name}= needs at least one name after it"));
        }
        Ok(Self { name: name.to_owned(), covers: covers.split(',').map(String::from).collect() })
    }
}

fn run(request: &Request) -> Result<(), Box<dyn Error>> {
    let ca = DevCa::load_or_create(&request.dir)?;
    // A bad name is found before the first file of any node is written.
    for node in &request.nodes {
        ca.issue(&node.covers)?;
    }
    let mut written = Vec::new();
    for node in &request.nodes {
        let files = ca.write_to(&request.dir, &node.name, &node.covers)?;
        // What was written is what a node will load.
        Identity::from_pem_files(&files.certificate, &files.private_key, &files.ca)?;
        written.push((node.name.as_str(), files));
    }
    print(request, &ca, &written);
    Ok(())
}

fn print(request: &Request, ca: &DevCa, written: &[(&str, DevFiles)]) {
    let width = |texts: &mut dyn Iterator<Item = usize>, title: &str| {
        texts.chain([title.len()]).max().unwrap_or_default()
    };
    let node = width(&mut written.iter().map(|(name, _)| name.len()), "node");
    let file = width(&mut written.iter().map(|(name, _)| name.len() * 2 + 14), "files");
    println!("Written to {}:\n", request.dir.display());
    println!("{:node$}  {:file$}  {:10}  covers", "node", "files", "expires");
    for (name, files) in written {
        let expires = OffsetDateTime::from(files.not_after).date();
        let both = format!("{name}.pem, {name}-key.pem");
        let covers = files.names.join(", ");
        println!("{name:node$}  {both:file$}  {expires}  {covers}");
    }
    println!(
        "\nCA bundle of every node: {} (expires {})",
        request.dir.join("ca.pem").display(),
        OffsetDateTime::from(ca.not_after()).date()
    );
    println!(
        "These are development certificates. The CA's key lies unencrypted beside them: \
         do not use them in production."
    );
}
