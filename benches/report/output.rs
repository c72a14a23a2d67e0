//! Where the files go.

use std::path::{Path, PathBuf};

/// The files of a report.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) json: PathBuf,
    pub(crate) html: PathBuf,
}

pub(super) fn write(name: &str, json: &str, html: &str) -> std::io::Result<Written> {
    let dir = target_dir().join("bench");
    std::fs::create_dir_all(&dir)?;
    let written =
        Written { json: dir.join(format!("{name}.json")), html: dir.join(format!("{name}.html")) };
    std::fs::write(&written.json, json)?;
    std::fs::write(&written.html, html)?;
    Ok(written)
}

/// Cargo's target directory: what this executable is in, down to which cargo puts its tag. The
/// environment does not have it if a configuration file moves it, nor a package its workspace's.
fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let tagged = exe.ancestors().skip(1).find(|dir| dir.join("CACHEDIR.TAG").is_file());
    tagged.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), Path::to_path_buf)
}
