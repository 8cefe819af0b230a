//! Stores that are called again when their server was slower than they have patience for.

use async_trait::async_trait;
use tower_keep::{
    Created, Cursor, DeleteExpired, Page, Record, RecordId, Rotated, ScanSessions, SessionStore,
    StoreError, StoredSession, Timestamp, Updated, UserId, UserSessions, Version,
};

use crate::support::patiently;

/// A store all of whose calls are made like that.
#[derive(Debug)]
pub struct Patient<S>(pub S);

#[async_trait]
impl<S: SessionStore> SessionStore for Patient<S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        patiently(|| self.0.load(id)).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        patiently(|| self.0.create(id, record)).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        patiently(|| self.0.update(id, record, expected)).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        patiently(|| self.0.rotate(old, new, record, expected)).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        patiently(|| self.0.touch(id, expires_at, expected)).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        patiently(|| self.0.delete(id)).await
    }
}

#[async_trait]
impl<S: UserSessions> UserSessions for Patient<S> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        patiently(|| self.0.sessions_of(user)).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        patiently(|| self.0.delete_all_of(user, keep)).await
    }
}

#[async_trait]
impl<S: DeleteExpired> DeleteExpired for Patient<S> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        patiently(|| self.0.delete_expired(limit)).await
    }
}

#[async_trait]
impl<S: ScanSessions> ScanSessions for Patient<S> {
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        patiently(|| self.0.scan(after, limit)).await
    }
}
