//! A store with a cache in front of it.

mod breaker;
mod debts;
mod payer;

use std::{borrow::Cow, fmt, pin::pin, sync::Arc, time::Duration};

use self::{breaker::Breakers, debts::Debts};
use crate::{
    cache::{Cached, RecordCache},
    clock::{Clock, SystemClock},
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    meter::{Event, count},
    patience::within,
    record::{Record, Version},
    store::{
        Created, Cursor, DeleteExpired, Page, Rotated, ScanSessions, SessionStore, StoredSession,
        Updated, UserSessions,
    },
    timestamp::Timestamp,
    user::UserId,
};
use async_trait::async_trait;
use tokio::time::sleep;

/// Serves reads from a [`RecordCache`], and keeps sessions in a store.
///
/// The store is the truth: each write is done there first, by compare-and-set, and only then in the cache. So
/// a stale copy costs a reader its age, and can never cost a write. [`MemoryCache`](crate::MemoryCache) is in
/// this process, `RedisCache` and `MemcachedCache` are shared.
///
/// Use this in the place of the store everywhere, also to list and end the sessions of a user: a write that
/// goes past it is one that a shared cache does not hear of.
///
/// Cheap to clone; clones are the same store. Options are chosen before the first clone is made.
///
/// # What is promised
///
/// - *On this process*: what was written, rotated or ended before a request began is what the request reads,
///   whatever has failed meanwhile; as long as a shared cache does not go back in time, which a Redis does that crashes and
///   comes back with a snapshot, or fails over to a replica that was behind ([`RecordCache`], K4).
/// - *On every process that shares the cache*: the same, while the cache can be reached by the writer. A
///   reader who has fetched a record before a logout cannot bring it back: see [`RecordCache`].
/// - *Where each process has a cache of its own*: within the bound that the constructor of the cache names.
/// - *A cache that fails* is a miss. It is left alone for a second then, so that one that hangs costs one
///   request in a second [some time](Self::CACHE_TIMEOUT_DEFAULT), and the store serves; of several servers, the one
///   that fails. What is written
///   meanwhile is removed from the cache in the background, at once if it can be reached, and else tried again five
///   times a second; until it is, this process does not read it from there. Another process that can still reach the
///   cache may read what was there before, until then, or for the [time to live](RecordCache::time_to_live) of
///   the cache at the most. 100,000 such removals are remembered; with more, this process does not read from
///   that part of the cache until all that is in it is newer.
/// - *A store that fails* is a failure of each write, and of reads that the cache does not have. A copy is
///   served without the store.
/// - *A write whose outcome is not known*, as its caller has gone or the store was lost, may have been done.
///   This process reads the record from the store for ten seconds then, and removes the copy after that. A database that
///   lets a statement wait for longer (`statement_timeout` of PostgreSQL) may do it behind that. Of a user
///   whose sessions were all to be ended it trusts no copy for the time to live of the cache.
///
/// # What it costs
///
/// A hot read is one `get` of the cache and nothing of the store. A write is one write of the store and one of
/// the cache. A read that misses asks the cache, the store, and the cache once more. What is created or rotated is
/// brought into the cache by its first read.
///
/// # Examples
///
/// ```
/// use tower_keep::{CachedStore, MemoryCache, MemoryStore, SessionLayer};
///
/// # let store = MemoryStore::new();
/// // A store on a slow disk, and no other process that writes to it.
/// let store = CachedStore::new(MemoryCache::of_sole_process(), store);
/// let sessions = SessionLayer::new(store.clone());
/// ```
pub struct CachedStore<C, S> {
    shared: Arc<Shared<C, S>>,
    clock: Arc<dyn Clock>,
    cache_timeout: Duration,
}

/// What clones share.
struct Shared<C, S> {
    cache: C,
    store: S,
    breakers: Breakers,
    debts: Debts,
}

impl<C: RecordCache, S> CachedStore<C, S> {
    /// How long a call of the cache may take if nothing else is said: a quarter of a second. One that is
    /// slower than the store is of no use.
    pub const CACHE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(250);

    /// Puts `cache` in front of `store`.
    #[must_use]
    pub fn new(cache: C, store: S) -> Self {
        Self {
            shared: Arc::new(Shared {
                cache,
                store,
                breakers: Breakers::default(),
                debts: Debts::default(),
            }),
            clock: Arc::new(SystemClock),
            cache_timeout: Self::CACHE_TIMEOUT_DEFAULT,
        }
    }

