//! What the whole machine does, since a benchmark is seldom alone; nothing where it is not Linux.

/// Ticks of the machine's cores since it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    pub(super) fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let mut fields = stat.lines().next()?.split_whitespace().skip(1).map(str::parse::<u64>);
        let mut next = || fields.next()?.ok();
        // In the order of proc(5); guests are in user time already.
        let [user, nice, system, idle, waiting, irq, softirq, steal] =
            [next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?];
        let busy = user + nice + system + irq + softirq + steal;
        Some(Self { busy, all: busy + idle + waiting })
    }

    /// How many cores were busy from `before` until now, on average.
    pub(super) fn cores_since(self, before: Self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let all = self.all.saturating_sub(before.all).max(1);
        self.busy.saturating_sub(before.busy) as f64 / all as f64 * cores
    }
}
