//! What the integration tests and the demo share: brokers, fakes, a client, certificates.
//!
//! Bytes are written here from the specification's text, not by the code under test, so that a codec's mistake cannot
//! hide behind itself.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every target that includes these files uses a part of them"
)]

pub mod brokers;
pub mod certs;
pub mod client;
pub mod dns;
pub mod fake;
pub mod packet;
pub mod wait;
