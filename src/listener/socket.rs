//! Binding: one socket per worker on the same port, so that the kernel spreads new connections without a shared queue.

use super::settings::Settings;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// A listener's address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}: cannot bind {addr}")]
pub struct BindError {
    /// Which listener.
    pub listener: String,
    /// Its address.
    pub addr: SocketAddr,
    /// What the kernel says.
    pub source: io::Error,
}

/// Binds `count` sockets for one listener. With port 0 all get the port that the first one got.
pub fn bind_all(settings: &Settings, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let failed = |source| BindError {
        listener: settings.name.clone(),
        addr: settings.bind,
        source,
    };
    let mut addr = settings.bind;
    // Two processes that both say SO_REUSEPORT share a port in silence, and half of the clients meet the wrong one. One
    // bind without it makes a second instance on the same address fail at start.
    if addr.port() != 0 {
        drop(bind(settings, addr, false).map_err(failed)?);
    }
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bind(settings, addr, true).map_err(failed)?;
        addr = socket.local_addr().map_err(failed)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind(settings: &Settings, addr: SocketAddr, share: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(addr),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    inherited_options(&socket, settings)?;
    socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Linux hands these down from the listening socket to every accepted one: no system call per connection.
fn inherited_options(socket: &Socket, settings: &Settings) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let idle = settings.relay.tcp_keepalive;
    if !idle.is_zero() {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener;

    fn settings(bind: &str) -> Settings {
        Settings {
            name: "mqtt".into(),
            bind: bind.parse().unwrap(),
            protocol: listener::Protocol::Mqtt,
            pool: "emqx".into(),
            tls: None,
            backlog: 128,
            max_connections: None,
            max_connections_per_address: None,
            relay: crate::relay::Settings::default(),
        }
    }

    #[test]
    fn all_workers_share_one_port() {
        let sockets = bind_all(&settings("127.0.0.1:0"), 3).unwrap();
        let ports: Vec<_> = sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap().port())
            .collect();
        assert_eq!(ports, vec![ports[0]; 3]);
    }

    #[test]
    fn a_port_that_another_instance_shares_among_its_workers_is_taken() {
        let first = bind_all(&settings("127.0.0.1:0"), 2).unwrap();
        let addr = first[0].local_addr().unwrap().to_string();
        let error = bind_all(&settings(&addr), 2).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn ipv6_leaves_the_ipv4_port_to_others() {
        let first = bind_all(&settings("[::]:0"), 1).unwrap();
        let port = first[0].local_addr().unwrap().port();
        bind_all(&settings(&format!("0.0.0.0:{port}")), 1).unwrap();
    }
}
