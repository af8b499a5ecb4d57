//! When a connection counts as idle.

use super::settings::Settings;
use std::time::Duration;

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
