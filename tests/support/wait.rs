//! Waiting for a condition instead of for a time.

use std::io;
use std::time::Duration;

/// Longest wait for anything on loopback. Reached only when something is broken, so it costs nothing when all is well.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Looks every 2 ms until `condition` holds. Panics with `what` after [`DEADLINE`].
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panicked(what));
}

fn panicked(what: &str) {
    assert!(what.is_empty(), "not within {DEADLINE:?}: {what}");
}

/// Bounds an operation by [`DEADLINE`] and names it when it takes longer.
pub async fn within<T>(
    what: &str,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout(DEADLINE, operation).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{what}: nothing within {DEADLINE:?}"),
        )),
    }
}