    /// Waits for a call of the cache no longer than this. Without it:
    /// [`CACHE_TIMEOUT_DEFAULT`](Self::CACHE_TIMEOUT_DEFAULT). A shared cache has a limit of its own besides.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    #[track_caller]
    pub fn with_cache_timeout(mut self, limit: Duration) -> Self {
        assert!(
            !limit.is_zero(),
            "CachedStore: a cache that has no time is never asked"
        );
        self.cache_timeout = limit;
        self
    }

    /// Tells whether a copy has expired by another clock. Give it that of the store.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The store behind the cache. What is written there directly, the cache is not told.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.shared.store
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &C {
        &self.shared.cache
    }

    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }
}

impl<C: RecordCache, S: SessionStore> CachedStore<C, S> {
    /// What the cache has, if it is to be trusted and answers.
    async fn look(&self, id: &RecordId) -> Option<Cached<C::Ticket>> {
        if self.shared.debts.has(id, || self.shared.cache.part_of(id)) {
            self.pay_debts();
            return None;
        }
        match self.ask("get", id, self.shared.cache.get(id)).await {
            Ok(found) => Some(found),
            // Something else, or of a newer version. The next reader finds the place free.
            Err(Trouble::Unreadable) => {
                self.let_go(id).await;
                None
            }
            Err(Trouble::Away) => None,
        }
    }

    async fn replace(&self, id: &RecordId, record: &Record, expected: Version) {
        let replace = self.shared.cache.replace(id, record, expected);
        match self.ask("replace", id, replace).await {
            Ok(()) => {}
            Err(Trouble::Unreadable) => self.let_go(id).await,
            Err(Trouble::Away) => self.owe(id, Duration::ZERO),
        }
    }

    async fn let_go(&self, id: &RecordId) {
        let remove = self.shared.cache.remove(id);
        if self.ask("remove", id, remove).await.is_err() {
            self.owe(id, Duration::ZERO);
        }
    }

    fn owe(&self, id: &RecordId, delay: Duration) {
        let time_to_live = self.shared.cache.time_to_live();
        let part = self.shared.cache.part_of(id);
        self.shared.debts.add(id, part, delay, time_to_live);
        self.pay_debts();
    }

    /// Asks the cache, unless its part that has the id is left alone at present.
    async fn ask<T>(
        &self,
        operation: &'static str,
        id: &RecordId,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Trouble> {
        let part = self.shared.cache.part_of(id);
        match self.shared.breakers.of(part).lets_through() {
            true => {
                let limit = self.cache_timeout;
                self.shared.call(operation, limit, id, call).await
            }
            false => Err(Trouble::Away),
        }
    }

    /// Until it is settled, what becomes of a write is not known.
    fn doubt<'a>(&'a self, id: &'a RecordId) -> Doubt<'a, C, S> {
        Doubt {
            store: self,
            ids: std::slice::from_ref(id).into(),
            user: None,
        }
    }
}

impl<C: RecordCache, S> Shared<C, S> {
    /// Waits for an answer of the cache no longer than that.
    async fn call<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        id: &RecordId,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Trouble> {
        let breaker = self.breakers.of(self.cache.part_of(id));
        // One in this process answers at once.
        let error = match within(pin!(call), || sleep(limit)).await {
            Some(Ok(answer)) => {
                breaker.succeeded();
                return Ok(answer);
            }
            Some(Err(error)) => error,
            None => {
                let problem = "the cache did not answer in time";
                StoreError::new("cache", StoreErrorKind::Unavailable, problem)
            }
        };
        count(Event::CacheError);
        let error_shown = &error as &dyn std::error::Error;
        match error.kind() {
            StoreErrorKind::Corrupt | StoreErrorKind::Unsupported | StoreErrorKind::TooLarge => {
                tracing::warn!(operation, error = error_shown, "a copy is let go of");
                Err(Trouble::Unreadable)
            }
            StoreErrorKind::Unavailable | StoreErrorKind::Other => {
                if breaker.failed() {
                    tracing::warn!(
                        operation,
                        error = error_shown,
                        "the session cache failed; the store serves alone until it is back"
                    );
                }
                Err(Trouble::Away)
            }
        }
    }
}

/// Why a cache has not done what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It is there, and has something under that id that cannot be used.
    Unreadable,
    /// It may have done it, or not.
    Away,
}

/// A write that is under way. Dropped before it is settled, it may have been done, or be done yet.
struct Doubt<'a, C: RecordCache, S: SessionStore> {
    store: &'a CachedStore<C, S>,
    ids: Cow<'a, [RecordId]>,
    /// Whose sessions it ends, all of them.
    user: Option<&'a UserId>,
}

impl<C: RecordCache, S: SessionStore> Doubt<'_, C, S> {
    /// The cache knows, or a debt says that it does not.
    fn settle(mut self) {
        self.ids = Cow::default();
        self.user = None;
    }
}

