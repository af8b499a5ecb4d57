//! One thread of the data path: a `current_thread` runtime, a socket per listener, no work stealing.

use super::accept::{self, Receive};
use super::handover;
use super::limits::{Gate, Pass};
use crate::relay::{self, Clock, Context, Registry};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What one worker needs for one listener.
#[derive(Debug)]
pub struct Plan {
    /// Bound, not yet registered with a runtime.
    pub socket: TcpListener,
    /// The listener's limits.
    pub gate: Arc<Gate>,
    /// What its connections share on this worker.
    pub context: Arc<Context>,
}

/// What the workers know of each other.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
}

impl Crew {
    fn registry(&self, worker: usize) -> Arc<Registry> {
        Arc::clone(&self.members[worker].registry)
    }
}

#[derive(Debug)]
struct Member {
    registry: Arc<Registry>,
    inbox: mpsc::Sender<HandedOver>,
}

/// Sockets on their way to another worker; when the queue is full the accepting worker serves them itself.
const INBOX_SIZE: usize = 256;

#[derive(Debug)]
struct HandedOver {
    plan: usize,
    socket: std::net::TcpStream,
    client: SocketAddr,
    pass: Pass,
}

/// A running worker thread.
#[derive(Debug)]
pub struct Worker {
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts one thread per entry of `plans`; the inner lists are in the same order of listeners.
    ///
    /// `stop_accepting` ends the accept loops, `stop` ends the threads and with them every connection that is left.
    pub fn spawn_all(
        plans: Vec<(Arc<Registry>, Clock, Vec<Plan>)>,
        stop_accepting: &CancellationToken,
        stop: &CancellationToken,
    ) -> io::Result<Vec<Self>> {
        let mut inboxes = Vec::new();
        let mut members = Vec::new();
        for (registry, _, _) in &plans {
            let (inbox, receiver) = mpsc::channel(INBOX_SIZE);
            members.push(Member {
                registry: Arc::clone(registry),
                inbox,
            });
            inboxes.push(receiver);
        }
        let crew = Arc::new(Crew { members });
        plans
            .into_iter()
            .zip(inboxes)
            .enumerate()
            .map(|(index, ((_, clock, plans), inbox))| {
                let shift = Shift {
                    index,
                    crew: Arc::clone(&crew),
                    clock,
                    plans,
                    inbox,
                    stop_accepting: stop_accepting.clone(),
                    stop: stop.clone(),
                };
                // Here and not in its thread: a process out of descriptors fails to start, and does not serve with half
                // of its workers.
                let runtime = Builder::new_current_thread().enable_all().build()?;
                let thread = std::thread::Builder::new()
                    .name(format!("tidegate-{index}"))
                    .spawn(move || shift.run(&runtime))?;
                Ok(Self { thread })
            })
            .collect()
    }

    /// Waits for the thread; `true` when it ended without a panic.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// All that a worker thread owns.
struct Shift {
    index: usize,
    crew: Arc<Crew>,
    clock: Clock,
    plans: Vec<Plan>,
    inbox: mpsc::Receiver<HandedOver>,
    stop_accepting: CancellationToken,
    stop: CancellationToken,
}

impl Shift {
    /// The runtime is dropped behind this, and with it every connection that is left: their guards count them.
    fn run(self, runtime: &Runtime) {
        // An instance without one of its workers is none: its port would still take a share of the clients.
        let _with_us = self.stop.clone().drop_guard();
        runtime.block_on(self.work());
    }

    async fn work(self) {
        let tasks = tokio_util::task::TaskTracker::new();
        tasks.spawn(relay::run_clock(self.clock, self.crew.registry(self.index)));
        let contexts: Arc<[_]> = self
            .plans
            .iter()
            .map(|plan| Arc::clone(&plan.context))
            .collect();
        for (
            plan,
            Plan {
                socket,
                gate,
                context,
            },
        ) in self.plans.into_iter().enumerate()
        {
            let socket = tokio::net::TcpListener::from_std(socket)
                .expect("the socket is non-blocking and ours");
            let target = Target {
                worker: self.index,
                plan,
                crew: Arc::clone(&self.crew),
                context: Arc::clone(&context),
                tasks: tasks.clone(),
            };
            tasks.spawn(accept::run(
                socket,
                gate,
                context,
                target,
                self.stop_accepting.clone(),
            ));
        }
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = receive_handed_over(self.inbox, contexts, tasks) => {}
        }
    }
}

async fn receive_handed_over(
    mut inbox: mpsc::Receiver<HandedOver>,
    contexts: Arc<[Arc<Context>]>,
    tasks: tokio_util::task::TaskTracker,
) {
    while let Some(HandedOver {
        plan,
        socket,
        client,
        pass,
    }) = inbox.recv().await
    {
        let context = Arc::clone(&contexts[plan]);
        match TcpStream::from_std(socket) {
            Ok(socket) => spawn(&tasks, context, socket, client, pass),
            Err(error) => {
                tracing::warn!(listener = %context.listener, %error, "lost a socket between workers");
            }
        }
    }
    // All senders are gone only when the crew is: the worker stops by its token.
    std::future::pending::<()>().await;
}

fn spawn(
    tasks: &tokio_util::task::TaskTracker,
    context: Arc<Context>,
    socket: TcpStream,
    client: SocketAddr,
    pass: Pass,
) {
    tasks.spawn(relay::serve(context, socket, client, pass));
}

/// Where one accept loop sends its connections.
struct Target {
    worker: usize,
    plan: usize,
    crew: Arc<Crew>,
    context: Arc<Context>,
    tasks: tokio_util::task::TaskTracker,
}

impl Receive for Target {
    fn receive(&self, socket: TcpStream, client: SocketAddr, pass: Pass) {
        let open = self
            .crew
            .members
            .iter()
            .map(|member| member.registry.open());
        let worker = handover::worker_for(self.worker, open);
        if worker != self.worker
            && let Ok(slot) = self.crew.members[worker].inbox.try_reserve()
        {
            match socket.into_std() {
                Ok(socket) => {
                    self.context.tallies.handed_over.add(1);
                    slot.send(HandedOver {
                        plan: self.plan,
                        socket,
                        client,
                        pass,
                    });
                }
                Err(error) => {
                    tracing::warn!(listener = %self.context.listener, %error, "lost a socket");
                }
            }
            return;
        }
        spawn(&self.tasks, Arc::clone(&self.context), socket, client, pass);
    }
}
