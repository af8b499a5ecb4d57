//! The tcp probe: the connect succeeds.
//!
//! It stays green when a broker at its connection limit accepts and closes; the mqtt probe and the outlier window of
//! the pool see that.

use super::ProxyHeader;
use super::dial::{self, Deadline};
use super::outcome::Failure;
use crate::logic::event::ProbeResult;
use std::net::SocketAddr;

/// Connects, sends the header if there is one, closes in order.
pub(super) async fn probe(
    addr: SocketAddr,
    header: ProxyHeader,
    deadline: &Deadline,
) -> Result<ProbeResult, Failure> {
    let stream = dial::open(addr, header, deadline).await?;
    let result = ProbeResult::Up(deadline.elapsed());
    dial::close(stream, deadline).await;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, closed_port, patient};
    use super::*;

    #[tokio::test]
    async fn a_connect_is_up_and_closes_in_order() {
        let fake = Fake::bind().await;
        let deadline = patient();
        let (received, result) = tokio::join!(
            fake.read_to_end(),
            probe(fake.addr(), ProxyHeader::None, &deadline)
        );
        assert!(matches!(result, Ok(ProbeResult::Up(_))), "{result:?}");
        assert_eq!(received.unwrap(), b"", "a FIN and no RST");
    }

    #[tokio::test]
    async fn a_v2_header_is_local_with_a_noop() {
        let fake = Fake::bind().await;
        let deadline = patient();
        let (received, result) = tokio::join!(
            fake.read_to_end(),
            probe(fake.addr(), ProxyHeader::V2, &deadline)
        );
        assert!(matches!(result, Ok(ProbeResult::Up(_))), "{result:?}");
        assert_eq!(
            received.unwrap(),
            b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x03\x04\x00\x00",
            "PROXY spec 2.2: version 2, LOCAL, AF_UNSPEC, 3 bytes: NOOP of length 0"
        );
    }

    #[tokio::test]
    async fn a_v1_header_carries_the_own_addresses() {
        let fake = Fake::bind().await;
        let deadline = patient();
        let (received, _) = tokio::join!(
            fake.read_to_end(),
            probe(fake.addr(), ProxyHeader::V1, &deadline)
        );
        let text = String::from_utf8(received.unwrap()).unwrap();
        let words: Vec<_> = text.trim_end_matches("\r\n").split(' ').collect();
        assert_eq!(
            words[..4],
            ["PROXY", "TCP4", "127.0.0.1", "127.0.0.1"],
            "{text:?}"
        );
        assert_ne!(words[4].parse::<u16>().unwrap(), 0, "{text:?}");
        assert_eq!(words[5], fake.addr().port().to_string(), "{text:?}");
        assert!(text.ends_with("\r\n"));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let result = probe(closed_port(), ProxyHeader::None, &patient()).await;
        assert_eq!(result.unwrap_err().to_string(), "connect refused");
    }
}
