//! What is sealed into a cookie, and its written form.
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 31 | the session's id |
//! | 32 to 39 | when the token was issued, milliseconds since the epoch, in big-endian order |
//! | 40 … | the record, as [`Record::to_bytes`] writes it |
//!
//! That is the body of a seal; all of it is then written as base64url without padding.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use crate::{
    error::{Error, StoreError},
    id::{RandomSource, SessionId},
    record::{Record, RecordError},
    seal::Seal,
    timestamp::Timestamp,
};

/// A sealed session as the values of one cookie or several. Whoever has them has the session.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(Vec<String>);

impl Token {
    pub(super) const fn new(values: Vec<String>) -> Self {
        Self(values)
    }

    pub(crate) fn expose_secret(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} cookies)", self.0.len())
    }
}

/// What a token holds.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) id: SessionId,
    pub(crate) issued_at: Timestamp,
    pub(crate) record: Record,
    /// With a retired key, or so long ago that it is to be issued again.
    pub(crate) outdated: bool,
}

impl Opened {
    /// Of two states of one session the later is greater.
    pub(crate) fn state(&self) -> (u64, Timestamp) {
        (self.record.version.revision, self.issued_at)
    }
}

pub(super) fn seal(
    seal: &dyn Seal,
    context: &[u8],
    id: &SessionId,
    record: &Record,
    now: Timestamp,
    random: &dyn RandomSource,
) -> Result<String, Error> {
    let issued_at = now.as_millis().to_be_bytes();
    let body = [&id.secret_bytes()[..], &issued_at, &record.to_bytes()];
    let sealed = seal.seal(context, &body, random)?;
    Ok(BASE64URL_NOPAD.encode(&sealed))
}

/// Fails for a record of a newer version, which is not to be taken for none and written over.
pub(super) fn open(
    seal: &dyn Seal,
    context: &[u8],
    written: &[u8],
) -> Result<Option<Opened>, Error> {
    let sealed = BASE64URL_NOPAD.decode(written).ok();
    let Some(opened) = sealed.and_then(|sealed| seal.open(context, sealed)) else {
        return Ok(None);
    };
    let body = opened.body;
    let Some((header, _)) = body.as_bytes().split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let [id @ .., a, b, c, d, e, f, g, h] = *header;
    let record = match Record::from_bytes(body.slice(HEADER_LEN..body.len())) {
        Ok(record) => record,
        Err(RecordError::Corrupt) => return Ok(None),
        Err(error @ RecordError::Unsupported) => {
            return Err(StoreError::new("cookie", error.kind(), error).into());
        }
    };
    Ok(Some(Opened {
        id: SessionId::from_secret_bytes(id),
        issued_at: Timestamp::from_millis(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        record,
        outdated: opened.outdated,
    }))
}

/// Whether that is the beginning of a token that one of our keys has sealed.
pub(super) fn recognizes(seal: &dyn Seal, start: &[u8]) -> bool {
    let start = start.get(..START_LEN);
    let header = start.and_then(|start| BASE64URL_NOPAD.decode(start).ok());
    header.is_some_and(|header| seal.recognizes(&header))
}

/// Characters of a token from which its format and key id can be read.
const START_LEN: usize = 8;

/// Bytes before the record.
pub(super) const HEADER_LEN: usize = 32 + 8;
