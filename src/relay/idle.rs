//! When a connection counts as idle, and who is to be looked at for it.
//!
//! No timer per connection: a message would have to move it, and 120 bytes of it would lie there for each. A connection is
//! looked at when it could be idle at the earliest, found to have been active since, and looked at again as much later.

use super::settings::Settings;
use std::collections::BTreeSet;
use std::time::Duration;

/// The connections of one worker that can become idle, by the tick at which to look. Keys are small and dense.
#[derive(Debug, Default)]
pub(super) struct IdleWatch {
    due: BTreeSet<(u32, u32)>,
    /// By key: when to look and how many ticks of quiet are too many; both 0 when nobody looks.
    watched: Vec<(u32, u32)>,
}

/// One connection that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) key: usize,
    /// Ticks of quiet that are too many.
    pub(super) patience: u32,
}

impl IdleWatch {
    /// Has `key` looked at `patience` ticks after `active_at`.
    pub(super) fn watch(&mut self, key: usize, patience: u32, active_at: u32) {
        let Ok(short) = u32::try_from(key) else {
            return;
        };
        let at = active_at.saturating_add(patience.max(1));
        if self.watched.len() <= key {
            self.watched.resize(key + 1, (0, 0));
        }
        self.watched[key] = (at, patience.max(1));
        self.due.insert((at, short));
    }

    /// Nobody looks at `key` any more.
    pub(super) fn forget(&mut self, key: usize) {
        let Some(watched) = self.watched.get_mut(key) else {
            return;
        };
        let (at, _) = std::mem::take(watched);
        if let Ok(short) = u32::try_from(key) {
            self.due.remove(&(at, short));
        }
    }

    /// The next connection that is due at `now`; it is no longer watched.
    pub(super) fn pop(&mut self, now: u32) -> Option<Look> {
        let (at, short) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        let key = short as usize;
        let (_, patience) = std::mem::take(self.watched.get_mut(key)?);
        Some(Look { key, patience })
    }
}

/// The idle time-out of an MQTT connection: the keep-alive that rules (the broker's Server Keep Alive, MQTT 5.0
/// §3.2.2.3.14, else the client's own) times the factor plus slack. `None` = never.
pub(super) fn mqtt(
    settings: &Settings,
    client_keep_alive_s: u16,
    server_keep_alive_s: Option<u16>,
) -> Option<Duration> {
    match server_keep_alive_s.unwrap_or(client_keep_alive_s) {
        // §3.1.2.10: zero switches the mechanism off.
        0 => plain(settings),
        seconds => {
            let patience =
                Duration::from_secs(u64::from(seconds)).mul_f64(settings.keep_alive_factor);
            Some(patience + settings.keep_alive_slack)
        }
    }
}

/// The idle time-out of everything else.
pub(super) fn plain(settings: &Settings) -> Option<Duration> {
    (!settings.idle_timeout.is_zero()).then_some(settings.idle_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_due_in_the_order_of_their_patience() {
        let mut idle = IdleWatch::default();
        idle.watch(7, 30, 10);
        idle.watch(2, 5, 10);
        idle.watch(3, 5, 10);
        assert_eq!(idle.pop(14), None);
        let look = |key, patience| Some(Look { key, patience });
        assert_eq!(idle.pop(15), look(2, 5));
        assert_eq!(idle.pop(15), look(3, 5));
        assert_eq!(idle.pop(39), None);
        assert_eq!(idle.pop(99), look(7, 30));
        assert_eq!(idle.pop(99), None);
    }

    #[test]
    fn who_is_forgotten_or_watched_anew_is_not_due_any_more() {
        let mut idle = IdleWatch::default();
        idle.watch(1, 5, 0);
        idle.watch(2, 5, 0);
        idle.forget(1);
        idle.forget(1);
        idle.forget(999);
        idle.forget(2);
        idle.watch(2, 50, 0);
        assert_eq!(idle.pop(49), None);
        assert_eq!(
            idle.pop(50),
            Some(Look {
                key: 2,
                patience: 50
            })
        );
        assert!(idle.due.is_empty());
    }

    #[test]
    fn keep_alive_rules_and_the_brokers_word_wins() {
        let settings = Settings {
            keep_alive_slack: Duration::from_secs(10),
            ..Settings::default()
        };
        let never = Settings {
            idle_timeout: Duration::ZERO,
            ..settings.clone()
        };
        assert_eq!(mqtt(&settings, 60, None), Some(Duration::from_secs(100)));
        assert_eq!(mqtt(&settings, 60, Some(20)), Some(Duration::from_secs(40)));
        assert_eq!(mqtt(&settings, 0, None), Some(settings.idle_timeout));
        assert_eq!(mqtt(&settings, 60, Some(0)), Some(settings.idle_timeout));
        assert_eq!(mqtt(&never, 0, None), None);
        assert_eq!(mqtt(&never, u16::MAX, None).unwrap().as_secs(), 98312);
    }
}
