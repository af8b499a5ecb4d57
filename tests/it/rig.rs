//! One instance of tidegate in the test's process, in front of whatever the test makes.

use crate::support::certs::{Authority, Folder};
use crate::support::client::Door;
use crate::support::wait;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::app::{Instance, Signals};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A running instance with one pool `brokers` and the listeners `mqtt`, `mqtts`, `tcp` and `tcps`.
pub(crate) struct Rig {
    instance: Option<Instance>,
    pub(crate) authority: Authority,
    _folder: Folder,
}

impl Rig {
    /// `listener` and `pool` are more TOML for every listener and for the pool.
    pub(crate) fn start(endpoints: &[SocketAddr], listener: &str, pool: &str) -> Self {
        Self::start_with(endpoints, listener, pool, "")
    }

    /// `more` goes to the end of the file.
    pub(crate) fn start_with(
        endpoints: &[SocketAddr],
        listener: &str,
        pool: &str,
        more: &str,
    ) -> Self {
        let folder = Folder::new();
        let authority = Authority::new();
        let identity = authority.listener(&["localhost"]);
        folder.write("server.crt", &identity.cert_pem);
        folder.write("server.key", &identity.key_pem);
        folder.write("ca.crt", &authority.cert_pem);
        let endpoints: Vec<_> = endpoints.iter().map(|addr| format!("\"{addr}\"")).collect();
        let endpoints = endpoints.join(", ");
        let text = format!(
            r#"
[instance]
name = "rig"
workers = 2
[admin]
bind = "127.0.0.1:0"
[log]
access = "off"
[[listeners]]
name = "mqtt"
bind = "127.0.0.1:0"
protocol = "mqtt"
pool = "brokers"
{listener}
[[listeners]]
name = "mqtts"
bind = "127.0.0.1:0"
protocol = "mqtt"
pool = "brokers"
tls = {{ cert = "server.crt", key = "server.key", client_ca = "ca.crt", client_auth = "optional" }}
{listener}
[[listeners]]
name = "tcp"
bind = "127.0.0.1:0"
protocol = "tcp"
pool = "brokers"
{listener}
[[listeners]]
name = "tcps"
bind = "127.0.0.1:0"
protocol = "tcp"
pool = "brokers"
tls = {{ cert = "server.crt", key = "server.key", alpn = [] }}
{listener}
{more}
[pools.brokers]
endpoints = [{endpoints}]
health = {{ probe = "tcp", interval = "1h", fast_interval = "1h", fall = 100 }}
{pool}
"#
        );
        let path = folder.write("tidegate.toml", &text);
        let config = tidegate::config::load(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let instance = Instance::start(&config, Signals::Ignore).unwrap();
        Self {
            instance: Some(instance),
            authority,
            _folder: folder,
        }
    }

    fn instance(&self) -> &Instance {
        self.instance
            .as_ref()
            .expect("the instance runs until the rig is dropped")
    }

    pub(crate) fn addr(&self, listener: &str) -> SocketAddr {
        self.instance()
            .listeners()
            .iter()
            .find(|(name, _)| name == listener)
            .expect("a listener of the rig")
            .1
    }

    pub(crate) fn plain(&self) -> Door {
        Door::plain(self.addr("mqtt"))
    }

    pub(crate) fn tls(&self) -> Door {
        Door::tls(
            self.addr("mqtts"),
            "localhost",
            self.authority.client_config(),
        )
    }

    pub(crate) fn tcp(&self) -> Door {
        Door::plain(self.addr("tcp"))
    }

    pub(crate) fn tcps(&self) -> Door {
        Door::tls(
            self.addr("tcps"),
            "localhost",
            self.authority.client_config(),
        )
    }

    pub(crate) async fn wait_eligible(&self, count: usize) {
        wait::until("eligible endpoints", || {
            self.instance().eligible_endpoints() == count
        })
        .await;
    }

    pub(crate) fn drain(&self) {
        self.instance().drain();
    }

    /// GET of the admin API: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.instance().admin(), path).await
    }

    /// Connections per endpoint as `/api/v1/pools` counts them, in the order of the addresses.
    pub(crate) async fn connections(&self) -> Vec<u64> {
        let (_, body) = self.get("/api/v1/pools").await;
        let start = body.find(['{', '[']).unwrap();
        let end = body.rfind(['}', ']']).unwrap();
        let json: Value = serde_json::from_str(&body[start..=end]).unwrap();
        let endpoints = json["pools"][0]["endpoints"].as_array().unwrap().clone();
        endpoints
            .iter()
            .map(|endpoint| endpoint["own_connections"].as_u64().unwrap())
            .collect()
    }

    /// The value of one sample of `/metrics`, 0 when it is not there.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        metric(self.instance().admin(), sample).await
    }

    /// Waits until a connection of `listener` has ended with `reason`.
    pub(crate) async fn wait_closed(&self, listener: &str, reason: &str, count: f64) {
        let sample = format!(
            "tidegate_connections_closed_total{{listener=\"{listener}\",reason=\"{reason}\"}}"
        );
        self.wait_metric(&sample, |value| value >= count).await;
    }

    /// Waits until a sample `is` as wanted.
    pub(crate) async fn wait_metric(&self, sample: &str, is: impl Fn(f64) -> bool) {
        let mut value = f64::NAN;
        for _ in 0..500 {
            value = self.metric(sample).await;
            if is(value) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{sample} is {value} after 10 s");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            instance.stop();
            assert!(
                instance.wait() || std::thread::panicking(),
                "a thread of the instance panicked"
            );
        }
    }
}

/// GET of an admin API: status and body.
pub(crate) async fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: rig\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer[9..12].parse().unwrap();
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    (status, body)
}

/// The value of one sample of the `/metrics` at `admin`, 0 when it is not there.
pub(crate) async fn metric(admin: SocketAddr, sample: &str) -> f64 {
    let (_, body) = get(admin, "/metrics").await;
    body.lines()
        .find_map(|line| {
            line.strip_prefix(sample)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0.0)
}
