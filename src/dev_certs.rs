//! Certificates for development and tests.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use std::{fmt, process};

use aws_lc_rs::{digest, rand};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::DnsName;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, Pem};

use crate::tls::{Identity, IdentityError, iso_utc};

/// A certificate authority for development and tests.
///
/// It issues certificates that meet every requirement of an [`Identity`]. Its private key lies in
/// memory and, if asked for, unencrypted in a file, so it is no authority for production.
///
/// Node certificates are valid from five minutes ago, which allows for clocks that differ a
/// little, to 30 days from now; the CA itself for 365 days, so that node certificates can be
/// issued again under it. All keys are ECDSA P-256, which every TLS stack understands.
///
/// All nodes of a cluster need certificates from the same authority:
///
/// ```
/// use cluster_quic::DevCa;
///
/// let ca = DevCa::new("my test cluster")?;
/// let a = ca.identity(&["localhost", "127.0.0.1"])?;
/// let b = ca.identity(&["localhost", "127.0.0.1"])?;
/// # Ok::<(), cluster_quic::DevCertError>(())
/// ```
pub struct DevCa {
    certificate: String,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate from a [`DevCa`] with its private key, both as PEM text. `Debug` does not show
/// the key.
#[derive(Clone)]
#[non_exhaustive]
pub struct DevCertificate {
    /// The certificate, one `CERTIFICATE` block. The CA is not part of it.
    pub chain: String,
    /// The private key, one `PRIVATE KEY` block (PKCS #8, unencrypted).
    pub key: String,
    /// The DNS names and IP addresses that it covers.
    pub names: Vec<String>,
    /// When it expires.
    pub not_after: SystemTime,
}

/// What [`DevCa::write_to`] wrote for one node. The three files are the arguments of
/// [`Identity::from_pem_files`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DevFiles {
    /// The CA certificate, `ca.pem`.
    pub ca: PathBuf,
    /// The node's certificate, `<node>.pem`.
    pub certificate: PathBuf,
    /// The node's private key, `<node>-key.pem`.
    pub private_key: PathBuf,
    /// The DNS names and IP addresses that the certificate covers.
    pub names: Vec<String>,
    /// When the certificate expires.
    pub not_after: SystemTime,
}

/// Why a development certificate could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevCertError {
    /// The name of the CA cannot be used.
    #[error(
        "{name:?} cannot be the name of a CA: it must have 1 to 40 characters, none of them a control character"
    )]
    #[non_exhaustive]
    CaName {
        /// The name.
        name: String,
    },

    /// The list of names to cover is empty.
    #[error("a certificate needs at least one DNS name or IP address to cover")]
    NoNames,

    /// One of the names to cover is neither a DNS name nor an IP address.
    #[error("{name:?} cannot be covered by a certificate: {problem}")]
    #[non_exhaustive]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// The node name cannot be part of a file name.
    #[error("{name:?} cannot be a node name: {problem}")]
    #[non_exhaustive]
    NodeName {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// The validity cannot be put into a certificate.
    #[error("a certificate cannot be valid from {} to {}", iso_utc(*.not_before), iso_utc(*.not_after))]
    #[non_exhaustive]
    Validity {
        /// The beginning.
        not_before: SystemTime,
        /// The end.
        not_after: SystemTime,
    },

    /// The certificate or its key could not be generated.
    #[error("the certificate cannot be generated: {0}")]
    Generate(#[from] rcgen::Error),

    /// The system gave no random numbers.
    #[error("the system's random number generator failed")]
    Random,

    /// A file or folder cannot be read or written.
    #[error("{}: cannot be {action}: {source}", .path.display())]
    #[non_exhaustive]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted: "read", "written" or "created".
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },

    /// Of the CA's two files only one is there.
    #[error(
        "{} is there but {} is not; put it back, or delete the one that is there to start with a \
         new CA",
        .present.display(), .missing.display()
    )]
    #[non_exhaustive]
    IncompleteCa {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },

    /// The CA's files are there but cannot be used.
    #[error("{}: cannot be used as the development CA: {problem}; delete ca.pem and ca-key.pem to start with a new one", .path.display())]
    #[non_exhaustive]
    UnusableCa {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// The folder already belongs to another CA.
    #[error("{} is the certificate of another CA; nodes under the two would not trust each other. Write to another folder, or use `DevCa::load_or_create`", .path.display())]
    #[non_exhaustive]
    DifferentCa {
        /// The certificate that is there.
        path: PathBuf,
    },

    /// What was made does not load. This is a fault of this library.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// How a test can make certificates that nodes refuse. Not part of the stable interface.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct DevCertOptions {
    /// The beginning of the validity.
    pub not_before: SystemTime,
    /// The end of the validity.
    pub not_after: SystemTime,
    /// Whether the extended key usage allows server authentication.
    pub server_auth: bool,
    /// Whether the extended key usage allows client authentication. If neither is allowed, the
    /// extension is left out, which allows both.
    pub client_auth: bool,
}

