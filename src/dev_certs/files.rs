//! Files that appear whole or not at all, keys readable by their owner alone.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::DevCertError;

/// The text of a file, or `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, DevCertError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path, "read")(error)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Everyone,
    Owner,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Replace,
    Keep,
}

/// Writes a file that appears whole or not at all. With [`Existing::Keep`] it is an error if the
/// file is there.
pub(super) fn write(
    path: &Path,
    text: &str,
    access: Access,
    existing: Existing,
) -> Result<(), DevCertError> {
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
pub(super) fn place_new(temporary: &Path, path: &Path) -> io::Result<()> {
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

pub(super) fn create(path: &Path, access: Access) -> io::Result<File> {
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
pub(super) fn temporary_path(path: &Path) -> PathBuf {
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

pub(super) fn file_error(
    path: &Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> DevCertError {
    move |source| DevCertError::File { path: path.to_owned(), action, source }
}
