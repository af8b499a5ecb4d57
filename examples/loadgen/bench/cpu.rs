//! What the scheduler accounts to processes, all their threads together.

use std::fs;

/// Seconds that the processes have run so far; 0 for none of them.
pub(crate) fn seconds(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| process(*pid)).sum()
}

fn process(pid: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0.0;
    };
    let mut nanos = 0_u64;
    for task in tasks.flatten() {
        // A thread that has just ended has no file; what it has run is lost, which no contender does while it is measured.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let first = text.split(' ').next().unwrap_or_default();
        nanos += first.parse::<u64>().unwrap_or(0);
    }
    nanos as f64 / 1e9
}
