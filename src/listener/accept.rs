//! The accept loop: never ends by an error, holds back when the process is out of descriptors.

use super::limits::{Gate, Pass};
use crate::logic::backoff::Backoff;
use crate::logic::close_reason::CloseReason;
use crate::relay::Context;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Where an accepted connection goes.
pub(super) trait Receive {
    /// Starts serving it, here or on another worker.
    fn receive(&self, socket: TcpStream, client: SocketAddr, pass: Pass);
}

/// Accepts until `stop`, then takes what the kernel has already accepted for us: closing a listening socket resets the
/// connections in its queue.
pub(super) async fn run(
    listener: TcpListener,
    gate: Arc<Gate>,
    context: Arc<Context>,
    target: impl Receive,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    let mut random = fastrand::Rng::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept_one(&listener, &gate) => accepted,
        };
        match accepted {
            Ok((socket, client, room)) => {
                backoff.reset();
                take(&gate, &context, &target, socket, client, room);
            }
            Err(error) => {
                context.tallies.accept_errors.add(1);
                if let Some(wait) = pause(&error, &mut backoff, &mut random) {
                    tracing::warn!(listener = %context.listener, %error, wait_ms = wait.as_millis(), "cannot accept");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }
    drain_queue(&listener, &gate, &context, &target).await;
}

async fn accept_one(
    listener: &TcpListener,
    gate: &Gate,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // Looked at before, so that clients wait in the kernel's queue and not in ours; taken after, because a place that an
    // idle loop held would be lost to the busy ones. At worst one accepted client per loop waits here.
    drop(gate.room().await);
    let (socket, client) = listener.accept().await?;
    let room = gate.room().await;
    Ok((socket, client, room))
}

fn take(
    gate: &Arc<Gate>,
    context: &Context,
    target: &impl Receive,
    socket: TcpStream,
    client: SocketAddr,
    room: tokio::sync::OwnedSemaphorePermit,
) {
    context.tallies.accepted.add(1);
    match gate.admit(client.ip(), room) {
        Ok(pass) => target.receive(socket, client, pass),
        Err(reason) => refuse(context, client, reason),
    }
}

fn refuse(context: &Context, client: SocketAddr, reason: CloseReason) {
    context.tallies.closed[reason.index()].add(1);
    tracing::debug!(listener = %context.listener, %client, reason = reason.label(), "connection refused");
}

async fn drain_queue(
    listener: &TcpListener,
    gate: &Arc<Gate>,
    context: &Context,
    target: &impl Receive,
) {
    /// As deep as a queue can be; the kernel stops filling it when the socket closes.
    const QUEUE_MAX: u32 = 65535;
    for _ in 0..QUEUE_MAX {
        let next = tokio::time::timeout(Duration::ZERO, accept_one(listener, gate)).await;
        let Ok(Ok((socket, client, room))) = next else {
            break;
        };
        take(gate, context, target, socket, client, room);
    }
}

/// How long to wait after an error of accept(2). Errors of the one connection (ECONNABORTED, and the network errors that
/// Linux passes on) need no wait; being out of descriptors or memory does, else the loop would spin.
fn pause(error: &io::Error, backoff: &mut Backoff, random: &mut fastrand::Rng) -> Option<Duration> {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::PERM,
        ) => None,
        _ => Some(backoff.next(random)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn only_a_shortage_slows_the_loop_down() {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
        let mut random = fastrand::Rng::with_seed(1);
        for (errno, waits) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::CONNABORTED, false),
            (Errno::NETUNREACH, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(
                pause(&error, &mut backoff, &mut random).is_some(),
                waits,
                "{errno:?}"
            );
        }
    }
}
