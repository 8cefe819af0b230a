//! A store that can not list, and a test that knows what is in it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use tower_keep::{
    Created, Cursor, Page, Record, RecordId, Rotated, ScanSessions, SessionStore, StoreError,
    StoredSession, Timestamp, Updated, UserId, UserSessions, Version,
};

/// Remembers all ids that a store was ever given, so that what lives there can be counted and found. Clones
/// remember the same ids.
#[derive(Clone, Debug)]
pub struct Listed<S> {
    pub store: S,
    ids: Arc<Mutex<BTreeSet<RecordId>>>,
}

impl<S> Listed<S> {
    pub fn new(store: S) -> Self {
        let ids = Arc::default();
        Self { store, ids }
    }

    fn note(&self, id: &RecordId) {
        self.ids.lock().unwrap().insert(*id);
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for Listed<S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.store.load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.note(id);
        self.store.create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        self.store.update(id, record, expected).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.note(new);
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
        self.store.delete(id).await
    }
}

#[async_trait]
impl<S: SessionStore> ScanSessions for Listed<S> {
    async fn scan(&self, _after: Option<&Cursor>, _limit: usize) -> Result<Page, StoreError> {
        let ids = self.ids.lock().unwrap().clone();
        let mut sessions = Vec::new();
        for id in ids {
            let record = self.load(&id).await?;
            sessions.extend(record.map(|record| StoredSession { id, record }));
        }
        let next = None;
        Ok(Page { sessions, next })
    }
}

#[async_trait]
impl<S: SessionStore> UserSessions for Listed<S> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        let mut sessions = self.scan(None, 1).await?.sessions;
        sessions.retain(|session| session.record.user.as_ref() == Some(user));
        Ok(sessions)
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        let mut ended = Vec::new();
        for session in self.sessions_of(user).await? {
            if Some(&session.id) != keep {
                ended.extend(self.delete(&session.id).await?.then_some(session.id));
            }
        }
        Ok(ended)
    }
}