impl Default for DevCertOptions {
    fn default() -> Self {
        let now = SystemTime::now();
        Self {
            not_before: now - BACKDATED,
            not_after: now + NODE_VALIDITY,
            server_auth: true,
            client_auth: true,
        }
    }
}

impl DevCa {
    /// Makes a new CA, in memory only. `name` has 1 to 40 characters and is there for people to
    /// read.
    ///
    /// Two CAs with the same name are still different: nodes of the one do not trust nodes of the
    /// other.
    ///
    /// # Errors
    ///
    /// If the name cannot be used, or a key cannot be generated.
    pub fn new(name: impl Into<String>) -> Result<Self, DevCertError> {
        let name = name.into();
        let length = name.chars().count();
        if name.trim().is_empty() || length > 40 || name.chars().any(char::is_control) {
            return Err(DevCertError::CaName { name });
        }
        let key = KeyPair::generate()?;
        let now = SystemTime::now();
        let not_after = now + CA_VALIDITY;
        let mut params = params(now - BACKDATED, not_after)?;
        params.distinguished_name.push(DnType::CommonName, name);
        // Certificates refer to their issuer by name. Were the names of two CAs the same, a peer
        // would not say "unknown issuer" but that a signature is wrong, which sends people after
        // the wrong fault.
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, format!("development CA {}", key_tag(&key)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, not_after, issuer: Issuer::new(params, key) })
    }

    /// Loads the CA that `dir` holds in `ca.pem` and `ca-key.pem`, or makes one and writes it
    /// there. The folder is made if need be.
    ///
    /// A CA that exists is never overwritten. The key file is readable by its owner alone (on
    /// Unix).
    ///
    /// # Errors
    ///
    /// If the folder cannot be read or written, holds only one of the two files, or holds a CA
    /// that is malformed or has expired.
    pub fn load_or_create(dir: impl AsRef<Path>) -> Result<Self, DevCertError> {
        let files = CaFiles::within(dir.as_ref());
        if let Some(ca) = files.load()? {
            return Ok(ca);
        }
        let ca = Self::new("cluster-quic")?;
        ca.save(dir.as_ref())?;
        Ok(ca)
    }

    /// The CA's certificate as PEM text: the CA bundle of every node of the cluster.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// When the CA itself expires. The certificates it issues expire no later.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Issues a certificate with a new key that covers `names`: DNS names (a leading `*.` is a
    /// wildcard) and IP addresses (IPv6 with or without brackets).
    ///
    /// # Errors
    ///
    /// If there are no names or one of them is neither, or a key cannot be generated.
    pub fn issue(&self, names: &[impl AsRef<str>]) -> Result<DevCertificate, DevCertError> {
        let mut options = DevCertOptions::default();
        options.not_after = options.not_after.min(self.not_after);
        self.issue_with(names, &options)
    }

    /// As [`issue`](Self::issue), with a say in the validity and the extended key usage.
    #[doc(hidden)]
    pub fn issue_with(
        &self,
        names: &[impl AsRef<str>],
        options: &DevCertOptions,
    ) -> Result<DevCertificate, DevCertError> {
        let subject_alt_names = subject_alt_names(names)?;
        let names: Vec<String> = subject_alt_names.iter().map(san_text).collect();
        let mut params = params(options.not_before, options.not_after)?;
        // For people only; peers go by the subject alternative names. The limit is X.520's.
        let common_name = names.iter().find(|name| name.len() <= 64);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name.map_or("cluster node", String::as_str));
        params.subject_alt_names = subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        if options.server_auth {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if options.client_auth {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let key = KeyPair::generate()?;
        Ok(DevCertificate {
            chain: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
            names,
            not_after: options.not_after,
        })
    }

    /// Issues a certificate for `names` and makes an [`Identity`] of it that trusts this CA.
    ///
    /// # Errors
    ///
    /// As for [`issue`](Self::issue).
    pub fn identity(&self, names: &[impl AsRef<str>]) -> Result<Identity, DevCertError> {
        let issued = self.issue(names)?;
        Ok(Identity::from_pem(
            issued.chain.as_bytes(),
            issued.key.as_bytes(),
            self.certificate.as_bytes(),
        )?)
    }

    /// Issues a certificate for `names` and writes it to `dir` as `<node>.pem` and
    /// `<node>-key.pem`, over files of that name. The CA's own `ca.pem` and `ca-key.pem` are
    /// written too if they are not there yet, and left alone if they are.
    ///
    /// A node name has letters, digits, `-`, `_` and `.` (ASCII). Each file appears whole or not
    /// at all, and key files are readable by their owner alone from the first byte on (on Unix).
    ///
    /// # Errors
    ///
    /// If the node name or one of the names cannot be used, the folder belongs to another CA, or
    /// it cannot be written.
    pub fn write_to(
        &self,
        dir: impl AsRef<Path>,
        node: &str,
        names: &[impl AsRef<str>],
    ) -> Result<DevFiles, DevCertError> {
        let dir = dir.as_ref();
        check_node_name(node)?;
        let issued = self.issue(names)?;
        self.save(dir)?;
        let files = DevFiles {
            ca: CaFiles::within(dir).certificate,
            certificate: dir.join(format!("{node}.pem")),
            private_key: dir.join(format!("{node}-key.pem")),
            names: issued.names,
            not_after: issued.not_after,
        };
        write(&files.private_key, &issued.key, Access::Owner, Existing::Replace)?;
        write(&files.certificate, &issued.chain, Access::Everyone, Existing::Replace)?;
        Ok(files)
    }

    /// Writes the CA to `dir` unless it is there already.
    fn save(&self, dir: &Path) -> Result<(), DevCertError> {
        fs::create_dir_all(dir).map_err(file_error(dir, "created"))?;
        let files = CaFiles::within(dir);
        if let Some(present) = files.load()? {
            return if same_key(&present.issuer, &self.issuer) {
                Ok(())
            } else {
                Err(DevCertError::DifferentCa { path: files.certificate })
            };
        }
        // The key goes first: whoever wins that race owns the folder, and the loser is told.
        let key = self.issuer.key().serialize_pem();
        write(&files.key, &key, Access::Owner, Existing::Keep)?;
        write(&files.certificate, &self.certificate, Access::Everyone, Existing::Keep)
    }
}

