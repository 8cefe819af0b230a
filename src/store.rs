//! The contract between the layer and the stores.

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use async_trait::async_trait;

use crate::{
    error::StoreError,
    id::RecordId,
    record::{Record, Version},
    timestamp::Timestamp,
    user::UserId,
};

/// Where sessions are kept. Implement it to bring a store of your own.
///
/// A store keeps [`Record`]s under [`RecordId`]s. It never sees a
/// [`SessionId`](crate::SessionId), does not look into payloads, and decides nothing about
/// sessions; it only promises that what it answers is true. The layer builds everything else on
/// these promises. `tower_keep::testing::conformance_tests!` tests each of them on a store, one
/// test a clause; the example `custom_store` shows a whole store that passes.
///
/// An implementation takes the attribute `#[async_trait]` of the crate `async-trait` 0.1.
///
/// # What every store promises
///
/// **C1 Honest loads.** [`load`](Self::load) never returns a record whose `expires_at` has
/// passed, by the store's own clock. A store that cannot tell (unreachable, refused, timed out)
/// answers an error, never `None`. *Otherwise an outage would log everybody out, and the next
/// write would put an empty session in place of the real one.*
///
/// **C2 Create inserts.** [`create`](Self::create) is one atomic insert-if-absent. If a live record
/// has the id, it is not altered and the answer is [`Created::Exists`]. *Otherwise a colliding id
/// would hand one user the session of another.*
///
/// **C3 Nothing comes back.** [`update`](Self::update), [`rotate`](Self::rotate) and
/// [`touch`](Self::touch) never create a record that was not there. Once [`delete`](Self::delete)
/// has answered, every `update` and `rotate` of that id answers `Gone` and every `touch` `false`,
/// for ever. An expired record counts as not there. *Otherwise a slow request would undo a logout.*
///
/// **C4 Compare and set.** `update` and `rotate` with a version that is not the present one change
/// nothing and answer `Conflict` with the present record. The comparison and the write are one
/// atomic step. *Otherwise concurrent requests would overwrite each other.*
///
/// **C5 Sent twice, applied once.** Client libraries send a write again after a dropped
/// connection. An `update` or `rotate` whose own write token is already in place answers `Done`
/// and changes nothing. A `create` sent twice answers `Done` or `Exists`; the record is there.
///
/// **C6 Rotation leaves one.** [`rotate`](Self::rotate) moves a record to a new id. Of two that
/// race for one record, one wins. At no moment, whatever crashes, is neither id alive. Once it has
/// answered `Done` the old id is dead. If another record lives under the new id, or if it is the old
/// one, nothing changes and the answer is [`Rotated::Exists`]. *Otherwise a login would leave the id that an attacker
/// planted, or lose the session.*
///
/// **C7 Touch moves one thing.** [`touch`](Self::touch) moves `expires_at` later and leaves all
/// else, the version included. A deadline that is not later than the present one changes nothing,
/// and neither does a touch of another version than the present one. *Otherwise a late touch would
/// undo an expiry that another request has just shortened.*
///
/// **C8 Byte for byte.** A record comes back as it was written: version, user, times to the
/// millisecond, and the payload, which may be empty, may hold any bytes, and may have 64 KiB at
/// least.
///
/// **C9 Deleting nothing is no error.** `delete` of what is not there answers `Ok(false)`.
///
/// **C10 Nothing is lost.** N writers that each load, change and update in a loop until `Done`
/// end up with N changes in the record.
///
/// **C11 Cancellation is safe.** The future of any operation may be dropped at any await. The
/// record is then as before the operation or as after it, never in between, and the store goes on to
/// work. What was sent to a server may take effect a little after the drop.
///
/// **C12 Quiet errors.** An error names the store and keeps the driver's error as its source; its
/// text, its source's text and the `Debug` of the store hold no id, no payload, no password.
///
/// # What is left to the store
///
/// - *Durability.* A store says in its documentation what an acknowledged write survives.
/// - *Eviction.* A store that drops records under memory pressure ends sessions; it says so.
/// - *When expired records go.* They must not be served; to remove them is the matter of
///   [`DeleteExpired`], or of the store's own time to live.
///
/// # What the layer promises to the store
///
/// - Ids are uniformly distributed. Any part of one is as good a shard key as any other.
/// - Within an `update` or a `rotate`, `record.version` is one revision above `expected`, with a
///   token that no other attempt has. A `create` has revision 1.
/// - No operation is awaited longer than the layer's store timeout; then its future is dropped.
/// - `created_at`, `user` and `absolute_deadline` of a record change only with a `rotate`.
/// - It calls `create` with an `expires_at` in the future of its own clock.
#[async_trait]
pub trait SessionStore: Debug + Send + Sync + 'static {
    /// The live record of that id, or `None` if there is none (C1, C8).
    ///
    /// # Errors
    ///
    /// Whenever the store does not know, [`StoreErrorKind::Corrupt`] and
    /// [`StoreErrorKind::Unsupported`] for a record that it cannot read.
    ///
    /// [`StoreErrorKind::Corrupt`]: crate::StoreErrorKind::Corrupt
    /// [`StoreErrorKind::Unsupported`]: crate::StoreErrorKind::Unsupported
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError>;

    /// Puts a record where none is (C2, C5).
    ///
    /// # Errors
    ///
    /// If the store failed; whether the record is there is then unknown.
    /// [`StoreErrorKind::TooLarge`](crate::StoreErrorKind::TooLarge) if the store does not take a
    /// record of that size; it is then not there.
    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError>;

    /// Replaces the record if its version is still `expected` (C3, C4, C5).
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create); the present record stands or is replaced, never half.
    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError>;

    /// Moves the record of `old` to `new` and replaces it, if its version is still `expected`
    /// (C3, C4, C5, C6).
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create); one of the two ids is alive.
    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError>;

    /// Moves the deadline of a live record of that version later (C3, C7). Answers whether there is
    /// one.
    ///
    /// # Errors
    ///
    /// If the store failed; the deadline is the old or the new one.
    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError>;

    /// Ends a session (C3, C9). Answers whether there was one.
    ///
    /// # Errors
    ///
    /// If the store failed; whether the session lives is then unknown.
    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError>;
}

