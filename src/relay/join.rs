//! Finding a broker that accepts the client: the walk over the endpoints, one attempt after the other until the deadline.
//! The client sees one CONNACK.

use super::attempt::{Answer, Attempt, Failure, KeepAlive, Verdict};
use super::copy::Joined;
use super::idle;
use super::outbound::Outbound;
use super::preface::{Preface, farewell};
use super::registry::{End, Guard};
use super::session::Context;
use super::thread::with_scratch;
use crate::logic::close_reason::CloseReason;
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ConnectFailure;
use crate::logic::mqtt::{Version, connack_unavailable};
use crate::pool::{PickRequest, Settings as PoolSettings, Slot, Suspicion};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A broker that has answered.
struct Found {
    slot: Slot,
    endpoint: EndpointId,
    stream: TcpStream,
    answer: Answer,
}

/// Joins a client to a broker, or says why not and has told the client.
pub(super) async fn join(guard: &mut Guard, preface: Preface) -> Result<Joined, End> {
    let started = Instant::now();
    let context = Arc::clone(&guard.context);
    let pool = context.pool.settings();
    let deadline = started + context.settings.join_timeout;
    let mut search = Search::new(&preface, deadline);
    let outcome = tokio::select! {
        // The broker's answer first: a client that has pipelined DISCONNECT and closed is served.
        biased;
        outcome = search.run(&context, &pool, &preface) => outcome,
        () = client_gone(&preface) => Err((CloseReason::ClientGone, Vec::new())),
    };
    let attempts = search.attempts;
    guard.connection.details().attempts = attempts;
    let (reason, word) = match outcome {
        Ok(found) => match found.answer.verdict {
            Verdict::Accepted => {
                guard.joined(found.endpoint, found.slot.why().label(), attempts);
                context.tallies.observe_join(started.elapsed());
                return establish(guard, preface, found).await;
            }
            // Slot and socket go before the farewell: a refused client is no connection of the broker.
            Verdict::Refused => (CloseReason::ConnectRefused, Some(found.answer.reply)),
        },
        Err((CloseReason::ClientGone, _)) => {
            search.abandon(pool.connack_timeout);
            (CloseReason::ClientGone, None)
        }
        Err((reason, reply)) => {
            let version = preface.connect.as_ref().map(|connect| connect.version);
            (reason, last_word(version, reply))
        }
    };
    if let Some(word) = word {
        farewell(preface.client, &word).await;
    }
    Err(match search.last {
        Some((endpoint, failure)) if reason == CloseReason::ConnectFailed => {
            End::with(reason, format!("{endpoint}: {}", failure.label()))
        }
        _ => reason.into(),
    })
}

/// The broker's own refusal is the better answer; without one ours says "server unavailable".
fn last_word(version: Option<Version>, reply: Vec<u8>) -> Option<Vec<u8>> {
    let version = version?;
    Some(if reply.is_empty() {
        connack_unavailable(version).to_vec()
    } else {
        reply
    })
}

async fn establish(guard: &Guard, preface: Preface, found: Found) -> Result<Joined, End> {
    let Preface {
        mut client,
        connect,
        mut bytes,
        ..
    } = preface;
    guard.count_from_client(bytes.len());
    guard.count_to_client(found.answer.reply.len());
    let settings = &guard.context.settings;
    let (idle, behind) = match &connect {
        None => (idle::plain(settings), Vec::new()),
        Some(connect) => {
            let idle = match found.answer.keep_alive {
                // The CONNACK, and the keep-alive in it, are still to come.
                KeepAlive::Unknown => idle::plain(settings),
                KeepAlive::Server(seconds) => idle::mqtt(settings, connect.keep_alive_s, seconds),
            };
            (idle, bytes.split_off(connect.length))
        }
    };
    drop(bytes);
    if !found.answer.reply.is_empty() {
        let failed = |error: io::Error| End::with(CloseReason::ClientError, error);
        // The first bytes that this client gets, but for a handshake: what is left of that goes with them.
        poll_fn(|cx| {
            Poll::Ready(with_scratch(|scratch| {
                client.poll_send(cx, &found.answer.reply, &mut scratch.sealed)
            }))
        })
        .await
        .map_err(failed)?;
    }
    Ok(Joined {
        client,
        endpoint: found.stream,
        to_endpoint: Outbound::starting_with(behind),
        slot: found.slot,
        idle,
    })
}

/// Ends when the client hangs up while we look for a broker. Bytes behind the CONNECT may be its whole story already, and
/// a `tcp` client may have closed its sending side for good: those are served to the end.
async fn client_gone(preface: &Preface) {
    match &preface.connect {
        Some(connect) if connect.length == preface.bytes.len() => preface.client.gone().await,
        _ => std::future::pending().await,
    }
}