impl<C: RecordCache, S: SessionStore> Drop for Doubt<'_, C, S> {
    fn drop(&mut self) {
        let shared = &self.store.shared;
        if let Some(user) = self.user {
            let time_to_live = shared.cache.time_to_live();
            shared.debts.add_user(user, DOUBT_TIME, time_to_live);
            self.store.pay_debts();
        }
        for id in self.ids.iter() {
            self.store.owe(id, DOUBT_TIME);
        }
    }
}

#[async_trait]
impl<C: RecordCache, S: SessionStore> SessionStore for CachedStore<C, S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let ticket = match self.look(id).await {
            Some(Cached::Hit(record))
                if !record.is_expired(self.now()) && !self.shared.debts.include(&record) =>
            {
                count(Event::CacheHit);
                return Ok(Some(record));
            }
            Some(Cached::Hit(_)) => {
                // Somebody may have moved its deadline, or ended it, where this cache has not heard of it.
                self.let_go(id).await;
                None
            }
            Some(Cached::Miss(ticket)) => ticket,
            None => None,
        };
        count(Event::CacheMiss);
        let record = self.shared.store.load(id).await?;
        if let (Some(record), Some(ticket)) = (&record, ticket) {
            let fill = self.shared.cache.fill(id, record, ticket);
            // One that has failed is a copy less.
            let _ = self.ask("fill", id, fill).await;
        }
        Ok(record)
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.shared.store.create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let doubt = self.doubt(id);
        let updated = self.shared.store.update(id, record, expected).await?;
        match &updated {
            Updated::Done => self.replace(id, record, expected).await,
            Updated::Conflict(newer) => self.replace(id, newer, expected).await,
            Updated::Gone => self.let_go(id).await,
        }
        doubt.settle();
        Ok(updated)
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        let doubt = self.doubt(old);
        let rotated = self.shared.store.rotate(old, new, record, expected).await?;
        match &rotated {
            Rotated::Done | Rotated::Gone => self.let_go(old).await,
            Rotated::Conflict(newer) => self.replace(old, newer, expected).await,
            Rotated::Exists => {}
        }
        doubt.settle();
        Ok(rotated)
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let touched = self.shared.store.touch(id, expires_at, expected).await?;
        match touched {
            true => {
                let touch = self.shared.cache.touch(id, expires_at, expected);
                // A copy whose deadline is too early is looked up again.
                let _ = self.ask("touch", id, touch).await;
            }
            // Ended, or written by somebody else.
            false => self.let_go(id).await,
        }
        Ok(touched)
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let doubt = self.doubt(id);
        let deleted = self.shared.store.delete(id).await?;
        self.let_go(id).await;
        doubt.settle();
        Ok(deleted)
    }
}

#[async_trait]
impl<C: RecordCache, S: UserSessions> UserSessions for CachedStore<C, S> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        self.shared.store.sessions_of(user).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        // Who fails does not tell which it has ended.
        let sessions = self.shared.store.sessions_of(user).await?;
        let ids = sessions.iter().map(|session| session.id);
        let mut doubt = Doubt {
            store: self,
            ids: ids.filter(|id| Some(id) != keep).collect(),
            user: Some(user),
        };
        let ended = self.shared.store.delete_all_of(user, keep).await?;
        // Both: one may have been ended by an earlier call whose answer was lost, or have been rotated since.
        let mut ids: Vec<RecordId> = doubt.ids.iter().chain(&ended).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        doubt.ids = ids.into();
        for id in doubt.ids.iter() {
            self.let_go(id).await;
        }
        doubt.settle();
        Ok(ended)
    }
}

#[async_trait]
impl<C: RecordCache, S: DeleteExpired> DeleteExpired for CachedStore<C, S> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        self.shared.store.delete_expired(limit).await
    }
}

#[async_trait]
impl<C: RecordCache, S: ScanSessions> ScanSessions for CachedStore<C, S> {
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.shared.store.scan(after, limit).await
    }
}

impl<C, S> Clone for CachedStore<C, S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            clock: Arc::clone(&self.clock),
            cache_timeout: self.cache_timeout,
        }
    }
}

impl<C: fmt::Debug, S: fmt::Debug> fmt::Debug for CachedStore<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore")
            .field("cache", &self.shared.cache)
            .field("store", &self.shared.store)
            .finish_non_exhaustive()
    }
}

/// How long a write whose outcome is not known may still be on its way to the store: longer than the timeouts
/// of stores and their clients. A database may take longer, if a statement waits for a lock and nothing limits it.
const DOUBT_TIME: Duration = Duration::from_secs(10);
