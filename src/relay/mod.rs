//! One client connection from accept to close.
//!
//! Reading order: `session` is the whole story, `preface` reads up to the CONNECT, `join` finds a broker that accepts it by
//! one `attempt` after the other, `copy` moves bytes until the end. `outbound` keeps what a peer does not take, `pipe` has the
//! kernel move much, `slow` bounds the sum. `registry` is how the rest of the process sees and ends connections.
//!
//! Invariant: a connection is one task; nothing is held while it is idle beyond its struct; every end has one
//! [`CloseReason`](crate::logic::close_reason::CloseReason), counted and logged in one place (`registry::Guard`).

mod attempt;
mod client;
mod copy;
mod idle;
mod join;
mod outbound;
mod pipe;
mod preface;
mod registry;
mod session;
mod settings;
mod slow;
mod thread;

pub use registry::{ConnectionView, Registry};
pub use session::{Context, Session, serve};
pub use settings::{AccessLog, Settings};
pub use slow::Buffers;
pub use thread::{Clock, run_clock};
