//! `certs check`: all that is wrong with a certificate, its key and a CA bundle.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use cluster_quic::Identity;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::contents::{Contents, Kind};
use super::trust::{self, Trust};
use crate::certificate::Description;
use crate::failure::Failure;
use crate::identity::Files;
use crate::report::{Line, json};

/// Before it expires by this much, that is worth a word.
const SOON: Duration = Duration::from_secs(7 * 86_400);

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    checks: &'a [Line],
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Description>,
}

pub(super) fn run(files: &Files, names: &[String], as_json: bool) -> Result<(), Failure> {
    let now = SystemTime::now();
    let read = [&files.cert, &files.key, &files.ca].map(|path| Contents::read(path));
    let mut lines = Vec::new();
    let (cert, key, ca) = in_order(read, now, &mut lines);
    let leaf = check(&cert, &key, &ca, names, now, &mut lines);
    if lines.iter().all(|line| !line.is_wrong()) {
        // The judgement that counts is the library's own.
        let loaded = Identity::from_pem_files(&cert.path, &key.path, &ca.path);
        if let Err(error) = loaded {
            lines.push(Line::wrong("node", format!("a node refuses them: {error}")));
        }
    }
    let ok = lines.iter().all(|line| !line.is_wrong());
    let out = &mut io::stdout().lock();
    if as_json {
        json(out, &Report { ok, checks: &lines, certificate: leaf })?;
    } else {
        for line in &lines {
            line.print(out)?;
        }
        match lines.iter().filter(|line| line.is_wrong()).count() {
            0 => writeln!(out, "\nA node can work with these.")?,
            1 => writeln!(out, "\nOne thing is wrong.")?,
            n => writeln!(out, "\n{n} things are wrong.")?,
        }
    }
    if ok { Ok(()) } else { Err(Failure::Told) }
}

/// The certificate, the key and the CA bundle, whichever option they were given to.
fn in_order(
    [cert, key, ca]: [Contents; 3],
    now: SystemTime,
    lines: &mut Vec<Line>,
) -> (Contents, Contents, Contents) {
    let kinds = [&cert, &key, &ca].map(|contents| contents.kind(now));
    if kinds == [Kind::Node, Kind::Key, Kind::Ca] {
        return (cert, key, ca);
    }
    let place = |kind| kinds.iter().position(|k| *k == kind);
    let (Some(node), Some(private), Some(bundle)) =
        (place(Kind::Node), place(Kind::Key), place(Kind::Ca))
    else {
        return (cert, key, ca);
    };
    let mut given = [Some(cert), Some(key), Some(ca)];
    let mut take = |n: usize| given[n].take();
    let (Some(cert), Some(key), Some(ca)) = (take(node), take(private), take(bundle)) else {
        unreachable!("three kinds in three places");
    };
    let text = format!(
        "the files are exchanged: {} is the node's certificate, {} the private key, {} the CA",
        cert.name(),
        key.name(),
        ca.name()
    );
    let hint = format!("--cert {} --key {} --ca {}", cert.name(), key.name(), ca.name());
    lines.push(Line::wrong("files", text).hint(hint));
    (cert, key, ca)
}

/// Adds a line for everything looked at; returns what the node's certificate says.
fn check(
    cert: &Contents,
    key: &Contents,
    ca: &Contents,
    names: &[String],
    now: SystemTime,
    lines: &mut Vec<Line>,
) -> Option<Description> {
    let leaf = check_chain(cert, now, lines);
    check_key(key, cert, leaf.is_some(), lines);
    let roots = check_bundle(ca, now, lines);
    let leaf = leaf?;
    if leaf.ca {
        return Some(leaf);
    }
    if let Some(roots) = roots {
        // At a time when it is valid, so that its dates do not hide who signed it.
        let at = now.clamp(leaf.from, leaf.until);
        let trust = trust::trust(&cert.certificates, roots, at);
        lines.push(signature(trust, &leaf, cert, ca, now));
    }
    lines.push(dates(&leaf, now));
    check_usages(&leaf, lines);
    check_names(&leaf, &cert.certificates[0], names, lines);
    Some(leaf)
}

