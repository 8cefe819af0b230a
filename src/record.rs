//! What stores keep.

use std::fmt;

use bytes::{BufMut, Bytes};

use crate::{error::StoreErrorKind, id::WriteToken, timestamp::Timestamp, user::UserId};

/// A session as a store keeps it.
///
/// Everything but the payload is for the store to use: to compare versions, to find the sessions
/// of a user, to let go of what has expired. The payload is opaque to it.
///
/// A store with columns keeps the fields as they are. A store with nothing but bytes keeps
/// [`to_bytes`](Record::to_bytes), whose header has the fields that a script inside the store
/// needs at fixed places.
///
/// # Examples
///
/// ```
/// use tower_keep::{Payload, Record, SystemRandom, Timestamp, Version, WriteToken};
///
/// let record = Record {
///     version: Version { revision: 1, token: WriteToken::generate(&SystemRandom)? },
///     user: None,
///     created_at: Timestamp::from_millis(0),
///     expires_at: Timestamp::from_millis(60_000),
///     absolute_deadline: Timestamp::from_millis(600_000),
///     payload: Payload::from(b"opaque".as_slice()),
/// };
/// assert!(record.is_expired(Timestamp::from_millis(60_000)));
/// assert_eq!(Record::from_bytes(record.to_bytes())?, record);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which state of the session this is.
    pub version: Version,
    /// Whose session it is, once somebody has logged in.
    pub user: Option<UserId>,
    /// When it began: its creation, or its last login.
    pub created_at: Timestamp,
    /// When it dies unless it is used before. It is dead at this very millisecond.
    pub expires_at: Timestamp,
    /// When it dies however much it is used; never before `expires_at`.
    pub absolute_deadline: Timestamp,
    /// The data, in a form of the layer's own.
    pub payload: Payload,
}

impl Record {
    /// Bytes of [`to_bytes`](Record::to_bytes) before the user.
    pub const HEADER_LEN: usize = 50;

    /// Whether the record is dead at that time.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// The whole record as bytes, for a store that has no columns.
    ///
    /// | bytes | what, numbers in big-endian order |
    /// |---|---|
    /// | 0 | format, at present 1 |
    /// | 1 to 8 | revision |
    /// | 9 to 24 | write token |
    /// | 25 to 32 | `expires_at`, milliseconds since the epoch |
    /// | 33 to 40 | `absolute_deadline`, the same |
    /// | 41 to 48 | `created_at`, the same |
    /// | 49 | length of the user, 0 for none |
    /// | 50 … | the user, then the payload to the end |
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.parts(&self.header()).concat()
    }

    /// All that [`to_bytes`](Record::to_bytes) puts together, of which the header is the beginning.
    pub(crate) fn parts<'a>(&'a self, header: &'a [u8; Self::HEADER_LEN]) -> [&'a [u8]; 3] {
        let user = self.user.as_ref().map_or("", UserId::as_str);
        [header, user.as_bytes(), self.payload.as_bytes()]
    }

    pub(crate) fn header(&self) -> [u8; Self::HEADER_LEN] {
        let mut header = [0; Self::HEADER_LEN];
        let mut rest = &mut header[..];
        let mut put = |bytes: &[u8]| rest.put_slice(bytes);
        put(&[FORMAT]);
        put(&self.version.revision.to_be_bytes());
        put(self.version.token.as_bytes());
        for time in [self.expires_at, self.absolute_deadline, self.created_at] {
            put(&time.as_millis().to_be_bytes());
        }
        let user_len = self.user.as_ref().map_or(0, |user| user.as_str().len());
        // Bounded by `UserId`, whose longest fits this byte.
        put(&[u8::try_from(user_len).unwrap_or(u8::MAX)]);
        header
    }

    /// Reads what [`to_bytes`](Record::to_bytes) has written. No input makes it panic.
    ///
    /// # Errors
    ///
    /// [`RecordError::Corrupt`] if the bytes are no record, [`RecordError::Unsupported`] if a newer
    /// version of this crate has written them. A store reports them as the
    /// [`kind`](RecordError::kind) that they tell.
    pub fn from_bytes(bytes: impl Into<Payload>) -> Result<Self, RecordError> {
        let bytes = bytes.into().0;
        let mut rest = &bytes[..];
        match take::<1>(&mut rest)? {
            [FORMAT] => {}
            [0] => return Err(RecordError::Corrupt),
            [_] => return Err(RecordError::Unsupported),
        }
        let version = Version {
            revision: u64::from_be_bytes(*take(&mut rest)?),
            token: WriteToken::from_bytes(*take(&mut rest)?),
        };
        let expires_at = take_time(&mut rest)?;
        let absolute_deadline = take_time(&mut rest)?;
        let created_at = take_time(&mut rest)?;
        let [user_len] = *take(&mut rest)?;
        let (user, payload) = rest
            .split_at_checked(usize::from(user_len))
            .ok_or(RecordError::Corrupt)?;
        Ok(Self {
            version,
            user: parse_user(user)?,
            created_at,
            expires_at,
            absolute_deadline,
            payload: Payload(bytes.slice_ref(payload)),
        })
    }
}

