//! A broker of a few lines on an ephemeral loopback port, for the tests of the probes.

use super::dial::Deadline;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Far beyond what any test takes: no test waits for it.
pub(super) fn patient() -> Deadline {
    Deadline::start(Duration::from_secs(30))
}

/// For the tests that are about silence.
pub(super) fn impatient() -> Deadline {
    Deadline::start(Duration::from_millis(50))
}

/// An address where nobody listens.
pub(super) fn closed_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap()
}

pub(super) struct Fake(TcpListener);

impl Fake {
    pub(super) async fn bind() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Accepts one connection and reads to its FIN. An error is a RST.
    pub(super) async fn read_to_end(&self) -> io::Result<Vec<u8>> {
        let (mut stream, _) = self.0.accept().await?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await?;
        Ok(received)
    }

    /// Accepts one connection, reads until there is `enough`, replies, closes its half and reads on to the end,
    /// whatever that is.
    pub(super) async fn serve(&self, enough: impl Fn(&[u8]) -> bool, reply: &[u8]) -> Vec<u8> {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut received = Vec::new();
        while !enough(&received) {
            if matches!(stream.read_buf(&mut received).await, Ok(0) | Err(_)) {
                return received;
            }
        }
        // The probe may have seen enough and gone: what it made of the reply is what the test asserts.
        if stream.write_all(reply).await.is_ok() && stream.shutdown().await.is_ok() {
            stream.read_to_end(&mut received).await.unwrap_or(0);
        }
        received
    }
}
