//! What the system says of this process; nothing where it is not Linux.

use std::time::Duration;

/// User and system time of all threads so far.
pub(crate) fn cpu_time() -> Option<Duration> {
    system::cpu_time()
}

/// Bytes of memory in use, without what is mapped from files (the program itself).
pub(crate) fn memory() -> Option<u64> {
    system::memory()
}

/// How many files and sockets may be open; raises the limit as far as it goes.
pub(crate) fn open_files() -> Option<u64> {
    system::open_files()
}

#[cfg(target_os = "linux")]
mod system {
    use std::time::Duration;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn cpu_time() -> Option<Duration> {
        clock_gettime(ClockId::ProcessCPUTime).try_into().ok()
    }

    pub(super) fn memory() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    pub(super) fn open_files() -> Option<u64> {
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        // `None` is without a limit.
        Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::Duration;

    pub(super) fn cpu_time() -> Option<Duration> {
        None
    }

    pub(super) fn memory() -> Option<u64> {
        None
    }

    pub(super) fn open_files() -> Option<u64> {
        None
    }
}
