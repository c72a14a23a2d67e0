//! Why development certificates could not be made.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::tls::{IdentityError, iso_utc};

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
