//! What lies under a key.

#[cfg(feature = "redis")]
use std::ops::Range;

use crate::{
    id::{RecordId, WriteToken},
    record::{Record, RecordError, Version},
};

/// What lies under a key: a record, or a note of a rotation or of an end.
///
/// A record is [`Record::to_bytes`], whose first byte is not 0. A note is a 0 and a letter, then:
///
/// | letter | what | then |
/// |---|---|---|
/// | `m` | a session was here and has moved | its [version](version_bytes) after the move, and where to (32 bytes) |
/// | `p` | a session is to come here, if it has left where it was | where it was (32 bytes), and the record |
/// | `e` | a session has ended here | nothing |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stores) enum Kept {
    Record(Record),
    Moved { version: Version, to: RecordId },
    Pending { from: RecordId, record: Record },
    Ended,
}

impl Kept {
    pub(in crate::stores) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![NOTE];
        match self {
            Self::Record(record) => return record.to_bytes(),
            Self::Moved { version, to } => {
                bytes.push(MOVED);
                bytes.extend_from_slice(&version_bytes(version));
                bytes.extend_from_slice(to.as_bytes());
            }
            Self::Pending { from, record } => {
                bytes.push(PENDING);
                bytes.extend_from_slice(from.as_bytes());
                bytes.append(&mut record.to_bytes());
            }
            Self::Ended => bytes.push(ENDED),
        }
        bytes
    }

    pub(in crate::stores) fn from_bytes(bytes: Vec<u8>) -> Result<Self, RecordError> {
        let [NOTE, letter, rest @ ..] = &bytes[..] else {
            return Record::from_bytes(bytes).map(Self::Record);
        };
        match *letter {
            ENDED => Ok(Self::Ended),
            MOVED => {
                let (version, to) = rest.split_at_checked(VERSION_LEN).ok_or(CORRUPT)?;
                Ok(Self::Moved {
                    version: parse_version(version)?,
                    to: parse_id(to)?,
                })
            }
            PENDING => {
                let (from, record) = rest.split_at_checked(RecordId::LEN).ok_or(CORRUPT)?;
                Ok(Self::Pending {
                    from: parse_id(from)?,
                    record: Record::from_bytes(record)?,
                })
            }
            _ => Err(RecordError::Unsupported),
        }
    }
}

/// A version as it is at the bytes 1 to 24 of a record: the revision, big-endian, and the token.
pub(in crate::stores) fn version_bytes(version: &Version) -> [u8; VERSION_LEN] {
    let mut bytes = [0; VERSION_LEN];
    let (revision, token) = bytes.split_at_mut(size_of::<u64>());
    revision.copy_from_slice(&version.revision.to_be_bytes());
    token.copy_from_slice(version.token.as_bytes());
    bytes
}

/// How a record begins in [`Record::to_bytes`]: with its format, its version and its deadline.
#[cfg(feature = "redis")]
pub(in crate::stores) struct RecordStart([u8; DEADLINE.end]);

#[cfg(feature = "redis")]
impl RecordStart {
    /// Of the record that is to be written over by `next`, if that leaves the deadline as it is.
    pub(in crate::stores) fn of(next: &[u8; Record::HEADER_LEN], expected: &Version) -> Self {
        let mut start = [0; DEADLINE.end];
        start.copy_from_slice(&next[..DEADLINE.end]);
        start[VERSION].copy_from_slice(&version_bytes(expected));
        Self(start)
    }

    /// The bytes; without the deadline they are shorter than any record.
    pub(in crate::stores) fn as_bytes(&self, with_deadline: bool) -> &[u8] {
        match with_deadline {
            true => &self.0,
            false => &self.0[..VERSION.end],
        }
    }
}

/// Where the version is in [`Record::to_bytes`].
#[cfg(feature = "redis")]
const VERSION: Range<usize> = 1..1 + VERSION_LEN;

/// Where the deadline is. The script `update_usual.lua` reads up to here.
#[cfg(feature = "redis")]
const DEADLINE: Range<usize> = VERSION.end..VERSION.end + 8;

#[cfg(feature = "redis")]
const _: () = assert!(DEADLINE.end == 33 && DEADLINE.end + 2 * 8 + 1 == Record::HEADER_LEN);

fn parse_version(bytes: &[u8]) -> Result<Version, RecordError> {
    let (revision, token) = bytes.split_first_chunk().ok_or(CORRUPT)?;
    let token = token.try_into().map_err(|_| CORRUPT)?;
    Ok(Version {
        revision: u64::from_be_bytes(*revision),
        token: WriteToken::from_bytes(token),
    })
}

fn parse_id(bytes: &[u8]) -> Result<RecordId, RecordError> {
    let bytes = bytes.try_into().map_err(|_| CORRUPT)?;
    Ok(RecordId::from_bytes(bytes))
}

const NOTE: u8 = 0;
const MOVED: u8 = b'm';
const PENDING: u8 = b'p';
const ENDED: u8 = b'e';
const VERSION_LEN: usize = size_of::<u64>() + WriteToken::LEN;
const CORRUPT: RecordError = RecordError::Corrupt;
