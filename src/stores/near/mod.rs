//! Copies of records in the memory of one process.

mod freshness;
mod shard;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use self::{
    freshness::Freshness,
    shard::{COPY_OVERHEAD, Shard, Ticket},
};
use crate::{
    cache::{Cached, RecordCache},
    error::StoreError,
    id::RecordId,
    record::{Record, Version},
    timestamp::Timestamp,
    user::UserId,
};

/// Keeps copies in the memory of this process: a hot read asks nobody.
///
/// What it must be told is when to let go of a copy. Writes through the [`CachedStore`](crate::CachedStore)
/// that it is part of tell it; those of other processes do not, by themselves. So there is no `new`, and each
/// constructor says how it hears of them:
///
/// - `RedisStore::near_cache` and `PostgresStore::near_cache` make one that the server tells of each write,
///   whoever writes.
/// - [`stale_up_to`](Self::stale_up_to) keeps no copy longer than the application can do with.
/// - [`of_sole_process`](Self::of_sole_process) is for a store that no other process writes to.
///
/// It is bounded by bytes (64 MiB by default). When it is full, the copy that has not been used for longest
/// goes first; nothing is lost by that. It never fails.
///
/// Cheap to clone; clones are the same cache.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_keep::{CachedStore, MemoryCache, MemoryStore, SessionLayer};
///
/// // A store shared with other processes, where a logout on one may take a second to reach the others.
/// # let shared_store = MemoryStore::new();
/// let cache = MemoryCache::stale_up_to(Duration::from_secs(1));
/// let sessions = SessionLayer::new(CachedStore::new(cache, shared_store));
/// ```
#[derive(Clone)]
pub struct MemoryCache(Arc<Inner>);

struct Inner {
    shards: [Mutex<Shard>; SHARDS],
    time_to_live: Duration,
    /// Where others tell it what they have written.
    freshness: Option<Freshness>,
}

impl MemoryCache {
    /// How many bytes a cache takes if nothing else is said: 64 MiB.
    pub const BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;

    /// How long a copy is kept at most, but for a cache with a [limit of its own](Self::stale_up_to): 5 minutes.
    pub const TIME_TO_LIVE_DEFAULT: Duration = Duration::from_secs(5 * 60);

    /// A cache that serves no copy later than so long after it was asked for from the store.
    ///
    /// What another process has changed or *logged out* may be served for that long. A second takes most of the
    /// load from a store, and is shorter than a person takes to notice; minutes are for data that may be
    /// outdated, which a login is not.
    #[must_use]
    pub fn stale_up_to(limit: Duration) -> Self {
        Self::build(limit, None)
    }

    /// A cache in front of a store that no other process writes to, and none changes by hand.
    ///
    /// It is never stale then. Of a mistake it recovers after [`TIME_TO_LIVE_DEFAULT`](Self::TIME_TO_LIVE_DEFAULT).
    #[must_use]
    pub fn of_sole_process() -> Self {
        Self::build(Self::TIME_TO_LIVE_DEFAULT, None)
    }

    /// Takes at most so many bytes: payloads, users, and 256 bytes for each copy. Its clones do too.
    ///
    /// # Panics
    ///
    /// If it is not enough for 16 records of 64 KiB.
    #[must_use]
    #[track_caller]
    pub fn with_bytes_max(self, bytes: usize) -> Self {
        assert!(
            bytes >= BYTES_MIN,
            "MemoryCache: a cache has at least {BYTES_MIN} bytes"
        );
        for shard in &self.0.shards {
            lock(shard).set_bytes_max(bytes / SHARDS);
        }
        self
    }

