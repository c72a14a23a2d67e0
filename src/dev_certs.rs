//! Certificates for development and tests.

mod error;
mod files;
mod names;

use std::fmt;
use std::fs::{self};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::{digest, rand};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, Pem};

use crate::tls::{Identity, iso_utc};
pub use error::DevCertError;
use files::{Access, Existing, file_error, read, write};
use names::{check_node_name, san_text, subject_alt_names};

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

    /// Loads the CA that `dir` holds in `ca.pem` and `ca-key.pem`; `None` if neither is there.
    ///
    /// # Errors
    ///
    /// As for [`load_or_create`](Self::load_or_create).
    pub fn load(dir: impl AsRef<Path>) -> Result<Option<Self>, DevCertError> {
        CaFiles::within(dir.as_ref()).load()
    }

    /// Writes the CA to `dir` as `ca.pem` and `ca-key.pem`, unless it is there already. The folder is
    /// made if need be. Another CA is never overwritten.
    ///
    /// # Errors
    ///
    /// If the folder belongs to another CA, or cannot be written.
    pub fn save_to(&self, dir: impl AsRef<Path>) -> Result<(), DevCertError> {
        self.save(dir.as_ref())
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
        self.write_files(dir.as_ref(), node, names, Existing::Replace)
    }

    /// As [`write_to`](Self::write_to), but it never overwrites: where the node's certificate or key is
    /// there already, nothing is written.
    ///
    /// # Errors
    ///
    /// As for `write_to`, and [`DevCertError::File`] of kind `AlreadyExists`.
    pub fn write_new_to(
        &self,
        dir: impl AsRef<Path>,
        node: &str,
        names: &[impl AsRef<str>],
    ) -> Result<DevFiles, DevCertError> {
        self.write_files(dir.as_ref(), node, names, Existing::Keep)
    }

    fn write_files(
        &self,
        dir: &Path,
        node: &str,
        names: &[impl AsRef<str>],
        existing: Existing,
    ) -> Result<DevFiles, DevCertError> {
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
        if existing == Existing::Keep && files.certificate.exists() {
            // Before the key is written, which would stay behind.
            let error = io::ErrorKind::AlreadyExists.into();
            return Err(file_error(&files.certificate, "written")(error));
        }
        write(&files.private_key, &issued.key, Access::Owner, existing)?;
        write(&files.certificate, &issued.chain, Access::Everyone, existing)?;
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
