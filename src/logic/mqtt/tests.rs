//! Replaced by the full tests of the codec.
