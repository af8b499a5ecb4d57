//! The keys of a cluster: the first seals, all open.
//!
//! Rotation without a member leaving, each step a reload on all members: add the new key at the end, move it to the
//! front, remove the old one.

use crate::logic::secret::Secret;
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{AeadInPlace as _, KeyInit as _};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use std::sync::Arc;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Keys in a ring: every datagram of a foreign key costs one comparison per key.
pub const KEYS_MAX: usize = 16;

/// The input under which a key encrypts its own name. No datagram has this nonce: theirs begin with a random session.
const KEY_ID_NONCE: &[u8; 24] = b"tidegate key id, fixed 1";

/// What is wrong with a list of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key at all.
    #[error("there is no key")]
    Empty,
    /// More than [`KEYS_MAX`].
    #[error("there are more than {KEYS_MAX} keys")]
    TooMany,
    /// Neither base64 nor 32 bytes.
    #[error("key {line} is not base64 of {KEY_BYTES} bytes")]
    Malformed {
        /// Position in the list, from 1.
        line: usize,
    },
    /// Two keys have the same name, most likely the same key twice.
    #[error("key {line} is in the list twice")]
    Duplicate {
        /// Position of the second one, from 1.
        line: usize,
    },
    /// The system gave no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
}

/// The name of a key in the clear header: it says which key to try and nothing about the key.
pub(super) type KeyId = [u8; 4];

/// A new key as base64, one line of a keys file.
///
/// # Errors
/// [`KeyError::NoRandomness`].
pub fn generate_key() -> Result<Secret, KeyError> {
    let mut bytes = [0u8; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(Secret::new(STANDARD.encode(bytes)))
}

struct NamedKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

impl NamedKey {
    fn parse(line: usize, secret: &Secret) -> Result<Self, KeyError> {
        let bytes = STANDARD
            .decode(secret.expose().trim())
            .map_err(|_| KeyError::Malformed { line })?;
        let bytes: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| KeyError::Malformed { line })?;
        let cipher = XChaCha20Poly1305::new(Key::from_slice(&bytes));
        let mut id = KeyId::default();
        cipher
            .encrypt_in_place_detached(XNonce::from_slice(KEY_ID_NONCE), b"", &mut id)
            .map_err(|_| KeyError::Malformed { line })?;
        Ok(Self { id, cipher })
    }
}

/// The ring, swapped as a whole at reload.
pub(super) struct Keyring {
    keys: ArcSwap<Vec<NamedKey>>,
}

impl Keyring {
    pub(super) fn new(secrets: &[Secret]) -> Result<Self, KeyError> {
        Ok(Self {
            keys: ArcSwap::from_pointee(parse(secrets)?),
        })
    }

    /// Takes new keys from the next datagram on; at an error the old ones stay.
    pub(super) fn replace(&self, secrets: &[Secret]) -> Result<(), KeyError> {
        self.keys.store(Arc::new(parse(secrets)?));
        Ok(())
    }

    /// Runs `seal` with the first key.
    pub(super) fn sealing<T>(&self, seal: impl FnOnce(KeyId, &Sealer<'_>) -> T) -> Option<T> {
        let keys = self.keys.load();
        let key = keys.first()?;
        Some(seal(
            key.id,
            &Sealer {
                cipher: &key.cipher,
            },
        ))
    }

    /// Whether there is a key of this name.
    pub(super) fn knows(&self, id: KeyId) -> bool {
        self.keys.load().iter().any(|key| key.id == id)
    }

    /// Opens in place; `false` when the key is unknown or the bytes were not sealed with it.
    pub(super) fn open(
        &self,
        id: KeyId,
        nonce: &[u8; 24],
        aad: &[u8],
        body: &mut [u8],
        tag: &[u8; 16],
    ) -> bool {
        self.keys
            .load()
            .iter()
            .filter(|key| key.id == id)
            .any(|key| {
                key.cipher
                    .decrypt_in_place_detached(
                        XNonce::from_slice(nonce),
                        aad,
                        body,
                        Tag::from_slice(tag),
                    )
                    .is_ok()
            })
    }
}

/// The sealing half of one key.
pub(super) struct Sealer<'a> {
    cipher: &'a XChaCha20Poly1305,
}

impl Sealer<'_> {
    /// Encrypts in place and returns the tag; `None` only for bodies beyond 256 GB.
    pub(super) fn seal(&self, nonce: &[u8; 24], aad: &[u8], body: &mut [u8]) -> Option<[u8; 16]> {
        let tag = self
            .cipher
            .encrypt_in_place_detached(XNonce::from_slice(nonce), aad, body)
            .ok()?;
        Some(tag.into())
    }
}

fn parse(secrets: &[Secret]) -> Result<Vec<NamedKey>, KeyError> {
    if secrets.is_empty() {
        return Err(KeyError::Empty);
    }
    if secrets.len() > KEYS_MAX {
        return Err(KeyError::TooMany);
    }
    let mut keys: Vec<NamedKey> = Vec::with_capacity(secrets.len());
    for (index, secret) in secrets.iter().enumerate() {
        let key = NamedKey::parse(index + 1, secret)?;
        if keys.iter().any(|known| known.id == key.id) {
            return Err(KeyError::Duplicate { line: index + 1 });
        }
        keys.push(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Secret {
        Secret::new(STANDARD.encode([byte; KEY_BYTES]))
    }

    #[test]
    fn a_list_of_keys_is_checked_as_a_whole() {
        let parsed = |secrets: &[Secret]| Keyring::new(secrets).map(|_| ());
        assert_eq!(parsed(&[]), Err(KeyError::Empty));
        assert_eq!(parsed(&[key(1), key(2)]), Ok(()));
        assert_eq!(
            parsed(&[key(1), Secret::new("c2hvcnQ=".into())]),
            Err(KeyError::Malformed { line: 2 })
        );
        assert_eq!(
            parsed(&[Secret::new("not base64!".into())]),
            Err(KeyError::Malformed { line: 1 })
        );
        assert_eq!(
            parsed(&[key(1), key(2), key(1)]),
            Err(KeyError::Duplicate { line: 3 })
        );
        assert_eq!(parsed(&vec![key(1); KEYS_MAX + 1]), Err(KeyError::TooMany));
    }

    #[test]
    fn generated_keys_are_good_and_differ() {
        let (one, other) = (generate_key().unwrap(), generate_key().unwrap());
        assert_ne!(one, other);
        assert!(Keyring::new(&[one, other]).is_ok());
    }

    #[test]
    fn a_bad_list_leaves_the_old_keys() {
        let ring = Keyring::new(&[key(1)]).unwrap();
        let id = ring.sealing(|id, _| id).unwrap();
        assert_eq!(ring.replace(&[]), Err(KeyError::Empty));
        assert!(ring.knows(id));
        ring.replace(&[key(2)]).unwrap();
        assert!(!ring.knows(id));
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let writer = Keyring::new(&[key(2)]).unwrap();
        let reader = Keyring::new(&[key(1), key(2)]).unwrap();
        let stranger = Keyring::new(&[key(3)]).unwrap();
        let mut body = *b"hello";
        let nonce = [9; 24];
        let (id, tag) = writer
            .sealing(|id, key| (id, key.seal(&nonce, b"aad", &mut body).unwrap()))
            .unwrap();
        assert_ne!(&body, b"hello");
        assert!(!stranger.open(id, &nonce, b"aad", &mut body.clone(), &tag));
        assert!(!reader.open(id, &nonce, b"AAD", &mut body.clone(), &tag));
        assert!(reader.open(id, &nonce, b"aad", &mut body, &tag));
        assert_eq!(&body, b"hello");
    }
}
