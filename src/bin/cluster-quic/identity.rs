//! Options that several commands share: whose certificates, and how long to wait.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use cluster_quic::Identity;

use crate::failure::Failure;

/// The folder that `certs` writes to.
pub(crate) const CERTS: &str = "certs";

/// Of their own, so that it does not swallow the options that follow.
const HEADING: &str = "Certificates";

/// Whose certificates: three files, or a folder that `certs` wrote.
#[derive(Debug, Clone, Args)]
pub(crate) struct IdentityArgs {
    /// Folder with ca.pem, NAME.pem and NAME-key.pem, as `certs` writes it [default: certs]
    #[arg(long, help_heading = HEADING, value_name = "DIR", conflicts_with_all = ["cert", "key", "ca"])]
    certs: Option<PathBuf>,

    /// Which NAME of that folder; needed only if it holds several
    #[arg(long = "as", help_heading = HEADING, value_name = "NAME", conflicts_with_all = ["cert", "key", "ca"])]
    name: Option<String>,

    /// This node's certificate, then intermediates (PEM); with --key and --ca
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires_all = ["key", "ca"])]
    cert: Option<PathBuf>,

    /// The private key of that certificate (PEM)
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires_all = ["cert", "ca"])]
    key: Option<PathBuf>,

    /// The CA certificates to trust (PEM)
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires_all = ["cert", "key"])]
    ca: Option<PathBuf>,
}

/// The files of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ca: PathBuf,
}

impl Files {
    /// Those of one name in a folder of `certs`.
    pub(crate) fn within(dir: &Path, name: &str) -> Self {
        Self {
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}-key.pem")),
            ca: dir.join("ca.pem"),
        }
    }
}

impl IdentityArgs {
    /// The identity that the options name.
    ///
    /// # Errors
    /// Usage, if they do not name one; otherwise what is wrong with its files.
    pub(crate) fn load(&self) -> Result<Identity, Failure> {
        let Files { cert, key, ca } = self.files()?;
        Identity::from_pem_files(cert, key, ca).map_err(Failure::wrong)
    }

    /// The files that the options name.
    ///
    /// # Errors
    /// Usage, if the folder holds no certificate, or several and none is named.
    pub(crate) fn files(&self) -> Result<Files, Failure> {
        if let (Some(cert), Some(key), Some(ca)) = (&self.cert, &self.key, &self.ca) {
            return Ok(Files { cert: cert.clone(), key: key.clone(), ca: ca.clone() });
        }
        let dir = self.certs.as_deref().unwrap_or(Path::new(CERTS));
        if let Some(name) = &self.name {
            return Ok(Files::within(dir, name));
        }
        let names = names_in(dir)?;
        match &names[..] {
            [name] => Ok(Files::within(dir, name)),
            [] => Err(Failure::usage(format!(
                "no certificate in {}: make one with `cluster-quic certs issue`, or name the files \
                 with --cert, --key and --ca",
                dir.display()
            ))),
            several => Err(Failure::usage(format!(
                "{} holds several certificates ({}): say which with --as",
                dir.display(),
                several.join(", ")
            ))),
        }
    }
}

/// The names of which a folder holds a certificate and its key, sorted.
fn names_in(dir: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error| {
        Failure::usage(format!(
            "certificates are looked for in the folder {}, which cannot be read: {error}. Name \
             another with --certs, or make one with `cluster-quic certs init`",
            dir.display()
        ))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix("-key.pem"));
        if let Some(name) = name
            && name != "ca"
            && dir.join(format!("{name}.pem")).exists()
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A time on the command line: `5`, `5s`, `250ms`, `2m`; more than nothing, a day at most.
///
/// # Errors
/// What it should look like.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        _ => return Err("a time is written as 5s, 250ms or 2m".into()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "a time is written as 5s, 250ms or 2m")?;
    let seconds = seconds * unit;
    if seconds > 0.0 && seconds <= 86_400.0 {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it must be more than nothing and at most a day".into())
    }
}

/// A time from `least` to `most`, which are written likewise.
pub(crate) fn between(
    least: &'static str,
    most: &'static str,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let time = duration(text)?;
        if (duration(least)?..=duration(most)?).contains(&time) {
            Ok(time)
        } else {
            Err(format!("it must be {least} to {most}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "0", "-1s", "5 s", "1h", "inf", "nan", "1e9", "ms"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_limits() {
        let time = between("10ms", "10m");
        assert_eq!(time("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(time("600"), Ok(Duration::from_secs(600)));
        for wrong in ["9ms", "601", "20m"] {
            assert_eq!(time(wrong), Err("it must be 10ms to 10m".into()), "{wrong}");
        }
        assert!(time("soon").unwrap_err().contains("5s"));
    }
}
