//! What a decoder of a growing buffer says: the whole thing, or how much is missing. "More bytes" is not an error.

/// The result of one look at a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// The buffer starts with a whole `value`.
    Complete {
        /// What was decoded.
        value: T,
        /// Bytes of the buffer that belong to `value`; what follows them is untouched.
        consumed: usize,
    },
    /// What is there is a prefix of something valid.
    Incomplete {
        /// Bytes that are missing at least, 1 or more. Reading fewer cannot complete the value; reading so many may not.
        need: usize,
    },
}
