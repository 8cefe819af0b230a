//! Sessions in the memory of one process.

mod shard;

use std::{
    collections::BinaryHeap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use self::shard::{ENTRY_OVERHEAD, Shard, is_live};
use crate::{
    clock::{Clock, SystemClock},
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::{Record, Version},
    store::{
        Created, Cursor, DeleteExpired, Page, Rotated, ScanSessions, SessionStore, StoredSession,
        Updated, UserSessions,
    },
    timestamp::Timestamp,
    user::UserId,
};

/// Keeps sessions in the memory of this process.
///
/// For one process, and for tests: nothing survives a restart, and no other process sees it.
///
/// It is bounded by entries and by bytes (a million and 256 MiB by default). When it is full, the
/// session that has not been used for longest goes first: *eviction is a logout*. Up to a few
/// thousand sessions that order is exact; larger stores are divided into parts, each with its
/// share of the bounds and an order of its own.
///
/// Expired sessions are never served. They take room until they are met, evicted, or removed by
/// [`delete_expired`](DeleteExpired::delete_expired), as a [`Sweeper`](crate::Sweeper) does.
///
/// Cheap to clone; clones are the same store. The bounds and the clock are chosen before the first
/// clone is made.
///
/// # Examples
///
/// ```
/// use tower_keep::{MemoryStore, SessionLayer};
///
/// let store = MemoryStore::new().with_entries_max(10_000);
/// let sessions = SessionLayer::new(store.clone());
/// // `store` stays at hand, to list and end the sessions of a user.
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    shards: Vec<Shared>,
    entries_max: usize,
    bytes_max: usize,
    clock: Arc<dyn Clock>,
}

/// Cloned only with the empty store that is being built.
#[derive(Default)]
struct Shared(Mutex<Shard>);

impl MemoryStore {
    /// How many sessions a store holds if nothing else is said.
    pub const ENTRIES_MAX_DEFAULT: usize = 1_000_000;

    /// How many bytes a store holds if nothing else is said: 256 MiB.
    pub const BYTES_MAX_DEFAULT: usize = 256 * 1024 * 1024;

    /// An empty store with the default bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::build(Inner {
            shards: Vec::new(),
            entries_max: Self::ENTRIES_MAX_DEFAULT,
            bytes_max: Self::BYTES_MAX_DEFAULT,
            clock: Arc::new(SystemClock),
        })
    }

    /// Holds at most so many sessions. Of a store in use, this makes an empty one.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    #[track_caller]
    pub fn with_entries_max(self, entries: usize) -> Self {
        assert!(
            entries > 0,
            "MemoryStore: a store holds at least one session"
        );
        Self::build(Inner {
            entries_max: entries,
            ..(*self.0).clone()
        })
    }

    /// Holds at most so many bytes: payloads, users, and 256 bytes for each session. Of a store in
    /// use, this makes an empty one.
    ///
    /// # Panics
    ///
    /// If it is not enough for one session of 64 KiB.
    #[must_use]
    #[track_caller]
    pub fn with_bytes_max(self, bytes: usize) -> Self {
        assert!(
            bytes >= SHARD_BYTES_MIN,
            "MemoryStore: a store holds at least {SHARD_BYTES_MIN} bytes"
        );
        Self::build(Inner {
            bytes_max: bytes,
            ..(*self.0).clone()
        })
    }

    /// Takes the time from another clock. Of a store in use, this makes an empty one.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self::build(Inner {
            clock: Arc::new(clock),
            ..(*self.0).clone()
        })
    }

    /// How many sessions there are, those included that have expired and not been met since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock_all().iter().map(|shard| shard.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn build(mut inner: Inner) -> Self {
        let by_entries = inner.entries_max / SHARD_ENTRIES_MIN;
        let by_bytes = inner.bytes_max / (16 * SHARD_BYTES_MIN);
        let count = by_entries.min(by_bytes).clamp(1, SHARDS_MAX);
        let shard = || Shard::new(inner.entries_max / count, inner.bytes_max / count);
        inner.shards = (0..count).map(|_| Shared(Mutex::new(shard()))).collect();
        Self(Arc::new(inner))
    }

    fn index_of(&self, id: &RecordId) -> usize {
        let [a, b, ..] = *id.as_bytes();
        usize::from(u16::from_be_bytes([a, b])) % self.0.shards.len()
    }

    fn lock(&self, id: &RecordId) -> MutexGuard<'_, Shard> {
        self.0.shards[self.index_of(id)].lock()
    }

    /// In the order of the shards, as everywhere that locks more than one.
    fn lock_all(&self) -> Vec<MutexGuard<'_, Shard>> {
        self.0.shards.iter().map(Shared::lock).collect()
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now().into()
    }

    /// Whether a record of that size fits the store at all.
    fn check_size(&self, record: &Record) -> Result<(), StoreError> {
        let limit = self.0.bytes_max / self.0.shards.len();
        if shard::size_of(record) > limit {
            return Err(StoreError::new(
                STORE,
                StoreErrorKind::TooLarge,
                "one record would fill the store",
            ));
        }
        Ok(())
    }

    /// The contract's `rotate`, with both shards locked.
    fn rotate_locked(
        from: &mut Shard,
        to: Option<&mut Shard>,
        ids: (&RecordId, &RecordId),
        record: &Record,
        expected: Version,
        now: Timestamp,
    ) -> Rotated {
        let (old, new) = ids;
        let target = match &to {
            Some(to) => to.peek(new),
            None => from.peek(new),
        };
        match target.filter(|target| is_live(target, now)) {
            Some(target) if old != new && target.version == record.version => {
                return Rotated::Done;
            }
            Some(_) => return Rotated::Exists,
            None => {}
        }
        match from.peek(old).filter(|present| is_live(present, now)) {
            None => Rotated::Gone,
            Some(present) if present.version != expected => Rotated::Conflict(present.clone()),
            Some(_) => {
                from.remove(old);
                to.unwrap_or(from).put(*new, record.clone());
                Rotated::Done
            }
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries_max", &self.0.entries_max)
            .field("bytes_max", &self.0.bytes_max)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let now = self.now();
        let mut shard = self.lock(id);
        match shard.get(id) {
            Some(record) if is_live(record, now) => Ok(Some(record.clone())),
            Some(_) => {
                shard.remove(id);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.check_size(record)?;
        let now = self.now();
        let mut shard = self.lock(id);
        if let Some(present) = shard.peek(id).filter(|present| is_live(present, now)) {
            return Ok(match present.version == record.version {
                true => Created::Done,
                false => Created::Exists,
            });
        }
        shard.put(*id, record.clone());
        Ok(Created::Done)
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        self.check_size(record)?;
        let now = self.now();
        let mut shard = self.lock(id);
        match shard.peek(id).filter(|present| is_live(present, now)) {
            None => Ok(Updated::Gone),
            Some(present) if present.version == record.version => Ok(Updated::Done),
            Some(present) if present.version != expected => Ok(Updated::Conflict(present.clone())),
            Some(_) => {
                shard.put(*id, record.clone());
                Ok(Updated::Done)
            }
        }
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.check_size(record)?;
        let now = self.now();
        let ids = (old, new);
        let (from, to) = (self.index_of(old), self.index_of(new));
        if from == to {
            let mut shard = self.0.shards[from].lock();
            return Ok(Self::rotate_locked(
                &mut shard, None, ids, record, expected, now,
            ));
        }
        let mut low = self.0.shards[from.min(to)].lock();
        let mut high = self.0.shards[from.max(to)].lock();
        let (from, to) = match from < to {
            true => (&mut *low, &mut *high),
            false => (&mut *high, &mut *low),
        };
        Ok(Self::rotate_locked(
            from,
            Some(to),
            ids,
            record,
            expected,
            now,
        ))
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let mut shard = self.lock(id);
        let touched = |present: &&mut Record| is_live(present, now) && present.version == expected;
        Ok(shard
            .get_mut(id)
            .filter(touched)
            .map(|present| present.expires_at = present.expires_at.max(expires_at))
            .is_some())
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let now = self.now();
        let removed = self.lock(id).remove(id);
        Ok(removed.is_some_and(|record| is_live(&record, now)))
    }
}

#[async_trait]
impl UserSessions for MemoryStore {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        let now = self.now();
        let mut sessions = Vec::new();
        // All at once, so that a session that is rotated meanwhile is seen, and seen once.
        for shard in &self.lock_all() {
            sessions.extend(shard.of_user(user).filter(|s| is_live(&s.record, now)));
        }
        Ok(sessions)
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        let now = self.now();
        let mut ended = Vec::new();
        for shard in &mut self.lock_all() {
            let sessions: Vec<_> = shard.of_user(user).collect();
            for session in sessions {
                if keep != Some(&session.id) {
                    shard.remove(&session.id);
                    ended.extend(is_live(&session.record, now).then_some(session.id));
                }
            }
        }
        Ok(ended)
    }
}

#[async_trait]
impl DeleteExpired for MemoryStore {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        let now = self.now();
        let mut left = limit;
        for shard in &self.0.shards {
            left -= shard.lock().remove_expired(now, left);
        }
        Ok((limit - left) as u64)
    }
}

