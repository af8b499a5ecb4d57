//! Why a client connection ended: one value = one log word, one counter, one test.

/// The end of a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// The client closed its side in order, and the broker followed.
    ClientClosed,
    /// The broker closed its side in order, and the client followed.
    EndpointClosed,
    /// The client's side broke (reset, TLS alert, dead peer found by TCP keepalive).
    ClientError,
    /// The broker's side broke.
    EndpointError,
    /// Nothing moved for the client's keep-alive times the factor plus slack.
    IdleTimeout,
    /// One side had closed and the other did not follow in time.
    HalfClosedTimeout,
    /// A peer did not take what was kept for it, the instance kept more than `buffers_max` for such peers, and this one had
    /// been slow for longest.
    SlowConsumer,
    /// This instance drains and closed it at the paced rate.
    Drained,
    /// This instance stopped at once (second signal, end of the drain deadline).
    Shutdown,
    /// The client went away before a broker was joined.
    ClientGone,
    /// The preface was not complete within `preface_timeout`.
    PrefaceTimeout,
    /// The CONNECT announced or reached more than `preface_bytes_max`.
    PrefaceTooLarge,
    /// The first packet was no CONNECT.
    NotMqtt,
    /// A TLS record where plain MQTT was expected.
    TlsOnPlainPort,
    /// The CONNECT broke the specification.
    MalformedConnect,
    /// A protocol level that is neither 3, 4 nor 5.
    UnsupportedVersion,
    /// The TLS handshake failed.
    TlsFailed,
    /// No eligible endpoint until the deadline.
    NoEndpoint,
    /// Endpoints were tried until the deadline or the retry limit and none joined.
    ConnectFailed,
    /// The broker refused the CONNECT (bad credentials, banned ...), and its CONNACK was passed on.
    ConnectRefused,
    /// More connections from this address than `max_connections_per_address`.
    AddressLimit,
    /// This instance holds `max_connections`.
    ConnectionLimit,
}

impl CloseReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in the order of [`CloseReason::index`].
    pub const ALL: [Self; 22] = [
        Self::ClientClosed,
        Self::EndpointClosed,
        Self::ClientError,
        Self::EndpointError,
        Self::IdleTimeout,
        Self::HalfClosedTimeout,
        Self::SlowConsumer,
        Self::Drained,
        Self::Shutdown,
        Self::ClientGone,
        Self::PrefaceTimeout,
        Self::PrefaceTooLarge,
        Self::NotMqtt,
        Self::TlsOnPlainPort,
        Self::MalformedConnect,
        Self::UnsupportedVersion,
        Self::TlsFailed,
        Self::NoEndpoint,
        Self::ConnectFailed,
        Self::ConnectRefused,
        Self::AddressLimit,
        Self::ConnectionLimit,
    ];

    /// Position in tables and metrics.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The log word and metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::EndpointClosed => "endpoint_closed",
            Self::ClientError => "client_error",
            Self::EndpointError => "endpoint_error",
            Self::IdleTimeout => "idle_timeout",
            Self::HalfClosedTimeout => "half_closed_timeout",
            Self::SlowConsumer => "slow_consumer",
            Self::Drained => "drained",
            Self::Shutdown => "shutdown",
            Self::ClientGone => "client_gone",
            Self::PrefaceTimeout => "preface_timeout",
            Self::PrefaceTooLarge => "preface_too_large",
            Self::NotMqtt => "not_mqtt",
            Self::TlsOnPlainPort => "tls_on_plain_port",
            Self::MalformedConnect => "malformed_connect",
            Self::UnsupportedVersion => "unsupported_version",
            Self::TlsFailed => "tls_failed",
            Self::NoEndpoint => "no_endpoint",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectRefused => "connect_refused",
            Self::AddressLimit => "address_limit",
            Self::ConnectionLimit => "connection_limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_position_in_all() {
        for (position, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), position, "{reason:?}");
        }
    }

    #[test]
    fn labels_are_distinct() {
        let mut labels: Vec<_> = CloseReason::ALL
            .iter()
            .map(|reason| reason.label())
            .collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), CloseReason::COUNT);
    }
}
