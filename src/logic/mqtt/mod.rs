//! The MQTT packets that a balancer has to understand: the client's CONNECT and the broker's first answer.
//!
//! Bytes in, borrowed values out; nothing is copied, and what a decoder allocates does not grow with the input. The
//! clauses are those of MQTT 5.0 and MQTT 3.1.1 (OASIS), with MQTT 3.1 (IBM) where it differs. Reading order:
//! [`violation`] (what can be wrong), [`fixed_header`], [`property`], [`connect`], [`reply`].
//!
//! Absent on purpose: every packet after the first answer (they pass through unread), and the broker's own decisions.
//! A client id that is too long for MQTT 3.1, or empty with a stored session (3.1.1 [MQTT-3.1.3-8] asks the *server*
//! for return code 2), reaches the broker, whose answer the client gets.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod connect;
pub mod connect_encode;
pub mod connect_error;
mod field;
pub mod fixed_header;
pub mod property;
pub mod property_id;
pub mod reply;
pub mod violation;

#[cfg(test)]
mod round_trip_tests;

pub use crate::logic::reader::Decoded;
pub use connect::{Connect, QualityOfService, Will, decode_connect};
pub use connect_encode::{EncodeError, encode_connect};
pub use connect_error::ConnectError;
pub use fixed_header::{FixedHeader, packet_length};
pub use property::{Place, Properties, Property};
pub use reply::{
    Connack, DISCONNECT, FirstReply, ReplyError, connack_unavailable, decode_first_reply,
};
pub use violation::{Field, Violation};

/// The versions of the protocol that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1: name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: name `MQTT`, level 4.
    V311,
    /// MQTT 5.0: name `MQTT`, level 5.
    V5,
}

impl Version {
    /// The protocol name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }

    /// The protocol level on the wire.
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// For logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        }
    }
}
