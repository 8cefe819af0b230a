//! Which of the sessions in cookies were ended before their time.
//!
//! A cookie cannot be taken back. What can be kept is that it is worth nothing any more: a record a session
//! that was ended, until that would have died by itself, and a record a user whose sessions were ended
//! together. They are ordinary records, in any store.
//!
//! The record of a user holds no time. Nodes' clocks differ, and a session that was begun by one that is ahead
//! would outlive its end. It holds a *generation*, a random token, which each session has sealed into it at its
//! login; the next generation ends all sessions of the one before.

use std::{sync::Arc, time::Duration};

use sha2::{Digest, Sha256};

use super::{super::Server, TOKEN_AGE_MAX};
use crate::{
    error::{Error, StoreError, StoreErrorKind},
    id::{RandomSource, RecordId, WriteToken},
    record::{Payload, Record, Version},
    store::{Created, SessionStore, Updated},
    timestamp::Timestamp,
    user::UserId,
};

#[derive(Clone, Debug)]
pub(crate) struct Revocations {
    store: Server,
}

impl Revocations {
    /// Of users whose sessions were never ended together.
    pub(super) const FIRST_GENERATION: WriteToken = WriteToken::from_bytes([0; WriteToken::LEN]);

    #[cfg_attr(
        not(feature = "cookie"),
        expect(dead_code, reason = "a feature only adds names")
    )]
    pub(super) fn new(store: Arc<dyn SessionStore>) -> Self {
        Self {
            store: Server::new(store),
        }
    }

    /// The generation of a session that was not ended: what is to be sealed into it when it gets another id.
    ///
    /// Not what is the present generation a moment later: then all sessions of its user may have been ended,
    /// this one among them.
    pub(super) async fn allow(
        &self,
        namespace: &str,
        id: &RecordId,
        record: &Record,
    ) -> Result<Option<WriteToken>, Error> {
        let own = record.version.token;
        match self.look(&key_of_session(id)).await? {
            Mark::None => {}
            Mark::Whole(_) | Mark::Damaged => return Ok(None),
        }
        let Some(user) = &record.user else {
            return Ok(Some(own));
        };
        let first = self.look(&key_of_user(namespace, user, 0)).await?;
        // The first record outlives all sessions that were begun before it was made.
        if matches!(first, Mark::None) && own == Self::FIRST_GENERATION {
            return Ok(Some(own));
        }
        Ok(match self.look_beside(namespace, user, first).await?.1 {
            Mark::None => Some(own),
            Mark::Whole(present) => {
                let is_kept = present.payload.as_bytes() == id.as_bytes();
                let generation = present.version.token;
                (generation == own || is_kept).then_some(generation)
            }
            Mark::Damaged => None,
        })
    }

    pub(super) async fn generation(
        &self,
        namespace: &str,
        user: &UserId,
        now: Timestamp,
        random: &dyn RandomSource,
    ) -> Result<WriteToken, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let key = match self.look_at_user(namespace, user).await? {
                (_, Mark::None) => return Ok(Self::FIRST_GENERATION),
                (_, Mark::Whole(present)) => return Ok(present.version.token),
                (free, Mark::Damaged) => free,
            };
            // Nobody knows which generation it was, so that none of those before lives.
            let token = WriteToken::generate(random)?;
            let until = now.saturating_add(TOKEN_AGE_MAX);
            let next = mark(now, until, token, Payload::default());
            if self.store.create(&key, &next).await? == Created::Done {
                return Ok(token);
            }
        }
        Err(contended())
    }

    pub(super) async fn revoke(
        &self,
        id: &RecordId,
        until: Timestamp,
        now: Timestamp,
        random: &dyn RandomSource,
    ) -> Result<bool, Error> {
        let mark = mark(
            now,
            until,
            WriteToken::generate(random)?,
            Payload::default(),
        );
        let key = key_of_session(id);
        let created = match self.store.create(&key, &mark).await {
            Ok(created) => created,
            Err(_) => self.store.create(&key, &mark).await?,
        };
        Ok(match created {
            Created::Done => true,
            // Perhaps by this very call, which was sent twice and answered once.
            Created::Exists => {
                let present = self.store.load(&key).await?;
                present.is_some_and(|present| present.version.token == mark.version.token)
            }
        })
    }

    /// Begins a new generation of a user's sessions, to which none that there is belongs but `keep`.
    #[cfg_attr(
        not(feature = "cookie"),
        expect(dead_code, reason = "a feature only adds names")
    )]
    pub(super) async fn end_generation(
        &self,
        namespace: &str,
        user: &UserId,
        keep: Option<&RecordId>,
        now: Timestamp,
        random: &dyn RandomSource,
    ) -> Result<WriteToken, Error> {
        let keep = keep.map_or(Payload::default(), |keep| keep.as_bytes()[..].into());
        let token = WriteToken::generate(random)?;
        let next = mark(now, now.saturating_add(TOKEN_AGE_MAX), token, keep);
        for _ in 0..ATTEMPTS_MAX {
            let (key, present) = self.look_at_user(namespace, user).await?;
            let done = match present {
                Mark::None | Mark::Damaged => {
                    self.store.create(&key, &next).await? == Created::Done
                }
                Mark::Whole(present) => {
                    let next = Record {
                        version: present.version.next(token),
                        ..next.clone()
                    };
                    let updated = self.store.update(&key, &next, present.version).await?;
                    matches!(updated, Updated::Done)
                }
            };
            if done {
                return Ok(token);
            }
        }
        Err(contended())
    }

    /// The record of a user, and where it is or is to be.
    ///
    /// One that is damaged stays, because without it what it has ended would live; another is put beside it, and goes before it: also
    /// when the first has expired, or can be read again because a secret is back.
    async fn look_at_user(
        &self,
        namespace: &str,
        user: &UserId,
    ) -> Result<(RecordId, Mark), Error> {
        let first = self.look(&key_of_user(namespace, user, 0)).await?;
        self.look_beside(namespace, user, first).await
    }

    async fn look_beside(
        &self,
        namespace: &str,
        user: &UserId,
        first: Mark,
    ) -> Result<(RecordId, Mark), Error> {
        let mut found = (key_of_user(namespace, user, 0), first);
        for place in 1..PLACES_MAX {
            let key = key_of_user(namespace, user, place);
            match self.look(&key).await? {
                Mark::None => {
                    if matches!(found.1, Mark::Damaged) {
                        found.0 = key;
                    }
                    return Ok(found);
                }
                mark @ (Mark::Whole(_) | Mark::Damaged) => found = (key, mark),
            }
        }
        let reason = "the records of a user are damaged again and again";
        Err(StoreError::new("cookie", StoreErrorKind::Other, reason).into())
    }

    async fn look(&self, key: &RecordId) -> Result<Mark, Error> {
        match self.store.load(key).await {
            Ok(None) => Ok(Mark::None),
            Ok(Some(record)) => Ok(Mark::Whole(record)),
            Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(Mark::Damaged),
            Err(error) => Err(error.into()),
        }
    }
}

