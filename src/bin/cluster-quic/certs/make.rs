//! `certs init` and `certs issue`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use cluster_quic::{DevCa, DevCertError, Identity};

use crate::certificate::day;
use crate::failure::Failure;
use crate::identity::Files;

pub(super) fn init(dir: &Path, name: &str, force: bool) -> Result<(), Failure> {
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
    let present = [&certificate, &key].into_iter().find(|file| file.symlink_metadata().is_ok());
    if let (Some(file), false) = (present, force) {
        return Err(Failure::wrong(format!(
            "{} is there already, and nothing was changed. `certs issue` issues under a CA that \
             exists; --force makes a new one, to which nodes with certificates of the old one are \
             strangers",
            file.display()
        )));
    }
    // Made before the old one is removed: a name that cannot be used costs nothing.
    let ca = DevCa::new(name).map_err(failure)?;
    for file in [&certificate, &key] {
        remove(file)?;
    }
    ca.save_to(dir).map_err(failure)?;
    let out = &mut io::stdout().lock();
    writeln!(out, "A development CA, valid until {}:", day(ca.not_after()))?;
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let width = key.len();
    writeln!(out, "  {certificate:width$}  its certificate: the CA bundle of every node")?;
    writeln!(out, "  {key}  its key, for `certs issue` alone: keep it to yourself")?;
    writeln!(out, "\nNext, for a node on this machine:")?;
    let folder = folder_option(dir);
    writeln!(out, "  cluster-quic certs issue{folder} localhost 127.0.0.1 ::1")?;
    Ok(())
}

pub(super) fn issue(
    dir: &Path,
    name: Option<&str>,
    hosts: &[String],
    force: bool,
) -> Result<(), Failure> {
    let ca = DevCa::load(dir).map_err(failure)?.ok_or_else(|| {
        Failure::wrong(format!(
            "{} holds no CA: make one with `cluster-quic certs init{}`",
            dir.display(),
            folder_option(dir)
        ))
    })?;
    // A host that cannot be covered is told of as such, and not as the name of a file.
    ca.issue(hosts).map_err(failure)?;
    let name = name.map_or_else(|| file_name(&hosts[0]), str::to_owned);
    let files =
        if force { ca.write_to(dir, &name, hosts) } else { ca.write_new_to(dir, &name, hosts) };
    let files = files.map_err(|error| match error {
        DevCertError::File { path, source, .. }
            if source.kind() == io::ErrorKind::AlreadyExists =>
        {
            Failure::wrong(format!(
                "{} is there already, and nothing was changed: --force replaces it, --as NAME \
                 gives this one another name",
                path.display()
            ))
        }
        error => failure(error),
    })?;
    // What was written is what a node will load.
    Identity::from_pem_files(&files.certificate, &files.private_key, &files.ca)
        .map_err(Failure::wrong)?;
    let out = &mut io::stdout().lock();
    writeln!(out, "A certificate for {}", files.names.join(", "))?;
    writeln!(out, "valid until {}:", day(files.not_after))?;
    let Files { cert, key, ca } = Files::within(dir, &name);
    writeln!(out, "  --cert {}", cert.display())?;
    writeln!(out, "  --key  {} (readable by you alone)", key.display())?;
    writeln!(out, "  --ca   {}", ca.display())?;
    Ok(())
}

fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::wrong(format!("{} cannot be removed: {error}", file.display())))
        }
        _ => Ok(()),
    }
}

/// The files' name for a host: of what a file's name may have.
fn file_name(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let host = host.replace("*.", "any.").replace(':', "-");
    // `::1`.
    if host.starts_with('-') { format!("ip6{host}") } else { host }
}

/// How the folder is named in a command, if it has to be.
fn folder_option(dir: &Path) -> String {
    if dir == Path::new(crate::identity::CERTS) {
        String::new()
    } else {
        format!(" --certs {}", dir.display())
    }
}

fn failure(error: DevCertError) -> Failure {
    match error {
        DevCertError::Name { .. }
        | DevCertError::NodeName { .. }
        | DevCertError::CaName { .. }
        | DevCertError::NoNames => Failure::usage(error),
        error => Failure::wrong(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_files() {
        let names = ["node-a.lan", "192.0.2.7", "::1", "[fe80::1]", "*.pods.test"].map(file_name);
        assert_eq!(names, ["node-a.lan", "192.0.2.7", "ip6--1", "fe80--1", "any.pods.test"]);
    }
}
