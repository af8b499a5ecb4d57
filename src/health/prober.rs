//! The seam between when to probe and how: checkers call a [`Prober`], tests hand in one without sockets.

use super::dial::Deadline;
use super::http::Question;
use super::mqtt::{Login, client_id};
use super::outcome::Outcome;
use super::{Probe, Settings, http, mqtt, tcp};
use crate::logic::endpoint::Target;

/// Asks an endpoint once. Ends by itself; dropping the future abandons the probe.
pub(super) trait Prober: Send + Sync + 'static {
    /// One probe from connect to close.
    fn probe(&self, target: &Target) -> impl Future<Output = Outcome> + Send;
}

/// Probes over the network, as the settings say.
#[derive(Debug)]
pub(super) struct NetworkProber {
    pub(super) pool: String,
    pub(super) settings: Settings,
}

impl Prober for NetworkProber {
    async fn probe(&self, target: &Target) -> Outcome {
        let deadline = Deadline::start(self.settings.timeout);
        let header = self.settings.proxy_header;
        match &self.settings.probe {
            Probe::Tcp => tcp::probe(target.id.addr(), header, &deadline).await.into(),
            Probe::Http {
                path,
                port,
                expected_status,
                drain_status,
                fallback_path,
            } => {
                let question = Question {
                    path,
                    port: *port,
                    expected_status: *expected_status,
                    drain_status: *drain_status,
                    fallback_path: fallback_path.as_deref(),
                    header,
                };
                // hyper's state is ten times the rest; boxed, an endpoint that is not being probed holds none of it.
                Box::pin(http::probe(target, question, &deadline))
                    .await
                    .into()
            }
            Probe::Mqtt {
                version,
                client_id: configured,
                username,
                password,
            } => {
                let login = Login {
                    version: *version,
                    client_id: &client_id(configured, &self.pool, target.id),
                    username: username.as_deref(),
                    password: password.as_ref(),
                };
                mqtt::probe(target.id, login, header, &deadline)
                    .await
                    .into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Kind;
    use super::super::testing::Fake;
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn every_probe_is_reached_by_its_settings() {
        let http = Probe::Http {
            path: "/check".to_owned(),
            port: None,
            expected_status: 200,
            drain_status: None,
            fallback_path: None,
        };
        let mqtt = Probe::Mqtt {
            version: 5,
            client_id: "probe".to_owned(),
            username: None,
            password: None,
        };
        let answered = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        for (probe, first, reply) in [
            (Probe::Tcp, None, &b""[..]),
            (http, Some(b'G'), answered),
            (mqtt, Some(0x10), b"\x20\x03\x00\x00\x00"),
        ] {
            let fake = Fake::bind().await;
            let settings = Settings {
                probe,
                timeout: Duration::from_secs(30),
                ..Settings::default()
            };
            let prober = NetworkProber {
                pool: "emqx".to_owned(),
                settings,
            };
            let target = Target::plain(fake.addr().into());
            let wait_for = usize::from(first.is_some());
            let (received, outcome) = tokio::join!(
                fake.serve(|received| received.len() >= wait_for, reply),
                prober.probe(&target)
            );
            assert_eq!(Kind::of(&outcome), Kind::Up, "{outcome:?}");
            assert_eq!(received.first().copied(), first);
        }
    }
}
