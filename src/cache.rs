//! The contract between [`CachedStore`](crate::CachedStore) and what it puts in front of a store.

use std::{fmt::Debug, time::Duration};

use crate::{
    error::StoreError,
    id::RecordId,
    record::{Record, Version},
    timestamp::Timestamp,
};

/// Keeps copies of records in front of a store. Implement it to bring a cache of your own.
///
/// A cache may forget anything at any time, and may fail at any time. What it must not do is to
/// keep what it was told to let go of, or to take a copy that has become outdated on its way. A reader that
/// has fetched a record before a logout, and puts it into the cache after it, would undo the logout;
/// a slow writer would hide a newer write. Each such copy is therefore put in under a condition that only
/// holds while nothing has happened to the record since. `tower_keep::testing::record_cache_tests!`
/// tests each clause on a cache.
///
/// # What every cache promises
///
/// Each operation is atomic for its id.
///
/// **K1 Copies come back.** A [`get`](Self::get) finds the whole record that was put in last, or nothing.
///
/// **K2 A fill needs its ticket.** A `get` that finds nothing hands out a ticket. [`fill`](Self::fill) puts the
/// record in only if there still is nothing, and neither a [`replace`](Self::replace) nor a
/// [`remove`](Self::remove) of that id has come since the ticket was handed out; whatever the cache has lost or
/// evicted meanwhile, and however long it took. *A mark that is left behind by a logout could be evicted, or
/// outlived by a reader that stands still; a ticket cannot.*
///
/// **K3 A replacement needs its predecessor.** `replace` puts the record in only in place of the version that
/// the writer has replaced in the store. If the present copy is older than the record and is not that version,
/// it is let go of. If it is the same or newer, it stays. If there is none, none is put in.
///
/// **K4 What is removed stays away.** After `remove` a `get` finds nothing until a fill with a later ticket. A cache
/// on servers says where it cannot keep this: when one fails over to another that has not heard of the removal, or is
/// started anew with what it had before.
///
/// **K5 A touch moves the deadline alone**, of the copy of that version, and only later.
///
/// **K6 Nothing outlives its time.** No copy is found later than [`time_to_live`](Self::time_to_live) after the
/// ticket was handed out that brought it; a replacement has the time of its predecessor, and a touch gives none.
///
/// **K7 Quiet errors**, as clause C12 of [`SessionStore`](crate::SessionStore).
///
/// Whether a copy has expired is not the cache's matter: who asks for it looks at its deadline.
///
/// # Examples
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use tower_keep::{Payload, Record, RecordId, StoreError, Version, WriteToken};
/// use tower_keep::{Cached, MemoryCache, RecordCache};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), StoreError> {
/// # let id = RecordId::from_bytes([1; RecordId::LEN]);
/// # let later = (SystemTime::now() + Duration::from_secs(60)).into();
/// # let record = Record {
/// #     version: Version { revision: 1, token: WriteToken::from_bytes([1; WriteToken::LEN]) },
/// #     user: None,
/// #     created_at: SystemTime::now().into(),
/// #     expires_at: later,
/// #     absolute_deadline: later,
/// #     payload: Payload::default(),
/// # };
/// let cache = MemoryCache::of_sole_process();
/// let Cached::Miss(Some(ticket)) = cache.get(&id).await? else {
///     panic!("nothing was put in");
/// };
/// // Between the miss and the fill somebody logs out.
/// cache.remove(&id).await?;
/// cache.fill(&id, &record, ticket).await?;
/// assert!(matches!(cache.get(&id).await?, Cached::Miss(_)));
/// # Ok(())
/// # }
/// ```
pub trait RecordCache: Debug + Send + Sync + 'static {
    /// What a fill has to show.
    type Ticket: Debug + Send + Sync;

    /// The copy, or the ticket to bring one (K1, K2).
    ///
    /// # Errors
    ///
    /// Whenever the cache cannot tell. It then counts as a miss that nobody fills.
    fn get(
        &self,
        id: &RecordId,
    ) -> impl Future<Output = Result<Cached<Self::Ticket>, StoreError>> + Send;

    /// Puts in what the store has answered since the ticket was handed out (K2).
    ///
    /// # Errors
    ///
    /// If the cache failed. The copy is there or not.
    fn fill(
        &self,
        id: &RecordId,
        record: &Record,
        ticket: Self::Ticket,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Puts in what has been written over `expected` in the store (K3).
    ///
    /// # Errors
    ///
    /// If the cache failed. An older copy may be there until it is removed, or its time is over.
    fn replace(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Moves the deadline of the copy of that version later (K5).
    ///
    /// # Errors
    ///
    /// If the cache failed. The deadline of the copy is the old or the new one.
    fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Lets go of the copy, and of all tickets (K4).
    ///
    /// # Errors
    ///
    /// If the cache failed. A copy may be there until its time is over.
    fn remove(&self, id: &RecordId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How long a copy may be found at most (K6): the bound for what was ended while the cache could not
    /// be told.
    fn time_to_live(&self) -> Duration;

    /// Which part of the cache has that id, if it has parts that fail by themselves, such as servers: when one fails,
    /// it alone is left alone for a while. 0 if there is but one. Numbers that are equal modulo 16 are one part.
    fn part_of(&self, id: &RecordId) -> usize;
}

/// What a cache has under an id; the answer to [`RecordCache::get`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached<Ticket> {
    /// A copy, which may have expired. It comes without a ticket: who does not want it removes it first.
    Hit(Record),
    /// None, and the ticket to bring one. No ticket if none may be brought at present.
    Miss(Option<Ticket>),
}
