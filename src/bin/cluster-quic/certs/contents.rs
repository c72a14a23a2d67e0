//! What a PEM file holds, whatever it was meant to hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate::Description;

/// A file, taken apart.
pub(super) struct Contents {
    pub(super) path: PathBuf,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) keys: Vec<PrivateKeyDer<'static>>,
    /// A private key that is protected by a passphrase.
    pub(super) encrypted: bool,
    /// The labels of its PEM blocks, each once.
    labels: Vec<String>,
    der: bool,
    /// Why it, or a block of it, cannot be read.
    pub(super) problem: Option<String>,
    /// Unix permission bits.
    pub(super) mode: Option<u32>,
}

/// What a file is by what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Key,
    /// A node's certificate comes first.
    Node,
    /// CA certificates alone.
    Ca,
    Other,
}

impl Contents {
    pub(super) fn read(path: &Path) -> Self {
        let bytes = fs::read(path);
        let mut contents = Self::of(path, bytes.as_deref().unwrap_or_default());
        contents.mode = mode(path);
        if let Err(error) = bytes {
            contents.problem = Some(format!("cannot be read: {error}"));
        }
        contents
    }

    fn of(path: &Path, bytes: &[u8]) -> Self {
        let labels = labels(bytes);
        let text = String::from_utf8_lossy(bytes);
        let mut problem = None;
        let mut malformed = |error: rustls::pki_types::pem::Error| {
            problem.get_or_insert_with(|| format!("is not valid PEM: {}", pem_problem(&error)));
        };
        let certificates = CertificateDer::pem_slice_iter(bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(&mut malformed);
        let keys = PrivateKeyDer::pem_slice_iter(bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(&mut malformed);
        Self {
            path: path.to_owned(),
            certificates: certificates.unwrap_or_default(),
            keys: keys.unwrap_or_default(),
            // The second form is what OpenSSL wrote before PKCS #8: the label does not tell.
            encrypted: labels.iter().any(|label| label == "ENCRYPTED PRIVATE KEY")
                || text.contains("Proc-Type: 4,ENCRYPTED"),
            labels,
            der: is_der(bytes),
            problem,
            mode: None,
        }
    }

    pub(super) fn kind(&self, now: SystemTime) -> Kind {
        let is_ca = |der: &CertificateDer<'_>| Description::of(der, now).is_ok_and(|d| d.ca);
        match (self.certificates.is_empty(), self.keys.is_empty() && !self.encrypted) {
            (true, false) => Kind::Key,
            (false, true) if self.certificates.iter().all(is_ca) => Kind::Ca,
            (false, true) if !is_ca(&self.certificates[0]) => Kind::Node,
            _ => Kind::Other,
        }
    }

    /// What it holds where something else was expected.
    pub(super) fn instead(&self, expected: &str) -> String {
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        if self.der {
            return "is DER, the binary form, and not PEM".into();
        }
        match &self.labels[..] {
            [] => format!("is not a PEM file: it has no block of {expected}"),
            labels => format!("has no {expected}, but {}", labels.join(", ")),
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        self.der.then_some(
            "convert it with `openssl x509 -inform der -in FILE` or `openssl pkey -inform der -in \
             FILE`",
        )
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Whether it begins as certificates and keys do in DER: with a sequence, of which the length follows in
/// one of two forms.
fn is_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x81 | 0x82, ..] => true,
        // That of the shortest keys. As text it would be `0` and a letter, so it has to be the file's.
        [0x30, length, content @ ..] => *length < 0x80 && usize::from(*length) == content.len(),
        _ => false,
    }
}

fn pem_problem(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    // Two of the parser's own messages list the bytes of a line as numbers.
    match error {
        Error::MissingSectionEnd { end_marker } => {
            format!("the block {} has no end line", String::from_utf8_lossy(end_marker))
        }
        Error::IllegalSectionStart { .. } => "a BEGIN line does not end in five dashes".into(),
        error => error.to_string(),
    }
}

fn labels(bytes: &[u8]) -> Vec<String> {
    let mut labels = Vec::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let label =
            line.strip_prefix("-----BEGIN ").and_then(|l| l.trim_end().strip_suffix("-----"));
        if let Some(label) = label
            && !labels.iter().any(|known| known == label)
        {
            labels.push(crate::report::tame(label));
        }
    }
    labels
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Option<u32> {
    None
}
