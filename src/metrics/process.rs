//! What the kernel says about this process, read from /proc/self at each scrape.
//!
//! The names are those that every Prometheus client library uses, so that ready-made dashboards work. What cannot be
//! read (another system, a hidden /proc) is left out instead of shown as zero.

use super::families::Families;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::{fmt, fs};

/// Clock ticks per second in /proc: `USER_HZ`, which the kernel's ABI fixes at 100 on every platform we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The collector.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        if let Some(times) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(times)
        {
            families.counter(
                "process_cpu_seconds",
                "User and system CPU time spent in seconds",
                [([], times.cpu_s)],
            )?;
            if let Some(boot) = fs::read_to_string("/proc/stat")
                .ok()
                .as_deref()
                .and_then(boot_time_s)
            {
                families.gauge(
                    "process_start_time_seconds",
                    "Start time of the process since the unix epoch in seconds",
                    [([], boot + times.start_after_boot_s)],
                )?;
            }
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let rows = [
                (
                    "process_resident_memory_bytes",
                    "Resident memory size in bytes",
                    "VmRSS:",
                    1024,
                ),
                (
                    "process_virtual_memory_bytes",
                    "Virtual memory size in bytes",
                    "VmSize:",
                    1024,
                ),
                ("process_threads", "Threads of the process", "Threads:", 1),
            ];
            for (name, help, key, unit) in rows {
                if let Some(value) = status_field(&status, key) {
                    families.gauge(name, help, [([], value.saturating_mul(unit))])?;
                }
            }
        }
        if let Some(open) = open_files() {
            families.gauge("process_open_fds", "Open file descriptors", [([], open)])?;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        if let Some(limit) = limit {
            families.gauge(
                "process_max_fds",
                "Limit of open file descriptors",
                [([], limit)],
            )?;
        }
        Ok(())
    }
}

struct Times {
    cpu_s: f64,
    start_after_boot_s: f64,
}

/// Fields 14, 15 and 22 of /proc/self/stat (proc(5)). Field 2 is the name in parentheses and may hold anything, so
/// counting starts after the last one.
fn times(stat: &str) -> Option<Times> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `rest` begins with field 3.
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(Times {
        cpu_s: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
        start_after_boot_s: ticks(22)? / TICKS_PER_SECOND,
    })
}

/// The line `btime` of /proc/stat: boot, in seconds since the epoch.
fn boot_time_s(stat: &str) -> Option<f64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// A number of /proc/self/status, in the unit that it has there.
fn status_field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Linux 6.2 and later give the count as the directory's size, which spares a walk over 20 000 entries.
fn open_files() -> Option<u64> {
    let directory = fs::metadata("/proc/self/fd").ok()?;
    if directory.len() > 0 {
        return Some(directory.len());
    }
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    // Less the descriptor of this very walk.
    u64::try_from(entries.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_name_with_spaces_and_parentheses() {
        let stat = "1 (a) b) (c) S 0 1 1 0 -1 4194560 9 8 7 6 250 50 1 2 20 0 8 0 12345 1 2";
        let times = times(stat).unwrap();
        assert!((times.cpu_s - 3.0).abs() < 1e-9, "{}", times.cpu_s);
        assert!(
            (times.start_after_boot_s - 123.45).abs() < 1e-9,
            "{}",
            times.start_after_boot_s
        );
    }

    #[test]
    fn broken_files_give_nothing() {
        for stat in [
            "",
            "1 (a",
            "1 (a) S",
            "1 (a) S 0 1 1 0 -1 4194560 9 8 7 6 x 50",
        ] {
            assert!(times(stat).is_none(), "{stat}");
        }
        assert_eq!(boot_time_s("cpu 1 2\n"), None);
        assert_eq!(status_field("VmRSS:\n", "VmRSS:"), None);
        assert_eq!(status_field("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }
}
