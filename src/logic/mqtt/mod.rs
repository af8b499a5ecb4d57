//! The parts of MQTT 3.1, 3.1.1 and 5.0 that a balancer reads: the CONNECT, the first answer to it, and how long a packet
//! is. Sans-io, strict, without allocation but for the list of properties.
//!
//! Reading order: [`connect`] (the packet that is parsed in full), [`reply`] (CONNACK, AUTH), [`packet`] (framing),
//! [`property`] (MQTT 5.0 §2.2.2), `reader` (bytes that may still be on their way).

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod connect;
mod encode;
mod fault;
mod packet;
mod property;
mod reader;
mod reply;
#[cfg(test)]
mod tests;

pub use crate::logic::decoded::Decoded;
pub use connect::{Connect, Version, Will, decode_connect};
pub use encode::encode_connect;
pub use fault::{ConnectError, Fault};
pub use packet::{PacketLength, packet_length};
pub use property::{Property, Value};
pub use reply::{
    Connack, FirstReply, ReplyError, connack_unavailable, decode_first_reply, disconnect,
};
