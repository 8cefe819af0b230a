//! The application's secrets, and the keys that are derived from them.
//!
//! Both with HKDF-SHA-256 (RFC 5869), of the bytes of the secret as they are, under the salt
//! `tower-keep keyring v1`:
//!
//! | | bytes | info |
//! |---|---|---|
//! | a key | 32 | `cookie signature`, `cookie encryption`, `record encryption` |
//! | the id that all keys of a secret have | 4 | `key id` |

use std::{fmt, sync::Arc};

use data_encoding::BASE64URL_NOPAD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::id::{RandomError, RandomSource, SystemRandom};

/// The secrets that sessions in cookies, and records at rest, are sealed with: one primary, and any
/// number of retired ones.
///
/// Whoever knows a secret can make sessions of any user. Keep it out of the source code; take it from
/// the environment or a secret store, and make it with [`generate_secret`](Self::generate_secret).
///
/// Nothing is sealed with a secret itself. Each purpose has a key of its own, derived with HKDF-SHA-256
/// (RFC 5869), so that a cookie is never mistaken for a record, nor a signature for a cipher text.
///
/// # Changing the secret
///
/// 1. Make a new one, and let it be the primary; the old one becomes a retired one.
/// 2. What is opened with a retired secret is sealed with the primary one: a session in cookies by the answer to that
///    request, a record at rest (`EncryptedStore`) when it is next changed. Where several nodes are updated one after the other, first add the new secret as a
///    *retired* one on all of them, so that each can open what another has sealed already.
/// 3. After the absolute time-out of the layer nothing is left that the old secret has sealed: drop it. Revocations of
///    sessions in cookies are kept for up to 401 days; where their store is encrypted too, keep it for that long.
///    A secret that has leaked is dropped at once; that ends the sessions that were not resealed.
///
/// # Examples
///
/// ```
/// use tower_keep::Keyring;
///
/// # let (new_secret, old_secret) = (Keyring::generate_secret()?, Keyring::generate_secret()?);
/// // both from the environment, say
/// let keyring = Keyring::new(new_secret)?.with_retired(old_secret)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The primary one first.
    secrets: Arc<[Extracted]>,
}

impl Keyring {
    /// Bytes that a secret has at least. Where each of them is random that is 256 bits, the strength of the keys that are derived
    /// from it; 32 hexadecimal digits have half of that.
    pub const SECRET_LEN_MIN: usize = 32;

    /// Bytes that a secret has at most.
    pub const SECRET_LEN_MAX: usize = 1024;

    /// Retired secrets that a keyring takes at most.
    pub const RETIRED_MAX: usize = 15;

    /// A keyring with this primary secret. Its bytes are taken as they are; a text is not decoded.
    ///
    /// # Errors
    ///
    /// [`KeyringError`] if the secret is shorter than [`SECRET_LEN_MIN`](Self::SECRET_LEN_MIN) bytes or
    /// longer than [`SECRET_LEN_MAX`](Self::SECRET_LEN_MAX), if it is one that everybody knows from some
    /// documentation, or plainly no random one: too few different bytes, a short part repeated, bytes
    /// that count up or down.
    ///
    /// A secret that passes is not thereby a good one. Nobody but a random source makes good ones.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, KeyringError> {
        let primary = Extracted::from_secret(secret.as_ref())?;
        Ok(Self {
            secrets: Arc::new([primary]),
        })
    }

    /// Adds a secret that opens what it has sealed, and seals nothing any more.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if the keyring has this secret already or is full.
    pub fn with_retired(self, secret: impl AsRef<[u8]>) -> Result<Self, KeyringError> {
        let retired = Extracted::from_secret(secret.as_ref())?;
        if self.secrets.len() > Self::RETIRED_MAX {
            return Err(KeyringError::TooMany);
        }
        if self.secrets.iter().any(|known| known.id == retired.id) {
            return Err(KeyringError::Duplicate);
        }
        let secrets = self.secrets.iter().cloned().chain([retired]);
        Ok(Self {
            secrets: secrets.collect(),
        })
    }

    /// A new secret: 512 random bits of the operating system, as 86 characters of base64url.
    ///
    /// # Errors
    ///
    /// Fails where the operating system gives no random bits.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_keep::Keyring;
    ///
    /// let secret = Keyring::generate_secret()?;
    /// println!("SESSION_SECRET={secret}");
    /// # Ok::<(), tower_keep::RandomError>(())
    /// ```
    pub fn generate_secret() -> Result<String, RandomError> {
        let mut bits = Zeroizing::new([0; 64]);
        SystemRandom.fill(&mut *bits)?;
        Ok(BASE64URL_NOPAD.encode(&*bits))
    }

    /// The keys for a purpose, each made of the 32 bytes that are derived for it.
    pub(crate) fn derive<K>(&self, purpose: Purpose, make: impl Fn(&[u8; 32]) -> K) -> Keys<K> {
        let keys = self.secrets.iter().map(|secret| {
            let key = Zeroizing::new(expand(&secret.key, purpose.label()));
            (secret.id, make(&key))
        });
        Keys(keys.collect())
    }
}