/// What became of a [`create`](SessionStore::create).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Created {
    /// The record is in place.
    Done,
    /// The id is taken; nothing was changed.
    Exists,
}

/// What became of an [`update`](SessionStore::update).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Updated {
    /// The record is in place.
    Done,
    /// Somebody else has written since; this is the present record, and nothing was changed.
    Conflict(Record),
    /// There is no live record of that id.
    Gone,
}

/// What became of a [`rotate`](SessionStore::rotate).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Rotated {
    /// The record is in place under the new id, and the old one is dead.
    Done,
    /// Somebody else has written since; this is the present record under the old id, and nothing
    /// was changed.
    Conflict(Record),
    /// There is no live record under the old id.
    Gone,
    /// The new id is taken by another record; nothing was changed.
    Exists,
}

/// A session as it lies in a store: what the capabilities return. Its data is read with
/// [`get`](Self::get) and [`entries`](Self::entries).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Under which id.
    pub id: RecordId,
    /// What is kept there.
    pub record: Record,
}

/// A store that finds the sessions of a user: a list of one's devices, "log out everywhere".
///
/// A capability: not every store has it, and where it is missing the call does not compile.
///
/// **U1 Complete.** [`sessions_of`](Self::sessions_of) returns every live session of the user that
/// was there throughout the call, none that has expired or been deleted, and none of another user.
///
/// **U2 Final.** Once [`delete_all_of`](Self::delete_all_of) has answered, every session of the
/// user that was there when it was called is deleted as by [`delete`](SessionStore::delete), also
/// one that was rotated meanwhile, but for the one to keep. Sessions of others are not touched. The
/// ids of the live sessions that it ended, of one that was rotated the last, are what it answers, so
/// that a cache in front of the store can let go of exactly these, and an application can tell of them.
///
/// # Examples
///
/// A list of one's devices, by what the application has put into each session at its login:
///
/// ```
/// use axum::extract::State;
/// use tower_keep::{Error, MemoryStore, Session, UserSessions};
///
/// async fn devices(session: Session, State(store): State<MemoryStore>) -> Result<String, Error> {
///     let mut list = String::new();
///     if let Some(user) = session.user() {
///         let this = session.record_id();
///         for stored in store.sessions_of(&user).await? {
///             // Data that cannot be read hides no device.
///             let browser: Option<String> = stored.get("user_agent").unwrap_or_default();
///             list += browser.as_deref().unwrap_or("an unknown browser");
///             list += if this == Some(stored.id) { " (this one)\n" } else { "\n" };
///         }
///     }
///     Ok(list)
/// }
/// ```
///
/// Ending all of them but the present one:
///
/// ```
/// use axum::extract::State;
/// use tower_keep::{MemoryStore, Session, UserSessions};
///
/// async fn end_all_others(
///     session: Session,
///     State(store): State<MemoryStore>,
/// ) -> Result<String, Box<dyn std::error::Error>> {
///     let user = session.user().ok_or("log in first")?;
///     let ended = store.delete_all_of(&user, session.record_id().as_ref()).await?;
///     Ok(format!("ended {} other sessions", ended.len()))
/// }
/// ```
#[async_trait]
pub trait UserSessions: SessionStore {
    /// The live sessions of a user, in no particular order (U1).
    ///
    /// # Errors
    ///
    /// If the store failed. There is no partial answer.
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError>;

