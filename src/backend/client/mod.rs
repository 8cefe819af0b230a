//! Sessions in the cookies of the client: a record, sealed, is the cookie's value.

pub(crate) mod chunks;
mod revocations;
#[cfg(feature = "cookie")]
mod store;
mod token;

use std::{sync::Arc, time::Duration};

#[cfg(feature = "cookie")]
pub use self::store::{CookieStore, Irrevocable, Revocable};
pub(crate) use self::{
    revocations::Revocations,
    token::{Opened, Token},
};
use crate::{
    error::{Error, ErrorKind},
    id::{RandomSource, RecordId, SessionId, WriteToken},
    options::CookieOptions,
    record::Record,
    seal::Seal,
    timestamp::Timestamp,
    user::UserId,
};

/// Seals and opens the tokens of a layer.
///
/// Nobody compares versions here. The place of the version's write token holds what was the token of the
/// record of its user in the [`Revocations`], its *generation*.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    seal: Arc<dyn Seal>,
    namespace: Arc<str>,
    revocations: Option<Revocations>,
}

impl Client {
    #[cfg_attr(
        not(feature = "cookie"),
        expect(dead_code, reason = "a feature only adds names")
    )]
    pub(crate) fn new(
        seal: Arc<dyn Seal>,
        namespace: Arc<str>,
        revocations: Option<Revocations>,
    ) -> Self {
        Self {
            seal,
            namespace,
            revocations,
        }
    }

    /// What a token of that cookie holds, unless it is not ours or was issued too long ago. It may have
    /// expired, or be revoked.
    ///
    /// Fails for one that a newer version of this crate has issued.
    pub(crate) fn open(
        &self,
        cookie_name: &str,
        written: &[u8],
        now: Timestamp,
    ) -> Result<Option<Opened>, Error> {
        let opened = token::open(&*self.seal, &self.context(cookie_name), written)?;
        Ok(opened.and_then(|opened| {
            let age = now.duration_since(opened.issued_at);
            let outdated = opened.outdated || age >= TOKEN_AGE_MAX / 10;
            (age < TOKEN_AGE_MAX).then_some(Opened { outdated, ..opened })
        }))
    }

    /// Whether the beginning of a token tells that one of our keys has sealed it.
    pub(crate) fn recognizes(&self, start: &[u8]) -> bool {
        token::recognizes(&*self.seal, start)
    }

    /// Whether a session can be ended, other than by asking the browser to forget it.
    pub(crate) const fn is_revocable(&self) -> bool {
        self.revocations.is_some()
    }

    /// The token of a session, in pieces that browsers keep.
    ///
    /// Fails for one that does not fit, as one may that was made under options which left more room.
    pub(crate) fn issue(
        &self,
        options: &CookieOptions,
        id: &SessionId,
        record: &Record,
        now: Timestamp,
        random: &dyn RandomSource,
    ) -> Result<Token, Error> {
        let context = self.context(options.full_name());
        let written = token::seal(&*self.seal, &context, id, record, now, random)?;
        let values = chunks::split(&written, chunks::piece_len(options));
        values.map(Token::new).ok_or(Error::new(
            ErrorKind::TooLarge,
            "the session does not fit into the cookies that a browser keeps",
        ))
    }

    /// Bytes of data that a session can have at most, whoever its user is: what fits the cookies.
    pub(crate) fn data_bytes_max(&self, options: &CookieOptions) -> usize {
        let sealed = chunks::CHUNKS_MAX * chunks::piece_len(options) / 4 * 3;
        let besides =
            self.seal.overhead() + token::HEADER_LEN + Record::HEADER_LEN + UserId::LEN_MAX;
        sealed.saturating_sub(besides)
    }

    /// Whether a session that was opened has not been ended since.
    ///
    /// Answers the generation that it belongs to, or `None` if it was ended.
    pub(crate) async fn stands(
        &self,
        id: &RecordId,
        record: &Record,
    ) -> Result<Option<WriteToken>, Error> {
        match &self.revocations {
            None => Ok(Some(record.version.token)),
            Some(revocations) => revocations.allow(&self.namespace, id, record).await,
        }
    }

    /// Which of the generations of a user's sessions one that begins now belongs to.
    pub(crate) async fn generation(
        &self,
        user: Option<&UserId>,
        now: Timestamp,
        random: &dyn RandomSource,
    ) -> Result<WriteToken, Error> {
        match (&self.revocations, user) {
            (Some(revocations), Some(user)) => {
                let generation = revocations.generation(&self.namespace, user, now, random);
                generation.await
            }
            (None, _) | (_, None) => Ok(Revocations::FIRST_GENERATION),
        }
    }

    /// Ends a session, which would have died at `until` by itself. Answers whether nobody else had ended
    /// it before; without revocations nobody can know.
    pub(crate) async fn revoke(
        &self,
        id: &RecordId,
        until: Timestamp,
        now: Timestamp,
        random: &dyn RandomSource,
    ) -> Result<bool, Error> {
        match &self.revocations {
            None => Ok(true),
            Some(revocations) => revocations.revoke(id, until, now, random).await,
        }
    }

    /// What a token is bound to: `tower-keep cookie v1`, one byte with the length of the cookie's name, that
    /// name with its prefix and without the number of a further cookie, and the namespace.
    fn context(&self, cookie_name: &str) -> Vec<u8> {
        // Names have 75 bytes at most.
        let name_len = u8::try_from(cookie_name.len()).unwrap_or(u8::MAX);
        let parts = [
            CONTEXT,
            &[name_len],
            cookie_name.as_bytes(),
            self.namespace.as_bytes(),
        ];
        parts.concat()
    }
}

/// A token is good for as long after it was issued as browsers keep a cookie (RFC 6265bis, section 5.5), so
/// that what is kept of users whose sessions were ended need not be kept for ever.
pub(crate) const TOKEN_AGE_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

const CONTEXT: &[u8] = b"tower-keep cookie v1";
