//! What is sealed into a cookie, and its written form.
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 31 | the session's id |
//! | 32 to 39 | when the token was issued, milliseconds since the epoch, in big-endian order |
//! | 40 … | the record, as [`Record::to_bytes`] writes it |

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use crate::{
    error::Error,
    id::{RandomSource, SessionId},
    record::{Payload, Record},
    seal::Seal,
    timestamp::Timestamp,
};

/// A sealed session in its written form: base64url without padding. Whoever has it has the session.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} characters)", self.0.len())
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

pub(super) fn seal(
    seal: &dyn Seal,
    context: &[u8],
    id: &SessionId,
    record: &Record,
    now: Timestamp,
    random: &dyn RandomSource,
) -> Result<Token, Error> {
    let record = record.to_bytes();
    let issued_at = now.as_millis().to_be_bytes();
    let body = [&id.secret_bytes()[..], &issued_at, &record].concat();
    let sealed = seal.seal(context, &body, random)?;
    Ok(Token(BASE64URL_NOPAD.encode(&sealed)))
}

pub(super) fn open(seal: &dyn Seal, context: &[u8], written: &[u8]) -> Option<Opened> {
    let sealed = BASE64URL_NOPAD.decode(written).ok()?;
    let opened = seal.open(context, &sealed)?;
    let body = Payload::from(opened.body);
    let (id, rest) = body.as_bytes().split_first_chunk()?;
    let (issued_at, _) = rest.split_first_chunk()?;
    let record = Record::from_bytes(body.slice(HEADER_LEN..body.len())).ok()?;
    Some(Opened {
        id: SessionId::from_secret_bytes(*id),
        issued_at: Timestamp::from_millis(i64::from_be_bytes(*issued_at)),
        record,
        outdated: opened.outdated,
    })
}

/// Bytes before the record.
pub(super) const HEADER_LEN: usize = 32 + 8;