#[async_trait]
impl ScanSessions for MemoryStore {
    /// A page in the order of the ids. The cursor is the last id of the page before.
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let after = match after.map(|cursor| <[u8; RecordId::LEN]>::try_from(cursor.as_bytes())) {
            None => None,
            Some(Ok(bytes)) => Some(RecordId::from_bytes(bytes)),
            Some(Err(_)) => {
                let problem = "the cursor is not one of this store";
                return Err(StoreError::new(STORE, StoreErrorKind::Other, problem));
            }
        };
        let limit = limit.max(1);
        let now = self.now();
        // The smallest ids behind the cursor: of more than fit, the largest goes.
        let mut ids = BinaryHeap::with_capacity(limit.min(SCAN_CAPACITY_MAX) + 1);
        for shard in &self.0.shards {
            for id in shard.lock().live_ids(now) {
                if after.is_none_or(|after| *id > after) {
                    ids.push(*id);
                    if ids.len() > limit {
                        ids.pop();
                    }
                }
            }
        }
        let ids = ids.into_sorted_vec();
        let next = (ids.len() == limit).then(|| ids.last()).flatten();
        let next = next.map(|last| Cursor::from_bytes(*last.as_bytes()));
        let stored = |id: RecordId| {
            let record = self.lock(&id).peek(&id)?.clone();
            is_live(&record, now).then_some(StoredSession { id, record })
        };
        let sessions = ids.into_iter().filter_map(stored).collect();
        Ok(Page { sessions, next })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Shard> {
        // No code of others runs under this lock, and a shard is whole between its methods.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Shared {
    fn clone(&self) -> Self {
        Self::default()
    }
}

const STORE: &str = "memory";

/// Beyond this, more parts no longer help against contention.
const SHARDS_MAX: usize = 16;

/// A part with fewer entries evicts too far from the exact order.
const SHARD_ENTRIES_MIN: usize = 4096;

/// Room for one session of the layer's default limit, and its overhead.
const SHARD_BYTES_MIN: usize = 64 * 1024 + ENTRY_OVERHEAD + UserId::LEN_MAX;

/// A caller who asks for everything at once does not get the memory for it beforehand.
const SCAN_CAPACITY_MAX: usize = 1024;

#[cfg(test)]
mod tests;