impl fmt::Debug for DevCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevCa")
            .field("not_after", &format_args!("{}", iso_utc(self.not_after)))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DevCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevCertificate")
            .field("names", &self.names)
            .field("not_after", &format_args!("{}", iso_utc(self.not_after)))
            .finish_non_exhaustive()
    }
}

/// Where a folder keeps its CA.
struct CaFiles {
    certificate: PathBuf,
    key: PathBuf,
}

impl CaFiles {
    fn within(dir: &Path) -> Self {
        Self { certificate: dir.join("ca.pem"), key: dir.join("ca-key.pem") }
    }

    /// The CA, or `None` if neither file is there.
    fn load(&self) -> Result<Option<DevCa>, DevCertError> {
        let (certificate, key) = match (read(&self.certificate)?, read(&self.key)?) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(DevCertError::IncompleteCa {
                    present: self.certificate.clone(),
                    missing: self.key.clone(),
                });
            }
            (None, Some(_)) => {
                return Err(DevCertError::IncompleteCa {
                    present: self.key.clone(),
                    missing: self.certificate.clone(),
                });
            }
        };
        let unusable = |path: &Path, problem: &dyn fmt::Display| DevCertError::UnusableCa {
            path: path.to_owned(),
            problem: problem.to_string(),
        };

        let key = KeyPair::from_pem(&key).map_err(|error| unusable(&self.key, &error))?;
        let block = Pem::iter_from_buffer(certificate.as_bytes())
            .next()
            .and_then(Result::ok)
            .ok_or_else(|| unusable(&self.certificate, &"it contains no PEM block"))?;
        let (_, parsed) = X509Certificate::from_der(&block.contents)
            .map_err(|error| unusable(&self.certificate, &error))?;
        if !parsed.is_ca() {
            return Err(unusable(&self.certificate, &"it is not a CA certificate"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(unusable(&self.key, &"it is not the key of ca.pem"));
        }
        let not_after = crate::tls::system_time(parsed.validity().not_after.timestamp());
        if not_after < SystemTime::now() {
            let problem = format!("it expired on {}", iso_utc(not_after));
            return Err(unusable(&self.certificate, &problem));
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)
            .map_err(|error| unusable(&self.certificate, &error))?;
        Ok(Some(DevCa { certificate, not_after, issuer }))
    }
}

