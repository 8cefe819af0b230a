//! The client's secret, what stores see of it, and the random bits behind both.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

/// The secret that a client presents to be given its session: 256 random bits.
///
/// In a cookie it is written as 43 characters of base64url without padding (RFC 4648, section 5).
/// 256 bits are twice the entropy that OWASP ASVS 5.0 (7.2.3) asks of a session token.
///
/// Whoever has a `SessionId` has the session. It therefore has no `Display`, its `Debug` is
/// redacted, and it is never given to a store: stores see the [`RecordId`].
///
/// # Examples
///
/// ```
/// use tower_keep::{SessionId, SystemRandom};
///
/// let id = SessionId::generate(&SystemRandom)?;
/// let cookie_value = id.expose_secret();
/// assert_eq!(cookie_value.len(), SessionId::LEN);
/// assert_eq!(SessionId::parse(cookie_value.as_bytes()), Some(id));
/// # Ok::<(), tower_keep::RandomError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId([u8; SECRET_BYTES]);

impl SessionId {
    /// Characters in the written form of an id.
    pub const LEN: usize = 43;

    /// Makes a new id from `random`.
    ///
    /// # Errors
    ///
    /// Fails where the source of random bits fails; there is no weaker source to fall back to.
    pub fn generate(random: &dyn RandomSource) -> Result<Self, RandomError> {
        let mut secret = [0; SECRET_BYTES];
        random.fill(&mut secret)?;
        Ok(Self(secret))
    }

    /// Reads the written form, exactly: 43 characters of the alphabet, no padding, no white space,
    /// and the unused bits of the last character zero, so that no two strings mean the same id.
    #[must_use]
    pub fn parse(written: &[u8]) -> Option<Self> {
        if written.len() != Self::LEN {
            return None;
        }
        let mut secret = [0; SECRET_BYTES];
        let decoded = BASE64URL_NOPAD.decode_mut(written, &mut secret).ok()?;
        (decoded == SECRET_BYTES).then_some(Self(secret))
    }

    /// The written form, for a cookie. Whoever sees it can take over the session.
    #[must_use]
    pub fn expose_secret(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// The bits behind the written form, for what is sealed.
    pub(crate) const fn secret_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    pub(crate) const fn from_secret_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// What a store sees instead of this id.
    #[must_use]
    pub fn record_id(&self) -> RecordId {
        let mut hash = Sha256::new();
        hash.update(RECORD_ID_DOMAIN);
        hash.update(self.0);
        RecordId(hash.finalize().into())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(redacted)")
    }
}

/// The name of a record in a store: SHA-256 of the [`SessionId`] behind a domain-separation prefix.
///
/// It can be computed from the id, but the id cannot be computed from it: somebody who reads the
/// whole store can present none of what he finds.
///
/// `Debug` shows its first 8 hexadecimal digits, enough to correlate log lines.
///
/// # Examples
///
/// ```
/// use tower_keep::RecordId;
///
/// let id = RecordId::from_bytes([0xab; 32]);
/// assert_eq!(format!("{id:?}"), "RecordId(abababab)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId([u8; RecordId::LEN]);

impl RecordId {
    /// Bytes in a record id.
    pub const LEN: usize = 32;

    /// Takes the bytes that a store has kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a binary key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// All 64 lower-case hexadecimal digits, for a textual key or a file name.
    #[must_use]
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// Reads the 64 hexadecimal digits of [`RecordId::to_hex`], as an operator types them.
///
/// # Examples
///
/// ```
/// use tower_keep::RecordId;
///
/// let id = RecordId::from_bytes([0xab; 32]);
/// assert_eq!(id.to_hex().parse(), Ok(id));
/// assert!("abababab".parse::<RecordId>().is_err());
/// ```
impl FromStr for RecordId {
    type Err = RecordIdError;

    fn from_str(written: &str) -> Result<Self, RecordIdError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(written.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(RecordIdError(()))
    }
}

/// What was to be read as a [`RecordId`] is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record id has 64 hexadecimal digits")]
pub struct RecordIdError(());

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "RecordId({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// Where random bits come from.
///
/// The default, [`SystemRandom`], is right for nearly everybody. Another source is for machines
/// whose rules demand a certain module, and for tests of what happens when it fails.
/// It has to be a cryptographically secure one: ids are secrets.
///
/// # Examples
///
/// ```
/// use tower_keep::{RandomError, RandomSource};
///
/// #[derive(Debug)]
/// struct KernelDevice;
///
/// impl RandomSource for KernelDevice {
///     fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
///         use std::{fs::File, io::Read};
///         let read = File::open("/dev/random").and_then(|mut file| file.read_exact(buffer));
///         read.map_err(|error| RandomError::new(error.to_string()))
///     }
/// }
/// ```
pub trait RandomSource: fmt::Debug + Send + Sync + 'static {
    /// Fills `buffer` with random bytes.
    ///
    /// # Errors
    ///
    /// Fails where it cannot give bytes of full strength. It must never give weaker ones instead.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError>;
}

impl<R: RandomSource + ?Sized> RandomSource for Arc<R> {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        (**self).fill(buffer)
    }
}

