//! Where log lines go: standard output, by a thread of its own.

use crate::config::{LogFormat, LogSettings};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait for a slow sink. When it is full lines are dropped: a stuck terminal must not stop a worker.
const QUEUE_LINES: usize = 32 * 1024;

/// Installs the global subscriber. The guard flushes when it is dropped. A process that has a subscriber already (tests,
/// the demo) keeps it.
pub(super) fn start(settings: &LogSettings) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES)
        .lossy(true)
        .thread_name("tidegate-log")
        .finish(std::io::stdout());
    let filter =
        EnvFilter::try_new(&settings.level).unwrap_or_else(|_invalid| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false);
    // `Err` means that there is a subscriber: its owner decides what is shown.
    let _has_one = match settings.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    guard
}