/// Shows how many secrets there are, and nothing of them.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} retired)", self.secrets.len() - 1)
    }
}

/// What a key is for. No two purposes share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    CookieSignature,
    CookieEncryption,
    RecordEncryption,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::CookieSignature => "cookie signature",
            Self::CookieEncryption => "cookie encryption",
            Self::RecordEncryption => "record encryption",
        }
    }
}

/// The keys of a keyring for one purpose, the primary one first.
pub(crate) struct Keys<K>(Vec<(KeyId, K)>);

/// Tells in clear which key has sealed something, so that no other one has to be tried.
pub(crate) type KeyId = [u8; KEY_ID_LEN];

impl<K> Keys<K> {
    pub(crate) fn primary(&self) -> &(KeyId, K) {
        // A keyring is never without one.
        &self.0[0]
    }

    /// The key of that id, and whether it is a retired one.
    pub(crate) fn find(&self, id: KeyId) -> Option<(&K, bool)> {
        let place = self.0.iter().position(|(known, _)| *known == id)?;
        Some((&self.0[place].1, place > 0))
    }
}

/// Shows how many keys there are.
impl<K> fmt::Debug for Keys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// Why a secret is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// It has less than [`Keyring::SECRET_LEN_MIN`] bytes; an unset variable has none.
    #[error("a secret has at least 32 bytes; make one with `Keyring::generate_secret`")]
    TooShort,
    /// It has more than [`Keyring::SECRET_LEN_MAX`] bytes.
    #[error("a secret has at most 1024 bytes")]
    TooLong,
    /// It is no random one.
    #[error("the secret is not random; make one with `Keyring::generate_secret`")]
    Weak,
    /// It is from somebody's documentation or template.
    #[error("the secret is one that everybody knows; make one with `Keyring::generate_secret`")]
    WellKnown,
    /// The keyring has it already.
    #[error("the keyring has this secret already")]
    Duplicate,
    /// The keyring has [`Keyring::RETIRED_MAX`] retired secrets.
    #[error(
        "a keyring has at most 15 retired secrets; drop those that nothing is sealed with any more"
    )]
    TooMany,
}

/// What is kept of a secret: the pseudorandom key of HKDF, and the id of what is derived from it.
#[derive(Clone)]
struct Extracted {
    id: KeyId,
    key: Zeroizing<[u8; 32]>,
}

impl Extracted {
    fn from_secret(secret: &[u8]) -> Result<Self, KeyringError> {
        if secret.len() < Keyring::SECRET_LEN_MIN {
            return Err(KeyringError::TooShort);
        }
        if secret.len() > Keyring::SECRET_LEN_MAX {
            return Err(KeyringError::TooLong);
        }
        if is_well_known(secret) {
            return Err(KeyringError::WellKnown);
        }
        if is_weak(secret) {
            return Err(KeyringError::Weak);
        }
        let (extracted, _) = Hkdf::<Sha256>::extract(Some(SALT), secret);
        let key = Zeroizing::new(extracted.into());
        Ok(Self {
            id: expand(&key, "key id"),
            key,
        })
    }
}

fn expand<const N: usize>(key: &[u8; 32], label: &str) -> [u8; N] {
    let mut derived = [0; N];
    // Fails for keys shorter than the hash, and for more than 255 times its length: neither is.
    let expanded =
        Hkdf::<Sha256>::from_prk(key).map(|hkdf| hkdf.expand(label.as_bytes(), &mut derived));
    assert!(
        matches!(expanded, Ok(Ok(()))),
        "32 bytes in, 32 bytes at most out"
    );
    derived
}

fn is_well_known(secret: &[u8]) -> bool {
    let secret = Zeroizing::new(secret.to_ascii_lowercase());
    let has = |phrase: &&str| {
        secret
            .windows(phrase.len())
            .any(|part| part == phrase.as_bytes())
    };
    WELL_KNOWN.iter().any(has)
}

