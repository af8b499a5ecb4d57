//! The outcome of decoding the front of a stream: whole, or not yet. "Need more bytes" is no error.

/// What a decoder made of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// A whole value.
    Complete {
        /// The value.
        value: T,
        /// Bytes that it took from the front.
        consumed: usize,
    },
    /// Nothing wrong so far, and not all there.
    Incomplete {
        /// At least this many bytes are missing; never 0.
        need: usize,
    },
}