/// What the store has under a key.
enum Mark {
    None,
    Whole(Record),
    /// Something was marked, and nobody can tell what any more. In doubt it was an end.
    Damaged,
}

/// A record that outlives what it is about on every node, whatever its clock says.
fn mark(now: Timestamp, until: Timestamp, token: WriteToken, payload: Payload) -> Record {
    let until = until.min(now.saturating_add(TOKEN_AGE_MAX)).max(now);
    let until = until.saturating_add(MARGIN);
    Record {
        version: Version::first(token),
        user: None,
        created_at: now,
        expires_at: until,
        absolute_deadline: until,
        payload,
    }
}

/// Not the id of the session itself: who reads a signed cookie knows that, and a store may keep sessions of
/// its own beside.
fn key_of_session(id: &RecordId) -> RecordId {
    key(b"tower-keep revoked session v1", &[id.as_bytes()])
}

fn key_of_user(namespace: &str, user: &UserId, place: u8) -> RecordId {
    let len = u64::try_from(namespace.len()).unwrap_or(u64::MAX);
    let parts = [
        &[place][..],
        &len.to_be_bytes(),
        namespace.as_bytes(),
        user.as_str().as_bytes(),
    ];
    key(b"tower-keep user generation v1", &parts)
}

fn key(domain: &[u8], parts: &[&[u8]]) -> RecordId {
    let mut hash = Sha256::new();
    hash.update(domain);
    for part in parts {
        hash.update(part);
    }
    RecordId::from_bytes(hash.finalize().into())
}

fn contended() -> Error {
    let reason = "others go on ending the sessions of the same user";
    StoreError::new("cookie", StoreErrorKind::Unavailable, reason).into()
}

/// Each is lost only to somebody else's success.
const ATTEMPTS_MAX: u32 = 32;

/// As many as secrets of an encrypted store may be dropped while a record lives.
const PLACES_MAX: u8 = 16;

/// More than any two clocks differ.
const MARGIN: Duration = Duration::from_secs(24 * 60 * 60);
