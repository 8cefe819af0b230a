//! A store that counts what it is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{
    error::StoreError,
    id::RecordId,
    record::{Record, Version},
    store::{
        Created, Cursor, DeleteExpired, Page, Rotated, ScanSessions, SessionStore, StoredSession,
        Updated, UserSessions,
    },
    timestamp::Timestamp,
    user::UserId,
};

/// Passes every call on to another store, and counts it. It has the capabilities of that store.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_keep::{MemoryStore, SessionLayer, testing::{CountingStore, Counts}};
///
/// let store = Arc::new(CountingStore::new(MemoryStore::new()));
/// let sessions = SessionLayer::new(Arc::clone(&store));
/// // … requests …
/// assert_eq!(store.take(), Counts::default());
/// ```
#[derive(Debug)]
pub struct CountingStore<S> {
    inner: S,
    counts: Mutex<Counts>,
}

/// How many calls of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each counts the operation of its name")]
pub struct Counts {
    pub load: u64,
    pub create: u64,
    pub update: u64,
    pub rotate: u64,
    pub touch: u64,
    pub delete: u64,
    pub sessions_of: u64,
    pub delete_all_of: u64,
    pub delete_expired: u64,
    pub scan: u64,
}

impl<S> CountingStore<S> {
    /// Counts the calls to `inner`, from none.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            counts: Mutex::default(),
        }
    }

    /// The calls since the last time that this was asked.
    pub fn take(&self) -> Counts {
        std::mem::take(&mut self.counts())
    }

    /// The store that is counted.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// All calls together.
    #[must_use]
    pub fn total(&self) -> u64 {
        let of_sessions =
            self.load + self.create + self.update + self.rotate + self.touch + self.delete;
        let of_capabilities =
            self.sessions_of + self.delete_all_of + self.delete_expired + self.scan;
        of_sessions + of_capabilities
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for CountingStore<S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.counts().load += 1;
        self.inner.load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.counts().create += 1;
        self.inner.create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        self.counts().update += 1;
        self.inner.update(id, record, expected).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.counts().rotate += 1;
        self.inner.rotate(old, new, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        self.counts().touch += 1;
        self.inner.touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.counts().delete += 1;
        self.inner.delete(id).await
    }
}

#[async_trait]
impl<S: UserSessions> UserSessions for CountingStore<S> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        self.counts().sessions_of += 1;
        self.inner.sessions_of(user).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        self.counts().delete_all_of += 1;
        self.inner.delete_all_of(user, keep).await
    }
}

#[async_trait]
impl<S: DeleteExpired> DeleteExpired for CountingStore<S> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        self.counts().delete_expired += 1;
        self.inner.delete_expired(limit).await
    }
}

#[async_trait]
impl<S: ScanSessions> ScanSessions for CountingStore<S> {
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.counts().scan += 1;
        self.inner.scan(after, limit).await
    }
}