const BACKDATED: Duration = Duration::from_secs(5 * 60);
const NODE_VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const CA_VALIDITY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What CA and node certificates have in common.
fn params(
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, DevCertError> {
    if not_before >= not_after {
        return Err(DevCertError::Validity { not_before, not_after });
    }
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| DevCertError::Random)?;
    // Serial numbers are positive and as long as they say.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn subject_alt_names(names: &[impl AsRef<str>]) -> Result<Vec<SanType>, DevCertError> {
    let mut sans = Vec::with_capacity(names.len());
    for name in names {
        let san = subject_alt_name(name.as_ref())?;
        if !sans.contains(&san) {
            sans.push(san);
        }
    }
    if sans.is_empty() {
        return Err(DevCertError::NoNames);
    }
    Ok(sans)
}

fn subject_alt_name(name: &str) -> Result<SanType, DevCertError> {
    let unusable = |problem| DevCertError::Name { name: name.to_owned(), problem };
    if name.is_empty() {
        return Err(unusable("it is empty"));
    }
    if name.contains(char::is_whitespace) {
        return Err(unusable("it contains white space"));
    }
    if !name.is_ascii() {
        return Err(unusable("it is not ASCII; write it in its xn-- form"));
    }
    if let Ok(ip) = crate::tls::bare_host(name).parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let base = name.strip_prefix("*.").unwrap_or(name);
    if DnsName::try_from(base).is_err() || name.ends_with('.') {
        return Err(unusable("it is neither a DNS name nor an IP address"));
    }
    Ok(SanType::DnsName(name.to_owned().try_into()?))
}

fn san_text(san: &SanType) -> String {
    match san {
        SanType::DnsName(name) => name.to_string(),
        SanType::IpAddress(ip) => ip.to_string(),
        other => format!("{other:?}"),
    }
}

/// Node names become file names, next to the CA's.
fn check_node_name(name: &str) -> Result<(), DevCertError> {
    let lower = name.to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let problem = if name.is_empty() {
        "it is empty"
    } else if !name.chars().all(allowed) {
        "only ASCII letters, digits, '-', '_' and '.' are allowed"
    } else if name.starts_with(['.', '-']) {
        "it must begin with a letter, a digit or '_'"
    } else if name.len() > 100 {
        "it is longer than 100 characters"
    } else if lower == "ca" {
        "its certificate would overwrite ca.pem"
    } else if lower.ends_with("-key") {
        "its certificate would have the name of a key file"
    } else {
        return Ok(());
    };
    Err(DevCertError::NodeName { name: name.to_owned(), problem })
}

/// A short mark that differs from key to key.
fn key_tag(key: &KeyPair) -> String {
    digest::digest(&digest::SHA256, &key.subject_public_key_info()).as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn same_key(a: &Issuer<'_, KeyPair>, b: &Issuer<'_, KeyPair>) -> bool {
    a.key().subject_public_key_info() == b.key().subject_public_key_info()
}

/// The text of a file, or `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, DevCertError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path, "read")(error)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Everyone,
    Owner,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Replace,
    Keep,
}

/// Writes a file that appears whole or not at all. With [`Existing::Keep`] it is an error if the
/// file is there.
fn write(path: &Path, text: &str, access: Access, existing: Existing) -> Result<(), DevCertError> {
    let temporary = temporary_path(path);
    let result = create(&temporary, access)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| match existing {
            Existing::Replace => fs::rename(&temporary, path),
            Existing::Keep => place_new(&temporary, path),
        });
    if result.is_err() || existing == Existing::Keep {
        // Best effort: after a rename it is gone, and after an error the error is what counts.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(file_error(path, "written"))
}

/// Gives a finished file its name, and fails if the name is taken. A rename would overwrite.
fn place_new(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // A file system without hard links. Between the check and the rename another process
            // could write the file, which is as good as it gets there.
            if path.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(temporary, path)
        }
        result => result,
    }
}

fn create(path: &Path, access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Owner {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = access;
    options.open(path)
}

/// In the same folder, since a rename works only within one file system.
fn temporary_path(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    path.with_file_name(format!(
        ".{}.{}.{nanos}.{}.tmp",
        path.file_name().and_then(OsStr::to_str).unwrap_or("cert"),
        process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ))
}

fn file_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DevCertError {
    move |source| DevCertError::File { path: path.to_owned(), action, source }
}