fn check_chain(cert: &Contents, now: SystemTime, lines: &mut Vec<Line>) -> Option<Description> {
    let wrong = |text: String| Line::wrong("cert", format!("{} {text}", cert.name()));
    let [leaf, intermediates @ ..] = &cert.certificates[..] else {
        let line = wrong(cert.instead("CERTIFICATE"));
        lines.push(hinted(line, cert.hint()));
        return None;
    };
    for (position, der) in (2..).zip(intermediates) {
        match Description::of(der, now) {
            Err(error) => {
                lines.push(wrong(format!("certificate {position} is malformed: {error}")))
            }
            Ok(other) if !other.is_current() => lines.push(wrong(format!(
                "certificate {position}, the intermediate {}, is {}",
                other.subject,
                other.validity()
            ))),
            Ok(_) => {}
        }
    }
    match Description::of(leaf, now) {
        Err(error) => {
            lines.push(wrong(format!("is malformed: {error}")));
            None
        }
        Ok(leaf) if leaf.ca => {
            let line = wrong(format!("begins with a CA's certificate, {}", leaf.subject));
            lines.push(line.hint(
                "the node's own certificate comes first, then intermediates; the CA goes to --ca",
            ));
            Some(leaf)
        }
        Ok(leaf) => {
            lines.push(Line::good("cert", format!("{}: {}", cert.name(), leaf.subject)));
            Some(leaf)
        }
    }
}

/// `readable`: the certificate is, so that a key can belong to it.
fn check_key(key: &Contents, cert: &Contents, readable: bool, lines: &mut Vec<Line>) {
    let wrong = |text: String| Line::wrong("key", format!("{} {text}", key.name()));
    lines.extend(key.mode.and_then(|mode| access(key, mode)));
    let private = match &key.keys[..] {
        _ if key.encrypted => {
            let line = wrong("is protected by a passphrase".into());
            lines.push(line.hint(format!(
                "decrypt it: openssl pkey -in {} -out DECRYPTED, and let the node alone read that",
                key.name()
            )));
            return;
        }
        [] => {
            lines.push(hinted(wrong(key.instead("PRIVATE KEY")), key.hint()));
            return;
        }
        [private] => private,
        several => {
            lines.push(wrong(format!("has {} private keys: a node takes one", several.len())));
            return;
        }
    };
    let Some(leaf) = cert.certificates.first().filter(|_| readable) else { return };
    match trust::belongs(private, leaf) {
        Err(error) => lines.push(wrong(format!("cannot be used: {error}"))),
        Ok(true) => {
            lines.push(Line::good("key", format!("{} belongs to the certificate", key.name())));
        }
        Ok(false) => {
            let of = |der| trust::belongs(private, der) == Ok(true);
            let line = wrong("does not belong to the certificate".into());
            lines.push(match cert.certificates.iter().position(of) {
                Some(n) => line.hint(format!(
                    "it belongs to certificate {} of {}: the node's own comes first",
                    n + 1,
                    cert.name()
                )),
                None => line.hint("take the key that was made with this certificate's request"),
            });
        }
    }
}

/// Who else than its owner can read or write a private key, by Unix permission bits.
fn access(key: &Contents, mode: u32) -> Option<Line> {
    let name = key.name();
    if mode & 0o027 != 0 {
        let text =
            format!("{name} can be read or written by others than its owner (mode {mode:04o})");
        return Some(Line::wrong("key", text).hint(format!("chmod 600 {name}")));
    }
    // As Kubernetes mounts a secret for a process that is not root (fsGroup).
    (mode & 0o040 != 0).then(|| {
        let text = format!("{name} can be read by its group (mode {mode:04o})");
        Line::note("key", text).hint("see that the node alone is in that group")
    })
}

/// The CAs to trust, if there are any.
fn check_bundle(ca: &Contents, now: SystemTime, lines: &mut Vec<Line>) -> Option<RootCertStore> {
    let wrong = |text: String| Line::wrong("CA", format!("{} {text}", ca.name()));
    if ca.certificates.is_empty() {
        lines.push(hinted(wrong(ca.instead("CERTIFICATE")), ca.hint()));
        return None;
    }
    let mut roots = RootCertStore::empty();
    for (position, der) in (1..).zip(&ca.certificates) {
        match Description::of(der, now) {
            Err(error) => {
                lines.push(wrong(format!("certificate {position} is malformed: {error}")))
            }
            Ok(other) if !other.ca => lines.push(
                wrong(format!("holds {}, which is no CA's certificate", other.subject))
                    .hint("the bundle takes the certificates of CAs, not of nodes"),
            ),
            Ok(other) => {
                if !other.is_current() {
                    let text = format!("{} is {}", other.subject, other.validity());
                    lines.push(Line::note("CA", text).hint(
                        "nodes do not look at a CA's dates: it is trusted while it is in the bundle",
                    ));
                }
                if let Err(error) = roots.add(der.clone()) {
                    lines.push(wrong(format!("{} cannot be used: {error}", other.subject)));
                }
            }
        }
    }
    (!roots.is_empty()).then_some(roots)
}

