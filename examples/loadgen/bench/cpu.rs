//! What the scheduler accounts to processes, all their threads together.

use std::fs;

/// Seconds that the processes have run so far; 0 for none of them.
pub(crate) fn seconds(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| process(*pid)).sum()
}

/// Seconds that one thread has run so far.
pub(crate) fn thread_seconds(tid: u32) -> f64 {
    fs::read_to_string(format!("/proc/{tid}/schedstat")).map_or(0.0, |text| nanos(&text) / 1e9)
}

fn process(pid: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0.0;
    };
    let mut total = 0.0;
    for task in tasks.flatten() {
        // A thread that has just ended has no file; what it has run is lost, which no contender does while it is measured.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += nanos(&text);
    }
    total / 1e9
}

/// The first field of a `schedstat`: time on a processor.
fn nanos(text: &str) -> f64 {
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0.0)
}
