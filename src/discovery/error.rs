//! The ways in which a look-up fails, told apart.

use crate::logic::dns_answer::Miss;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

/// Why a look-up brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The text is no DNS name.
    #[error("{name:?} is no DNS name: {reason}")]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No usable name server: resolv.conf is missing or names none.
    #[error("no name server: {0}")]
    NoNameServer(String),
    /// NXDOMAIN.
    #[error("{0} does not exist (NXDOMAIN)")]
    NoSuchName(String),
    /// NODATA.
    #[error("{name} has no {kind} record")]
    NoRecords {
        /// The name that was asked for.
        name: String,
        /// The record type.
        kind: RecordType,
    },
    /// SERVFAIL.
    #[error("the name server failed to answer {kind} {name} (SERVFAIL)")]
    ServFail {
        /// The name that was asked for.
        name: String,
        /// The record type.
        kind: RecordType,
    },
    /// No answer in time.
    #[error("no answer to {kind} {name} in time")]
    Timeout {
        /// The name that was asked for.
        name: String,
        /// The record type.
        kind: RecordType,
    },
    /// Anything else.
    #[error("{kind} {name}: {reason}")]
    Other {
        /// The name that was asked for.
        name: String,
        /// The record type.
        kind: RecordType,
        /// What hickory or the server said.
        reason: String,
    },
}

impl LookupError {
    /// The kind, for decisions and metrics.
    pub fn miss(&self) -> Miss {
        match self {
            Self::NoSuchName(_) => Miss::NxDomain,
            Self::NoRecords { .. } => Miss::NoData,
            Self::ServFail { .. } => Miss::ServFail,
            Self::Timeout { .. } => Miss::Timeout,
            Self::BadName { .. } | Self::NoNameServer(_) | Self::Other { .. } => Miss::Other,
        }
    }

    /// hickory's error, by what it means for the name.
    pub(super) fn new(error: &NetError, name: &Name, kind: RecordType) -> Self {
        let name = name.to_utf8();
        match error {
            error if error.is_nx_domain() => Self::NoSuchName(name),
            NetError::Dns(DnsError::NoRecordsFound(none))
                if none.response_code == ResponseCode::NoError =>
            {
                Self::NoRecords { name, kind }
            }
            NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
                Self::ServFail { name, kind }
            }
            NetError::Timeout => Self::Timeout { name, kind },
            error => Self::Other {
                name,
                kind,
                reason: error.to_string(),
            },
        }
    }
}
