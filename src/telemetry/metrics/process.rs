//! The process as `/proc/self` tells it, read at scrape and never on a worker.
//!
//! What a sandbox hides is left out. CPU time counts in ticks of a hundredth of a second, the
//! unit that Linux has shown to user space on every platform since 2.6.
use std::fs;

const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of this process; `None` where `/proc` does not say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let text = |name| fs::read_to_string(name).unwrap_or_default();
        let status = text("/proc/self/status");
        Self {
            cpu_seconds: cpu_seconds(&text("/proc/self/stat")),
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024),
            virtual_bytes: field(&status, "VmSize:").map(|kib| kib * 1024),
            threads: field(&status, "Threads:"),
            // The directory that is being read is open too.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: field(&text("/proc/self/limits"), "Max open files"),
        }
    }
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of `stat`; the second field may hold spaces, so count from its end.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_with_a_hostile_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 999 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }

    #[test]
    fn unlimited_descriptors_are_left_out() {
        assert_eq!(field("Max open files    unlimited  unlimited  files", "Max open files"), None);
        assert_eq!(field("Max open files    1024    4096    files", "Max open files"), Some(1024));
    }
}