/// Why bytes are no [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// They are damaged, or were something else from the start.
    #[error("the bytes are no session record")]
    Corrupt,
    /// They are in a format that this version does not know.
    #[error("the session record is in a newer format")]
    Unsupported,
}

impl RecordError {
    /// What a store reports it as.
    #[must_use]
    pub const fn kind(self) -> StoreErrorKind {
        match self {
            Self::Corrupt => StoreErrorKind::Corrupt,
            Self::Unsupported => StoreErrorKind::Unsupported,
        }
    }
}

/// Which state of a session a record is.
///
/// The revision counts up with every write, so that caches can tell newer from older. The token
/// tells a write that a client library has sent twice from the write of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// 1 for a new record, one more with each update and rotation.
    pub revision: u64,
    /// Of the attempt that wrote this state.
    pub token: WriteToken,
}

impl Version {
    pub(crate) const fn first(token: WriteToken) -> Self {
        Self { revision: 1, token }
    }

    pub(crate) const fn next(self, token: WriteToken) -> Self {
        Self {
            revision: self.revision.saturating_add(1),
            token,
        }
    }
}

/// The data of a session as opaque bytes. Cheap to clone; `Debug` shows its length alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload(Bytes);

impl Payload {
    /// The bytes, to be kept as they are.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes it is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self(self.0.slice(range))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::from(bytes))
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], RecordError> {
    let (head, tail) = rest.split_first_chunk().ok_or(RecordError::Corrupt)?;
    *rest = tail;
    Ok(head)
}

fn take_time(rest: &mut &[u8]) -> Result<Timestamp, RecordError> {
    take(rest).map(|millis| Timestamp::from_millis(i64::from_be_bytes(*millis)))
}

fn parse_user(bytes: &[u8]) -> Result<Option<UserId>, RecordError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let written = std::str::from_utf8(bytes).map_err(|_| RecordError::Corrupt)?;
    UserId::parse(written).map(Some).ok_or(RecordError::Corrupt)
}

const FORMAT: u8 = 1;

const _: () = assert!(Record::HEADER_LEN == 1 + 8 + WriteToken::LEN + 3 * 8 + 1);
const _: () = assert!(UserId::LEN_MAX == u8::MAX as usize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = Record> {
        let user = prop::option::of("[a-z@.]{1,255}");
        let payload = prop::collection::vec(any::<u8>(), 0..300);
        (any::<(u64, [u8; 16], i64, i64, i64)>(), user, payload).prop_map(
            |((revision, token, created, expires, absolute), user, payload)| Record {
                version: Version {
                    revision,
                    token: WriteToken::from_bytes(token),
                },
                user: user.and_then(|user| UserId::parse(&user)),
                created_at: Timestamp::from_millis(created),
                expires_at: Timestamp::from_millis(expires),
                absolute_deadline: Timestamp::from_millis(absolute),
                payload: payload.into(),
            },
        )
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        assert_eq!(
            Record::from_bytes(vec![2; 80]),
            Err(RecordError::Unsupported)
        );
        assert_eq!(Record::from_bytes(vec![0; 80]), Err(RecordError::Corrupt));
        assert_eq!(Record::from_bytes(vec![]), Err(RecordError::Corrupt));
    }

    #[test]
    fn debug_shows_neither_the_payload_nor_the_user() {
        let payload = Payload::from(b"pin 1234".as_slice());
        assert_eq!(format!("{payload:?}"), "Payload(8 bytes)");
    }

    proptest! {
        #[test]
        fn a_record_survives_being_written_and_read(record in records()) {
            prop_assert_eq!(Record::from_bytes(record.to_bytes()), Ok(record));
        }

        #[test]
        fn a_record_cut_in_its_header_is_corrupt(record in records(), cut in 0..Record::HEADER_LEN) {
            let bytes = record.to_bytes();
            prop_assert_eq!(Record::from_bytes(&bytes[..cut]), Err(RecordError::Corrupt));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(record) = Record::from_bytes(bytes.clone()) {
                prop_assert_eq!(record.to_bytes(), bytes);
            }
        }
    }
}
