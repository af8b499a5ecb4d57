//! A window over bytes of which the end may still be on its way.
//!
//! The window knows how long the whole is: a field that reaches over the end is a fault at once, one that merely has not
//! arrived is [`Stop::More`]. So a bad packet is refused at its first bad byte, and a good one never.

use super::fault::Fault;

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes are not there yet.
    More,
    /// They are wrong.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The unread rest of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    here: &'a [u8],
    /// Bytes of the window that have not arrived.
    coming: usize,
}

impl<'a> Reader<'a> {
    /// A window of `length` bytes, of which the front of `bytes` has arrived.
    pub(super) fn new(bytes: &'a [u8], length: usize) -> Self {
        let here = bytes.get(..length).unwrap_or(bytes);
        Self {
            here,
            coming: length.saturating_sub(here.len()),
        }
    }

    /// Bytes unread, arrived or not.
    pub(super) const fn remaining(&self) -> usize {
        self.here.len().saturating_add(self.coming)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        match self.here.split_at_checked(count) {
            Some((taken, rest)) => {
                self.here = rest;
                Ok(taken)
            }
            None if count <= self.remaining() => Err(Stop::More),
            None => Err(Fault::Overrun.into()),
        }
    }

    /// The next `length` bytes as a window of their own.
    pub(super) fn window(&mut self, length: usize) -> Result<Self, Stop> {
        if length > self.remaining() {
            return Err(Fault::Overrun.into());
        }
        let window = Self::new(self.here, length);
        self.here = self.here.get(length..).unwrap_or_default();
        self.coming = self.coming.saturating_sub(window.coming);
        Ok(window)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        match self.take(1)? {
            [byte] => Ok(*byte),
            _ => Err(Stop::More),
        }
    }

    pub(super) fn two(&mut self) -> Result<u16, Stop> {
        match self.take(2)? {
            [high, low] => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(Stop::More),
        }
    }

    pub(super) fn four(&mut self) -> Result<u32, Stop> {
        match self.take(4)? {
            [a, b, c, d] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => Err(Stop::More),
        }
    }

    /// MQTT 5.0 §1.5.6.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    /// MQTT 5.0 §1.5.4.
    pub(super) fn text(&mut self) -> Result<&'a str, Stop> {
        let text = str::from_utf8(self.binary()?).map_err(|_invalid| Fault::Utf8)?;
        if text.contains('\0') {
            return Err(Fault::Utf8.into());
        }
        Ok(text)
    }

    /// A string that names one topic.
    pub(super) fn topic(&mut self) -> Result<&'a str, Stop> {
        let topic = self.text()?;
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Err(Fault::TopicName.into());
        }
        Ok(topic)
    }

    /// MQTT 5.0 §1.5.5: up to four bytes, seven bits each, without padding.
    pub(super) fn variable(&mut self) -> Result<usize, Stop> {
        let mut value = 0_usize;
        for place in 0..4_u32 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << place.saturating_mul(7);
            if byte & 0x80 == 0 {
                return if byte == 0 && place > 0 {
                    Err(Fault::VariableInteger.into())
                } else {
                    Ok(value)
                };
            }
        }
        Err(Fault::VariableInteger.into())
    }
}
