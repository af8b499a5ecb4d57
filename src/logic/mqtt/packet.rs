//! The fixed header: what a packet is and where it ends (MQTT 5.0 §2.1).

use super::fault::Fault;

/// The frame of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLength {
    /// The first byte: type and flags.
    pub first: u8,
    /// Bytes of the fixed header, 2 to 5.
    pub header: usize,
    /// Bytes behind it.
    pub remaining: usize,
    /// The remaining length uses no more bytes than it needs; 5.0 demands that (§1.5.5), 3.1.1 is silent.
    pub minimal: bool,
}

impl PacketLength {
    /// Bytes of the whole packet.
    pub const fn total(&self) -> usize {
        self.header.saturating_add(self.remaining)
    }
}

/// Reads the fixed header at the front of `bytes`; `None` when it is not all there.
///
/// # Errors
/// [`Fault::VariableInteger`]: a remaining length of more than four bytes.
pub fn packet_length(bytes: &[u8]) -> Result<Option<PacketLength>, Fault> {
    let Some((first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let mut remaining = 0_usize;
    for (place, byte) in rest.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << place.saturating_mul(7);
        if byte & 0x80 == 0 {
            let minimal = *byte != 0 || place == 0;
            return Ok(Some(PacketLength {
                first: *first,
                header: place.saturating_add(2),
                remaining,
                minimal,
            }));
        }
    }
    if rest.len() >= 4 {
        Err(Fault::VariableInteger)
    } else {
        Ok(None)
    }
}
