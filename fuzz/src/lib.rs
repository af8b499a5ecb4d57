//! What the fuzz targets share: tidegate's pure decoders, included by path.
//!
//! The crate is not a dependency, because that would build TLS and DNS for every fuzz run, with coverage in all of it.

pub mod logic;

use logic::reader::Decoded;
use std::fmt::Debug;

/// The limit that the targets pass to the decoders.
pub const BYTES_MAX: usize = 4096;

/// What `bytes` decode to must hold for their prefixes too: no prefix of a complete packet is complete or wrong, and an
/// error in a prefix is the error of the whole. Three prefixes per input; the fuzzer finds the others.
pub fn check_prefixes<'a, T, E>(bytes: &'a [u8], decode: impl Fn(&'a [u8]) -> Result<Decoded<T>, E>)
where
    T: Debug,
    E: Debug + PartialEq,
{
    let whole = decode(bytes);
    let length = match &whole {
        Ok(Decoded::Complete { consumed, .. }) => {
            assert!(
                (1..=bytes.len()).contains(consumed),
                "{consumed} of {}",
                bytes.len()
            );
            *consumed
        }
        Ok(Decoded::Incomplete { need }) => {
            assert_ne!(*need, 0);
            bytes.len()
        }
        Err(_) => bytes.len(),
    };
    for end in [1, length / 2, length.saturating_sub(1)] {
        if end >= length {
            continue;
        }
        match (decode(&bytes[..end]), &whole) {
            (Ok(Decoded::Complete { .. }), _) => panic!("complete at {end} of {length}"),
            (Ok(Decoded::Incomplete { need }), Ok(Decoded::Complete { .. })) => {
                assert!(
                    (1..=length - end).contains(&need),
                    "{need} at {end} of {length}"
                );
            }
            (Ok(Decoded::Incomplete { need }), _) => assert_ne!(need, 0),
            (Err(error), Err(expected)) => assert_eq!(error, *expected, "at {end}"),
            (Err(error), Ok(_)) => panic!("{error:?} at {end} of a good {length}"),
        }
    }
}
