//! A cached store that is deliberately wrong.

use async_trait::async_trait;
use tower_keep::{
    Cached, Created, Record, RecordCache, RecordId, Rotated, SessionStore, StoreError, Timestamp,
    Updated, Version,
};

/// Tells the cache of a write before it is done in the store.
#[derive(Debug)]
pub(super) struct CacheFirst<C, S> {
    pub(super) cache: C,
    pub(super) store: S,
}

#[async_trait]
impl<C: RecordCache, S: SessionStore> SessionStore for CacheFirst<C, S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let ticket = match self.cache.get(id).await? {
            Cached::Hit(record) => return Ok(Some(record)),
            Cached::Miss(ticket) => ticket,
        };
        let record = self.store.load(id).await?;
        if let (Some(record), Some(ticket)) = (&record, ticket) {
            self.cache.fill(id, record, ticket).await?;
        }
        Ok(record)
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.store.create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        self.cache.remove(id).await?;
        self.store.update(id, record, expected).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.cache.remove(old).await?;
        self.store.rotate(old, new, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        self.store.touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.cache.remove(id).await?;
        self.store.delete(id).await
    }
}