fn is_weak(secret: &[u8]) -> bool {
    let mut seen = [false; 256];
    for &byte in secret {
        seen[usize::from(byte)] = true;
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    let repeats = |len: usize| secret.iter().zip(&secret[len..]).all(|(a, b)| a == b);
    let steps = |step: u8| {
        let follow = |pair: &&[u8]| pair[0].wrapping_add(step) == pair[1];
        secret.windows(2).filter(follow).count()
    };
    distinct < DISTINCT_MIN
        || (1..=secret.len() / 2).any(repeats)
        || steps(1).max(steps(u8::MAX)) > secret.len() / 2
}

/// Of 32 random hexadecimal digits less are different once in ten million times.
const DISTINCT_MIN: usize = 8;

const KEY_ID_LEN: usize = 4;

/// Sets the keys of this crate apart from those that others derive from the same secret.
const SALT: &[u8] = b"tower-keep keyring v1";

/// What stands in templates and documentation, in lower case. By chance one of them turns up in a secret of
/// 86 characters less than once in 10^9 times.
const WELL_KNOWN: [&str; 14] = [
    "django-insecure-",
    "change-me",
    "change_me",
    "changeme",
    "change-this",
    "change_this",
    "replace-me",
    "replace_me",
    "your-secret",
    "your_secret",
    "your-256-bit-secret",
    "keyboard cat",
    "insecure",
    "password",
];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "q3ZbX0vT7LkRwPz1mYcJ8dNfHs5uGe2A";

    fn refusal(secret: impl AsRef<[u8]>) -> Option<KeyringError> {
        Keyring::new(secret).err()
    }

    #[test]
    fn secrets_that_are_none_are_refused() {
        assert_eq!(refusal(""), Some(KeyringError::TooShort));
        assert_eq!(refusal(&GOOD[..31]), Some(KeyringError::TooShort));
        assert_eq!(refusal([7; 1025]), Some(KeyringError::TooLong));
        for weak in [
            &[0; 64][..],
            &[0xff; 32],
            b"0123456789abcdef0123456789abcdef",
            b"abcdefghijklmnopqrstuvwxyz012345",
            b"zyxwvutsrqponmlkjihgfedcba987654",
            b"aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb",
            b"secret12secret12secret12secret12sec",
        ] {
            assert_eq!(refusal(weak), Some(KeyringError::Weak), "{weak:?}");
        }
        for known in [
            "django-insecure-q3ZbX0vT7LkRwPz1mYcJ8dNfHs5uGe2A",
            "CHANGEME-q3ZbX0vT7LkRwPz1mYcJ8dNf",
            "this is my very long password for my site",
        ] {
            assert_eq!(refusal(known), Some(KeyringError::WellKnown), "{known}");
        }
        assert_eq!(refusal(GOOD), None);
    }

    #[test]
    fn what_is_generated_is_taken_and_never_the_same() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let secret = Keyring::generate_secret().unwrap();
            assert_eq!(secret.len(), 86);
            assert_eq!(refusal(&secret), None, "{secret}");
            assert!(seen.insert(secret));
        }
    }

    #[test]
    fn random_hexadecimal_digits_are_taken() {
        for _ in 0..1000 {
            let mut bits = [0; 16];
            SystemRandom.fill(&mut bits).unwrap();
            assert_eq!(refusal(data_encoding::HEXLOWER.encode(&bits)), None);
        }
    }

    #[test]
    fn the_same_secret_twice_and_too_many_are_refused() {
        let ring = Keyring::new(GOOD).unwrap();
        let again = ring.clone().with_retired(GOOD).unwrap_err();
        assert_eq!(again, KeyringError::Duplicate);
        let full = (0..15).try_fold(ring, |ring, _| {
            ring.with_retired(Keyring::generate_secret().unwrap())
        });
        let one_more = full
            .unwrap()
            .with_retired(Keyring::generate_secret().unwrap());
        assert_eq!(one_more.unwrap_err(), KeyringError::TooMany);
    }

    #[test]
    fn each_purpose_and_each_secret_has_a_key_of_its_own() {
        let ring = Keyring::new(GOOD).unwrap();
        let ring = ring
            .with_retired(Keyring::generate_secret().unwrap())
            .unwrap();
        let mut keys = std::collections::HashSet::new();
        for purpose in [
            Purpose::CookieSignature,
            Purpose::CookieEncryption,
            Purpose::RecordEncryption,
        ] {
            let derived = ring.derive(purpose, |key| *key);
            for (id, key) in &derived.0 {
                assert!(keys.insert(*key));
                assert_eq!(derived.find(*id).unwrap().0, key);
            }
            assert!(!derived.find(derived.0[0].0).unwrap().1);
            assert!(derived.find(derived.0[1].0).unwrap().1);
        }
        assert_eq!(keys.len(), 6);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(
            format!("{:?}", Keyring::new(GOOD).unwrap()),
            "Keyring(0 retired)"
        );
    }
}