fn signature(
    trust: Trust,
    leaf: &Description,
    cert: &Contents,
    ca: &Contents,
    now: SystemTime,
) -> Line {
    let bundle: Vec<_> = ca.certificates.iter().map(|der| Description::of(der, now)).collect();
    let bundle: Vec<_> = bundle.into_iter().flatten().map(|ca| ca.subject).collect();
    match trust {
        Trust::Signed => Line::good("issuer", format!("signed by {}", leaf.issuer)),
        Trust::UnknownIssuer => {
            let text = format!(
                "not signed by a CA of {}: its issuer is {}, the bundle has {}",
                ca.name(),
                leaf.issuer,
                bundle.join("; ")
            );
            Line::wrong("issuer", text).hint(format!(
                "take that issuer's certificate as --ca, or have the certificate issued by the \
                 bundle's CA; if there is an intermediate, add it to {}",
                cert.name()
            ))
        }
        Trust::BadSignature => {
            let text = format!(
                "not signed by the CA of {}: the name is the same, {}, but the key is another",
                ca.name(),
                leaf.issuer
            );
            Line::wrong("issuer", text)
                .hint("most often the CA was made anew; issue the certificate again under it")
        }
        Trust::Unclear => Line::note("issuer", "not looked at, for what is wrong with the usages"),
        Trust::Other(text) => Line::wrong("issuer", format!("peers refuse it: {text}")),
    }
}

fn dates(leaf: &Description, now: SystemTime) -> Line {
    if now < leaf.from {
        return Line::wrong("dates", format!("not yet valid: {}", leaf.validity()))
            .hint("wait, or look at this machine's clock");
    }
    if now > leaf.until {
        return Line::wrong("dates", leaf.validity())
            .hint("issue it again (`certs issue --force` for a development certificate)");
    }
    if leaf.until < now + SOON {
        return Line::note("dates", leaf.validity())
            .hint("renew it; a running node takes a new one without a restart");
    }
    Line::good("dates", leaf.validity())
}

fn check_usages(leaf: &Description, lines: &mut Vec<Line>) {
    let has = |usage: &str| leaf.usages.iter().any(|u| u == usage);
    // anyExtendedKeyUsage does not count: peers look for the very usage.
    let missing: Vec<_> = ["serverAuth", "clientAuth"]
        .into_iter()
        .filter(|usage| leaf.extended && !has(usage))
        .collect();
    lines.push(match &missing[..] {
        [] => Line::good("usages", "for dialling and for being dialled"),
        missing => {
            let text = format!("its extended key usage lacks {}", missing.join(" and "));
            Line::wrong("usages", text).hint(
                "a node dials and is dialled with one certificate: it needs serverAuth and \
                 clientAuth, or no extended key usage at all",
            )
        }
    });
}

fn check_names(
    leaf: &Description,
    der: &CertificateDer<'_>,
    names: &[String],
    lines: &mut Vec<Line>,
) {
    if leaf.names.is_empty() {
        lines.push(
            Line::wrong("names", "it has no subject alternative name, so no peer can dial it").hint(
                "issue it with the host that the node advertises; the common name does not count",
            ),
        );
    } else if names.is_empty() {
        lines.push(Line::good("names", leaf.names.join(", ")));
    }
    for name in names {
        lines.push(if trust::covers(der, name) {
            Line::good("names", format!("{name} is covered"))
        } else {
            Line::wrong("names", format!("{name} is not covered, only {}", leaf.names_text()))
                .hint(format!("advertise one of those, or issue it again with {name}"))
        });
    }
}

fn hinted(line: Line, hint: Option<&str>) -> Line {
    match hint {
        Some(hint) => line.hint(hint),
        None => line,
    }
}