/// The random source of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(buffer).map_err(|error| RandomError::new(error.to_string()))
    }
}

/// A source of random bits could not give any.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the random source failed: {reason}")]
pub struct RandomError {
    reason: String,
}

impl RandomError {
    /// An error with the reason that the source gives.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// Marks one attempt to write, so that a write that a client library sends twice is told from a
/// write of somebody else. Unique, but no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriteToken([u8; WriteToken::LEN]);

impl WriteToken {
    /// Bytes in a token.
    pub const LEN: usize = 16;

    /// A token that no other attempt has: random bits of this process, the time, and a count.
    ///
    /// The random bits tell processes apart, the count the attempts of one, and the time the copies
    /// of one that was suspended and resumed twice. To ask the source for each attempt would cost a
    /// system call each.
    ///
    /// # Errors
    ///
    /// Fails where the source of random bits fails, which it is asked for once in a process.
    pub fn generate(random: &dyn RandomSource) -> Result<Self, RandomError> {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);

        let process = if let Some(process) = PROCESS.get() {
            *process
        } else {
            let mut fresh = [0; 8];
            random.fill(&mut fresh)?;
            *PROCESS.get_or_init(|| u64::from_be_bytes(fresh))
        };
        // Of the operating system, not of an injected clock: it has to move.
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = time.unwrap_or_default();
        let moment = time.as_secs() << 32 | u64::from(time.subsec_nanos());
        let mut token = [0; Self::LEN];
        token[..8].copy_from_slice(&(process ^ moment).to_be_bytes());
        token[8..].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Ok(Self(token))
    }

    /// Takes the bytes that a store has kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a store to keep.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for WriteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteToken({})", HEXLOWER.encode(&self.0))
    }
}

const SECRET_BYTES: usize = 32;

/// With the secret behind it this fills one block of SHA-256 and not a byte more.
const RECORD_ID_DOMAIN: &[u8; 23] = b"tower-keep record id v1";

/// What SHA-256 can hash in one block, after its own 9 bytes of padding.
const SHA256_ONE_BLOCK: usize = 55;
const _: () = assert!(RECORD_ID_DOMAIN.len() + SECRET_BYTES <= SHA256_ONE_BLOCK);
const _: () = assert!(SessionId::LEN == (SECRET_BYTES * 8).div_ceil(6));

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct BrokenRandom;

    impl RandomSource for BrokenRandom {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError::new("no entropy"))
        }
    }

    #[test]
    fn a_hundred_thousand_ids_are_distinct_and_43_characters_long() {
        let mut seen = HashSet::new();
        for _ in 0..100_000 {
            let written = SessionId::generate(&SystemRandom).unwrap().expose_secret();
            assert_eq!(written.len(), SessionId::LEN);
            assert!(seen.insert(written));
        }
    }

    #[test]
    fn a_failing_random_source_is_an_error() {
        let error = SessionId::generate(&BrokenRandom).unwrap_err();
        assert_eq!(error.to_string(), "the random source failed: no entropy");
    }

    #[test]
    fn write_tokens_are_distinct() {
        let tokens: HashSet<_> = (0..1000)
            .map(|_| WriteToken::generate(&SystemRandom).unwrap())
            .collect();
        assert_eq!(tokens.len(), 1000);
    }

    /// The value was computed with another implementation:
    /// `printf 'tower-keep record id v1' | cat - 32-bytes-of-07 | sha256sum`.
    #[test]
    fn record_ids_are_pinned_because_every_stored_session_depends_on_them() {
        let id = SessionId([7; SECRET_BYTES]);
        assert_eq!(
            id.record_id().to_hex(),
            "e079f83388c59769cddc061dc73b6c28ca6a4dd2bd09712db00db87db80c1e1f"
        );
    }

    #[test]
    fn padding_white_space_other_alphabets_and_stray_last_bits_are_refused() {
        let good = SessionId([0xff; SECRET_BYTES]).expose_secret();
        assert!(SessionId::parse(good.as_bytes()).is_some());
        for bad in [
            format!("{good}="),
            format!(" {}", &good[1..]),
            good.replace('_', "/"),
            format!("{}9", &good[..42]),
            format!("{}\0", &good[..42]),
            good[..42].to_owned(),
            String::new(),
        ] {
            assert_eq!(SessionId::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_id_and_of_a_record_id_eight_digits() {
        let id = SessionId([9; SECRET_BYTES]);
        assert_eq!(format!("{id:?}"), "SessionId(redacted)");
        let record = id.record_id();
        assert_eq!(
            format!("{record:?}"),
            format!("RecordId({})", &record.to_hex()[..8])
        );
    }

    proptest! {
        #[test]
        fn what_parses_is_written_the_same_way_again(written in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(id) = SessionId::parse(&written) {
                prop_assert_eq!(id.expose_secret().into_bytes(), written);
            }
        }

        #[test]
        fn every_secret_survives_being_written_and_parsed(secret: [u8; SECRET_BYTES]) {
            let id = SessionId(secret);
            prop_assert_eq!(SessionId::parse(id.expose_secret().as_bytes()), Some(id));
        }
    }
}
