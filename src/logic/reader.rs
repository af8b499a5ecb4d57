//! Reading bytes that somebody else wrote: a cursor that cannot run over the end, and the shape of a decoder's answer.
//!
//! Absent on purpose: errors. A read that does not fit is `None`; only the codec knows whether that is a malformed
//! packet or one that has not arrived yet.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

/// What a decoder knows after looking at the bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// The value is there.
    Complete {
        /// What was decoded.
        value: T,
        /// Bytes that it took, from the first one.
        consumed: usize,
    },
    /// Nothing is wrong, and bytes are missing.
    Incomplete {
        /// At least so many more bytes are needed; never 0. A lower bound, exact once the length is known.
        need: usize,
    },
}

impl<T> Decoded<T> {
    /// The value, when it is complete.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Complete { value, .. } => Some(value),
            Self::Incomplete { .. } => None,
        }
    }
}

/// A cursor over bytes that are all there. A failed read moves nothing.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next `LENGTH` bytes, by value.
    pub fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (taken, rest) = self.rest.split_first_chunk::<LENGTH>()?;
        self.rest = rest;
        Some(*taken)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    /// The next two bytes, most significant first.
    pub fn u16(&mut self) -> Option<u16> {
        self.array::<2>().map(u16::from_be_bytes)
    }

    /// The next four bytes, most significant first.
    pub fn u32(&mut self) -> Option<u32> {
        self.array::<4>().map(u32::from_be_bytes)
    }

    /// Two bytes of length, then so many bytes. Both or nothing.
    pub fn prefixed(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let length = usize::from(ahead.u16()?);
        let taken = ahead.take(length)?;
        *self = ahead;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_follow_each_other_and_stop_at_the_end() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 3, 0, 1, 9, 7]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(2));
        assert_eq!(reader.u32(), Some(3));
        assert_eq!(reader.prefixed(), Some(&[9][..]));
        assert_eq!(reader.rest(), &[7]);
        assert_eq!(reader.take(1), Some(&[7][..]));
        assert!(reader.is_empty());
        assert_eq!(reader.u8(), None);
    }

    #[test]
    fn a_failed_read_moves_nothing() {
        let mut reader = Reader::new(&[0, 2, 9]);
        assert_eq!(reader.prefixed(), None);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.take(4), None);
        assert_eq!(reader.rest(), &[0, 2, 9]);
    }
}
