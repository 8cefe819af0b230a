//! Rotation where no write spans two keys.
//!
//! The new key gets the record as *pending*, which is no session yet. Then one compare-and-set turns the old key into a
//! note of where the session went: that is the moment of the rotation. At last the pending record becomes a plain one.
//! Who meets a pending record before that looks at the old key: if the session has left there for here, it is alive. So
//! whatever crashes, one of the two ids is alive, and never both.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::oneshot, time::timeout};

use super::value::Kept;
use crate::{
    error::StoreError,
    id::RecordId,
    record::{Record, Version},
    store::Rotated,
    timestamp::Timestamp,
};

/// The single steps, each atomic under its key.
#[async_trait]
pub(in crate::stores) trait Keys: Sync {
    /// The time by the store's clock.
    fn now(&self) -> Timestamp;

    /// What is under that key, expired or not.
    async fn kept(&self, id: &RecordId) -> Result<Option<Kept>, StoreError>;

    /// Puts the record there as pending, unless a session lives there or has been there.
    async fn place(
        &self,
        new: &RecordId,
        old: &RecordId,
        record: &Record,
    ) -> Result<Placed, StoreError>;

    /// Lets the user's index know of the session, if there is an index.
    async fn note(&self, new: &RecordId, record: &Record) -> Result<(), StoreError>;

    /// Turns the session of that version into a note that it has moved, which is kept for as long as the record.
    async fn retire(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Retired, StoreError>;

    /// Makes a plain record of the pending one of that version, and answers what is there then.
    async fn confirm(&self, new: &RecordId, version: Version) -> Result<Option<Kept>, StoreError>;

    /// Removes the pending record of that version.
    async fn take_back(&self, new: &RecordId, version: Version) -> Result<(), StoreError>;

    /// Lets go of the note at the old key soon, when the new one does not need it any more; and at once of
    /// its entry in an index.
    async fn forget_soon(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
    ) -> Result<(), StoreError>;
}

/// What became of [`Keys::place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stores) enum Placed {
    /// The record is there; or has been, sent by an earlier attempt.
    Done,
    /// Another session lives there.
    Taken,
    /// A session has ended there, or has moved on.
    Left,
}

/// What became of [`Keys::retire`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stores) enum Retired {
    /// It has moved now; or had already, by an earlier attempt.
    Done,
    /// There is something else.
    Present(Kept),
    /// There is no session.
    Gone,
}

/// Moves a session to another key, in a task that goes on if the caller is dropped. `None` if it took longer
/// than that, as far as is known without having happened.
pub(in crate::stores) async fn rotate_apart<K: Keys + Clone + Send + 'static>(
    keys: &K,
    old: &RecordId,
    new: &RecordId,
    record: &Record,
    expected: Version,
    limit: Duration,
) -> Option<Result<Rotated, StoreError>> {
    let (answer, answered) = oneshot::channel();
    let (keys, old, new, record) = (keys.clone(), *old, *new, record.clone());
    let has_moved = Arc::new(AtomicBool::new(false));
    let moved = Arc::clone(&has_moved);
    tokio::spawn(async move {
        let placed = place(&keys, &old, &new, &record).await;
        // The caller was told that it failed: it must not happen after that. What is pending is no session.
        if answer.is_closed() {
            return;
        }
        let rotated = match placed {
            Ok(None) => move_over(&keys, &old, &new, &record, expected).await,
            Ok(Some(rotated)) => Ok(rotated),
            Err(error) => Err(error),
        };
        let is_done = matches!(rotated, Ok(Rotated::Done));
        moved.store(is_done, Release);
        // Whoever loads it does the same, if this fails; and needs the note for it.
        let is_plain = is_done && keys.confirm(&new, record.version).await.is_ok();
        // The caller may have gone.
        let _ = answer.send(rotated);
        if is_plain {
            // At worst the note stays for as long as the session.
            let _ = keys.forget_soon(&old, &new, &record).await;
        }
    });
    match timeout(limit, answered).await {
        Ok(rotated) => rotated.ok(),
        Err(_) => has_moved.load(Acquire).then_some(Ok(Rotated::Done)),
    }
}

/// Makes the new key ready, or says why not.
async fn place(
    keys: &impl Keys,
    old: &RecordId,
    new: &RecordId,
    record: &Record,
) -> Result<Option<Rotated>, StoreError> {
    match keys.place(new, old, record).await? {
        Placed::Taken => Ok(Some(Rotated::Exists)),
        // By an earlier attempt it has come here, and is gone again; or else that was some other session.
        Placed::Left => {
            let came = has_moved(keys, old, record.version).await?;
            Ok(Some(if came { Rotated::Done } else { Rotated::Exists }))
        }
        Placed::Done => {
            keys.note(new, record).await?;
            Ok(None)
        }
    }
}

/// Moves the session to the key that is ready.
async fn move_over(
    keys: &impl Keys,
    old: &RecordId,
    new: &RecordId,
    record: &Record,
    expected: Version,
) -> Result<Rotated, StoreError> {
    loop {
        let retired = match keys.retire(old, new, record, expected).await? {
            Retired::Done => return Ok(Rotated::Done),
            Retired::Gone => Rotated::Gone,
            Retired::Present(kept) => match settled(keys, old, Some(kept)).await? {
                // It has just become what it was expected to be.
                Some(present) if present.version == expected => continue,
                Some(present) => Rotated::Conflict(present),
                None => Rotated::Gone,
            },
        };
        keys.take_back(new, record.version).await?;
        return Ok(retired);
    }
}

/// The record, if what is under the key is a live session; a pending one is first settled.
pub(in crate::stores) async fn settled(
    keys: &impl Keys,
    id: &RecordId,
    kept: Option<Kept>,
) -> Result<Option<Record>, StoreError> {
    let record = match kept {
        Some(Kept::Record(record)) => Some(record),
        None => None,
        kept => Box::pin(plain(keys, id, kept)).await?,
    };
    Ok(record.filter(|record| !record.is_expired(keys.now())))
}

async fn plain(
    keys: &impl Keys,
    id: &RecordId,
    kept: Option<Kept>,
) -> Result<Option<Record>, StoreError> {
    match kept {
        Some(Kept::Record(record)) => Ok(Some(record)),
        Some(Kept::Pending { from, record }) => {
            if !has_moved(keys, &from, record.version).await? {
                return Ok(None);
            }
            match keys.confirm(id, record.version).await? {
                Some(Kept::Record(record)) => Ok(Some(record)),
                Some(Kept::Pending { .. } | Kept::Moved { .. } | Kept::Ended) | None => Ok(None),
            }
        }
        Some(Kept::Moved { .. } | Kept::Ended) | None => Ok(None),
    }
}

async fn has_moved(
    keys: &impl Keys,
    from: &RecordId,
    version: Version,
) -> Result<bool, StoreError> {
    let kept = keys.kept(from).await?;
    Ok(matches!(kept, Some(Kept::Moved { version: moved, .. }) if moved == version))
}

/// How long a key remembers that its session has moved or ended: many times longer than a write may
/// be on its way.
pub(in crate::stores) const NOTE_TTL: Duration = Duration::from_secs(60);

/// How far behind the clock of another node may be. A key outlives its record by that.
pub(in crate::stores) const CLOCK_SLACK: Duration = Duration::from_secs(300);