    /// How many copies there are, those included whose time is over and that have not been met since.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.0.shards.iter();
        shards.map(|shard| lock(shard).len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A cache that hears of writes through that [`Follower`]. It serves nothing until it is told that it is fresh.
    pub(in crate::stores) fn followed() -> (Self, Follower) {
        let freshness = Some(Freshness::default());
        let cache = Self::build(Self::TIME_TO_LIVE_DEFAULT, freshness);
        let follower = Follower(Arc::downgrade(&cache.0));
        (cache, follower)
    }

    fn build(time_to_live: Duration, freshness: Option<Freshness>) -> Self {
        let shard = |_| Mutex::new(Shard::new(Self::BYTES_MAX_DEFAULT / SHARDS));
        Self(Arc::new(Inner {
            shards: std::array::from_fn(shard),
            time_to_live,
            freshness,
        }))
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let freshness = self.0.freshness.as_ref();
        freshness.is_none_or(|freshness| freshness.is_fresh(now))
    }

    fn shard(&self, id: &RecordId) -> MutexGuard<'_, Shard> {
        self.0.shard(id)
    }
}

impl RecordCache for MemoryCache {
    type Ticket = Ticket;

    async fn get(&self, id: &RecordId) -> Result<Cached<Ticket>, StoreError> {
        let now = Instant::now();
        if !self.is_fresh(now) {
            return Ok(Cached::Miss(None));
        }
        let mut shard = self.shard(id);
        Ok(match shard.get(id, self.0.time_to_live, now) {
            Some(record) => Cached::Hit(record.clone()),
            None => Cached::Miss(Some(shard.ticket(id))),
        })
    }

    async fn fill(&self, id: &RecordId, record: &Record, ticket: Ticket) -> Result<(), StoreError> {
        self.shard(id).fill(id, record, &ticket);
        Ok(())
    }

    async fn replace(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<(), StoreError> {
        self.shard(id).replace(id, record, expected);
        Ok(())
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<(), StoreError> {
        self.shard(id).touch(id, expires_at, expected);
        Ok(())
    }

    async fn remove(&self, id: &RecordId) -> Result<(), StoreError> {
        self.shard(id).remove(id);
        Ok(())
    }

    fn time_to_live(&self) -> Duration {
        self.0.time_to_live
    }

    fn part_of(&self, _: &RecordId) -> usize {
        0
    }
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("time_to_live", &self.0.time_to_live)
            .field("is_told_of_writes", &self.0.freshness.is_some())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn shard(&self, id: &RecordId) -> MutexGuard<'_, Shard> {
        let [first, ..] = *id.as_bytes();
        lock(&self.shards[usize::from(first) % SHARDS])
    }
}

/// Tells a [`MemoryCache`] what others have written. It does not keep the cache alive; and when it is gone, the cache
/// serves nothing any more.
#[derive(Debug)]
pub(in crate::stores) struct Follower(Weak<Inner>);

impl Follower {
    /// Whether there still is somebody to tell.
    pub(in crate::stores) fn is_needed(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// The record has been written, moved or deleted.
    pub(in crate::stores) fn changed(&self, id: &RecordId) {
        if let Some(cache) = self.0.upgrade() {
            cache.shard(id).remove(id);
        }
    }

    /// The record has been written, and now has that revision.
    pub(in crate::stores) fn written(&self, id: &RecordId, revision: u64) {
        if let Some(cache) = self.0.upgrade() {
            cache.shard(id).remove_older(id, revision);
        }
    }

    /// Anything may have been written.
    pub(in crate::stores) fn flush(&self) {
        if let Some(cache) = self.0.upgrade() {
            for shard in &cache.shards {
                lock(shard).clear();
            }
        }
    }

    /// Until then, what was written before now has been told.
    pub(in crate::stores) fn fresh_until(&self, until: Instant) {
        if let Some(cache) = self.0.upgrade()
            && let Some(freshness) = &cache.freshness
        {
            freshness.extend(until);
        }
    }

    /// From now on nothing is told any more: serves no copy, and lets go of all.
    pub(in crate::stores) fn is_cut_off(&self) {
        if let Some(cache) = self.0.upgrade()
            && let Some(freshness) = &cache.freshness
        {
            freshness.end();
        }
        self.flush();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.is_cut_off();
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // No code of others runs under this lock, and a shard is whole between its methods.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Beyond this, more parts no longer help against contention.
const SHARDS: usize = 16;

/// Each part has room for one record of the layer's default limit.
const BYTES_MIN: usize = SHARDS * (64 * 1024 + COPY_OVERHEAD + UserId::LEN_MAX);

#[cfg(test)]
mod tests;
