//! What a probe learned, and the words for it.

use crate::logic::event::ProbeResult;
use std::io;
use std::time::Duration;

/// Longest reason, in bytes: it goes into logs, the API and gossip.
pub(super) const REASON_BYTES_MAX: usize = 200;

/// The end of one probe.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It says something about the endpoint.
    Verdict {
        /// What the pool is told.
        result: ProbeResult,
        /// What the operator should change about the probe itself.
        advice: Option<String>,
    },
    /// It could not be made, for a reason on our side (no file descriptor, no source port), which is never held
    /// against the endpoint: an instance out of descriptors would otherwise call its whole tier down.
    Local(String),
}

/// A probe that ended before it had an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The deadline of the whole probe passed during this step.
    #[error("{step} timed out after {timeout:?}")]
    TimedOut {
        step: &'static str,
        timeout: Duration,
    },
    /// The endpoint or the way to it failed during this step.
    #[error("{step} {what}")]
    Broken { step: &'static str, what: String },
    /// The endpoint answered, and not as it should.
    #[error("{0}")]
    Answer(String),
    /// Our own side failed.
    #[error("{0}")]
    Local(String),
}

impl Failure {
    /// An input or output error in the fewest words that a person needs.
    pub(super) fn io(step: &'static str, error: &io::Error) -> Self {
        if is_local(error) {
            return Self::Local(format!("{step} failed on our side: {error}"));
        }
        let what = match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused".to_owned(),
            io::ErrorKind::ConnectionReset => "reset by the endpoint".to_owned(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                "cut off by the endpoint".to_owned()
            }
            io::ErrorKind::HostUnreachable => "found no way to the host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "found no way to the network".to_owned(),
            _ => format!("failed: {error}"),
        };
        Self::Broken { step, what }
    }
}

/// Errors that are about this process or host, whatever the endpoint does.
fn is_local(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

impl From<ProbeResult> for Outcome {
    fn from(result: ProbeResult) -> Self {
        Self::Verdict {
            result,
            advice: None,
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        let words = printable(failure.to_string().as_bytes());
        match failure {
            Failure::Local(_) => Self::Local(words),
            Failure::TimedOut { .. } | Failure::Broken { .. } | Failure::Answer(_) => {
                ProbeResult::Down(words).into()
            }
        }
    }
}

impl<T: Into<Self>> From<Result<T, Failure>> for Outcome {
    fn from(ended: Result<T, Failure>) -> Self {
        ended.map_or_else(Self::from, Into::into)
    }
}

/// Foreign bytes as text that is safe to print: one line of ASCII, at most [`REASON_BYTES_MAX`].
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    // Twice the length is plenty: what follows only replaces and drops.
    for byte in bytes.iter().take(2 * REASON_BYTES_MAX) {
        let character = match byte {
            0x21..=0x7e => char::from(*byte),
            b' ' | b'\t' | b'\r' | b'\n' if text.ends_with(' ') || text.is_empty() => continue,
            b' ' | b'\t' | b'\r' | b'\n' => ' ',
            _ => '?',
        };
        text.push(character);
        if text.len() == REASON_BYTES_MAX {
            break;
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// The kind of an outcome, for pace and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Answered as it should.
    Up,
    /// Asks for no new connections.
    Draining,
    /// Says that it is full.
    Full,
    /// Did not answer as it should.
    Down,
    /// Says nothing about the endpoint.
    Local,
}

impl Kind {
    /// All of them, in the order of [`Kind::index`].
    pub(super) const ALL: [Self; 5] = [
        Self::Up,
        Self::Draining,
        Self::Full,
        Self::Down,
        Self::Local,
    ];

    /// The kind of an outcome.
    pub(super) const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Verdict {
                result: ProbeResult::Up(_),
                ..
            } => Self::Up,
            Outcome::Verdict {
                result: ProbeResult::Draining(_),
                ..
            } => Self::Draining,
            Outcome::Verdict {
                result: ProbeResult::Full(_),
                ..
            } => Self::Full,
            Outcome::Verdict {
                result: ProbeResult::Down(_),
                ..
            } => Self::Down,
            Outcome::Local(_) => Self::Local,
        }
    }

    /// Position in [`Kind::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The metric label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Full => "full",
            Self::Down => "down",
            Self::Local => "local",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_is_one_bounded_line_of_ascii() {
        for (given, expected) in [
            (&b"NODE_EVACUATING"[..], "NODE_EVACUATING"),
            (b" \r\n {\"code\":\n\n  \"X\"}\n", "{\"code\": \"X\"}"),
            (b"\x1b[31mred\x00\xff", "?[31mred??"),
            (b"", ""),
            (b" \n", ""),
        ] {
            assert_eq!(printable(given), expected);
        }
        assert_eq!(printable(&[b'x'; 10_000]).len(), REASON_BYTES_MAX);
        assert_eq!(printable(&[b' '; 10_000]), "");
    }

    #[test]
    fn our_own_shortages_are_not_held_against_the_endpoint() {
        use rustix::io::Errno;
        for (errno, expected) in [
            (Errno::MFILE, Kind::Local),
            (Errno::NFILE, Kind::Local),
            (Errno::ADDRNOTAVAIL, Kind::Local),
            (Errno::CONNREFUSED, Kind::Down),
            (Errno::HOSTUNREACH, Kind::Down),
            (Errno::TIMEDOUT, Kind::Down),
        ] {
            let outcome = Outcome::from(Failure::io("connect", &errno.into()));
            assert_eq!(Kind::of(&outcome), expected, "{outcome:?}");
        }
    }

    #[test]
    fn index_is_the_position_in_all() {
        for (position, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), position);
        }
    }
}
