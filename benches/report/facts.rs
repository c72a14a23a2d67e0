//! What a reader must know of a run to make something of its figures. Whatever cannot be found out is
//! left out.

use std::fs::read_to_string;
use std::process::Command;

use time::OffsetDateTime;

/// CPU, system, compiler and source.
pub(super) fn gather() -> Vec<(&'static str, String)> {
    let facts = [
        ("Machine", Some(machine())),
        ("System", Some(system())),
        ("Compiler", output(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()), &["-V"])),
        ("Source", Some(source())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// How cargo is called for it, with the arguments of this process.
pub(super) fn command(prefix: &str) -> String {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let quoted = arguments.iter().map(|argument| match argument.contains(char::is_whitespace) {
        true => format!("'{argument}'"),
        false => argument.clone(),
    });
    match arguments.is_empty() {
        true => prefix.into(),
        false => format!("{prefix} -- {}", quoted.collect::<Vec<_>>().join(" ")),
    }
}

pub(super) fn date(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    format!("{year}-{:02}-{day:02} {:02}:{:02} UTC", u8::from(month), at.hour(), at.minute())
}

fn machine() -> String {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map(|(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cores} {}",
        model.unwrap_or(std::env::consts::ARCH),
        match cores {
            1 => "core",
            _ => "cores",
        }
    )
}

fn system() -> String {
    let release = read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.map_or(std::env::consts::OS, |name| name.trim_matches('"'));
    match output("uname", &["-sr"]) {
        Some(kernel) => format!("{name}, {kernel}"),
        None => name.into(),
    }
}

fn source() -> String {
    let package = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    let git = |arguments: &[&str]| {
        output("git", &[&["-C", env!("CARGO_MANIFEST_DIR")], arguments].concat())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return package.into() };
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    let modified = if changes.is_some_and(|c| !c.is_empty()) { ", modified" } else { "" };
    format!("{package}, commit {commit}{modified}")
}

/// What a program prints, if there is such a program and it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().into())
}