/// The walk over the endpoints.
struct Search {
    deadline: Instant,
    attempts: u32,
    /// How often all endpoints had failed.
    rounds: u32,
    /// Failures that another endpoint's success turns into blame.
    suspicions: Vec<Suspicion>,
    /// The last failure, for the log.
    last: Option<(EndpointId, ConnectFailure)>,
    /// The attempt that runs, and since when.
    trying: Option<(Slot, Instant)>,
    excluded: Vec<EndpointId>,
    source: std::net::IpAddr,
}

impl Search {
    const fn new(preface: &Preface, deadline: Instant) -> Self {
        Self {
            deadline,
            attempts: 0,
            rounds: 0,
            suspicions: Vec::new(),
            last: None,
            trying: None,
            excluded: Vec::new(),
            source: preface.addr.ip(),
        }
    }

    async fn run(
        &mut self,
        context: &Context,
        pool: &PoolSettings,
        preface: &Preface,
    ) -> Result<Found, (CloseReason, Vec<u8>)> {
        let mut last_reply = Vec::new();
        let key = preface
            .connect
            .as_ref()
            .and_then(|connect| connect.route_key.as_deref());
        while self.attempts < pool.attempts_max && Instant::now() < self.deadline {
            let request = PickRequest {
                excluded: &self.excluded,
                source: self.source,
                route_key: key,
            };
            let slot = match context.pool.pick_until(&request, self.deadline).await {
                Ok(slot) => slot,
                Err(_) if self.excluded.is_empty() => {
                    return Err((CloseReason::NoEndpoint, last_reply));
                }
                Err(_) => {
                    // Every endpoint has failed this client once: after a breath each gets another chance.
                    self.excluded.clear();
                    let again = Instant::now() + self.breath();
                    tokio::time::sleep_until(again.min(self.deadline)).await;
                    continue;
                }
            };
            self.attempts += 1;
            if self.attempts > 1 {
                context.tallies.retries.add(1);
            }
            let endpoint = slot.endpoint();
            self.trying = Some((slot, Instant::now()));
            let attempt = Attempt {
                context,
                pool,
                preface,
                endpoint,
                deadline: self.deadline,
            };
            let answer = attempt.run().await;
            let Some((mut slot, _)) = self.trying.take() else {
                unreachable!("nobody else takes it while this runs");
            };
            match answer {
                Ok((stream, answer)) => {
                    slot.established();
                    self.suspicions.drain(..).for_each(Suspicion::confirm);
                    return Ok(Found {
                        slot,
                        endpoint,
                        stream,
                        answer,
                    });
                }
                Err(Failure { kind, reply }) => {
                    self.blame(slot, endpoint, kind);
                    let (pool, attempt) = (context.pool.name(), self.attempts);
                    tracing::debug!(pool, %endpoint, failure = kind.label(), attempt, "endpoint failed a client");
                    self.excluded.push(endpoint);
                    last_reply = if reply.is_empty() { last_reply } else { reply };
                }
            }
        }
        let reason = if self.attempts == 0 {
            CloseReason::NoEndpoint
        } else {
            CloseReason::ConnectFailed
        };
        Err((reason, last_reply))
    }

    /// Before all endpoints are tried again: half a second longer each time, at most two. A broker that restarts needs
    /// about that, and a client that is told off comes back sooner than we would have asked again.
    fn breath(&mut self) -> Duration {
        self.rounds = (self.rounds + 1).min(4);
        Duration::from_millis(500) * self.rounds
    }

    fn blame(&mut self, slot: Slot, endpoint: EndpointId, kind: ConnectFailure) {
        self.last = Some((endpoint, kind));
        if kind.may_be_the_clients_fault() {
            self.suspicions.extend(slot.suspected(kind));
        } else {
            slot.failed(kind);
        }
    }

    /// The client hung up on an attempt. Clients that are less patient than we are must not hide a broker that hangs.
    fn abandon(&mut self, patience: Duration) {
        if let Some((slot, since)) = self.trying.take()
            && since.elapsed() * 2 >= patience
        {
            slot.failed(ConnectFailure::ConnackTimeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_mqtt_client_hears_the_broker_or_us_and_a_tcp_client_nothing() {
        assert_eq!(last_word(None, vec![1]), None);
        assert_eq!(
            last_word(Some(Version::V5), vec![0x20, 3, 0, 0x97, 0]),
            Some(vec![0x20, 3, 0, 0x97, 0])
        );
        assert_eq!(
            last_word(Some(Version::V311), Vec::new()),
            Some(vec![0x20, 2, 0, 3])
        );
    }
}