    /// Ends the sessions of a user, but for the one to keep (U2). Answers the ids of those it ended, in
    /// no particular order, and each once.
    ///
    /// # Errors
    ///
    /// If the store failed; some of the sessions may be ended. Call it again, and it answers which it
    /// ended then: of those that the call before has ended nobody is told.
    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError>;
}

/// A store that removes expired records when it is told to, as by a [`Sweeper`](crate::Sweeper).
///
/// **D1 Only the expired.** [`delete_expired`](Self::delete_expired) removes no live record.
///
/// **D2 Bounded.** One call removes at most `limit` records; called until it answers less than
/// `limit`, it has removed all that had expired when the last call began.
///
/// # Examples
///
/// ```
/// use tower_keep::{DeleteExpired, StoreError};
///
/// async fn sweep(store: &impl DeleteExpired) -> Result<(), StoreError> {
///     const BATCH: usize = 1000;
///     while store.delete_expired(BATCH).await? >= BATCH as u64 {}
///     Ok(())
/// }
/// ```
#[async_trait]
pub trait DeleteExpired: SessionStore {
    /// Removes up to `limit` expired records and answers how many it removed (D1, D2).
    ///
    /// # Errors
    ///
    /// If the store failed; some records may be removed. Call it again.
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError>;
}

/// A store that can be read from one end to the other: to count, to list, to move elsewhere.
///
/// **S1 Complete.** From no cursor until there is no next one, the pages hold every record that was
/// live throughout, and none that had expired before the page was read. A record that was written
/// meanwhile may come in either state, come twice, or not at all.
///
/// **S2 Bounded.** A page has about `limit` records; a store says if it can be more. A page may be
/// empty and yet have a next one.
///
/// # Examples
///
/// ```
/// use tower_keep::{ScanSessions, StoreError};
///
/// async fn count(store: &impl ScanSessions) -> Result<usize, StoreError> {
///     let mut count = 0;
///     let mut after = None;
///     loop {
///         let page = store.scan(after.as_ref(), 1000).await?;
///         count += page.sessions.len();
///         match page.next {
///             Some(next) => after = Some(next),
///             None => return Ok(count),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait ScanSessions: SessionStore {
    /// One page: the first, or the one behind `after` (S1, S2).
    ///
    /// # Errors
    ///
    /// If the store failed, or the cursor is not one of its own. The same page may be asked again.
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError>;
}

/// A part of what a store holds; the answer to [`ScanSessions::scan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Live sessions.
    pub sessions: Vec<StoredSession>,
    /// Where to go on, or `None` at the end.
    pub next: Option<Cursor>,
}

/// A place in a scan, in the store's own terms. It may be kept, for a scan to be resumed.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

impl Cursor {
    /// A cursor of whatever bytes the store finds its place again with.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Those bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A cursor may hold a record id, so its bytes are not shown.
impl Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({} bytes)", self.0.len())
    }
}

/// Lets an `Arc` of a store be passed wherever a store is, `Arc<dyn SessionStore>` included.
#[async_trait]
impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        (**self).load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        (**self).create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        (**self).update(id, record, expected).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        (**self).rotate(old, new, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        (**self).touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        (**self).delete(id).await
    }
}

#[async_trait]
impl<S: UserSessions + ?Sized> UserSessions for Arc<S> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        (**self).sessions_of(user).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        (**self).delete_all_of(user, keep).await
    }
}

#[async_trait]
impl<S: DeleteExpired + ?Sized> DeleteExpired for Arc<S> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        (**self).delete_expired(limit).await
    }
}

#[async_trait]
impl<S: ScanSessions + ?Sized> ScanSessions for Arc<S> {
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        (**self).scan(after, limit).await
    }
}
