//! `MigratingStore` against the contract, with half of the sessions still in the old store.

use std::sync::Arc;

use async_trait::async_trait;
use tower_keep::{
    Created, Cursor, DeleteExpired, MemoryStore, MigratingStore, Page, Record, RecordId, Rotated,
    ScanSessions, SessionStore, StoreError, StoredSession, Timestamp, Updated, UserId,
    UserSessions, Version,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

use crate::{
    model::model_tests,
    support::{TestStore, WatchedStore, postgres},
};

/// Sessions begin in the old store or in the new one, as the first bit of their ids says.
#[derive(Debug)]
struct Scattered<New, Old>(MigratingStore<New, Old>);

impl<New, Old> Scattered<New, Old> {
    fn new(new: New, old: Old) -> Self {
        Self(MigratingStore::new(new, old))
    }
}

#[async_trait]
impl<New: SessionStore, Old: SessionStore> SessionStore for Scattered<New, Old> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.0.load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        let is_new = id.as_bytes()[0] & 1 == 1;
        match is_new || self.0.new_store().load(id).await?.is_some() {
            true => self.0.create(id, record).await,
            false => self.0.old_store().create(id, record).await,
        }
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        self.0.update(id, record, expected).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.0.rotate(old, new, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        self.0.touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.0.delete(id).await
    }
}

#[async_trait]
impl<New: UserSessions, Old: UserSessions> UserSessions for Scattered<New, Old> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        self.0.sessions_of(user).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        self.0.delete_all_of(user, keep).await
    }
}

#[async_trait]
impl<New: DeleteExpired, Old: DeleteExpired> DeleteExpired for Scattered<New, Old> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        self.0.delete_expired(limit).await
    }
}

#[async_trait]
impl<New: ScanSessions, Old: ScanSessions> ScanSessions for Scattered<New, Old> {
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.0.scan(after, limit).await
    }
}

mod in_memory {
    use super::*;

    conformance_tests!(Scattered::new(MemoryStore::new(), MemoryStore::new()));
    user_sessions_tests!(Scattered::new(MemoryStore::new(), MemoryStore::new()));
    delete_expired_tests!(Scattered::new(MemoryStore::new(), MemoryStore::new()));
    scan_sessions_tests!(Scattered::new(MemoryStore::new(), MemoryStore::new()));
    // Each call to either store lets other requests go first.
    model_tests!(|clock| async move {
        let [new, old] = [(); 2].map(|()| Arc::new(MemoryStore::new().with_clock(clock.clone())));
        Scattered::new(WatchedStore::new(&new, 1), WatchedStore::new(&old, 1))
    });
}

mod redis_to_postgres {
    use super::*;

    conformance_tests!(Scattered::new(postgres(5), TestStore::named("redis")));
    user_sessions_tests!(Scattered::new(postgres(5), TestStore::named("redis")));
    scan_sessions_tests!(Scattered::new(postgres(5), TestStore::named("redis")));
    model_tests!(
        |clock| async move {
            let old = TestStore::named("redis").with_clock(clock.clone());
            Scattered::new(postgres(5).with_clock(clock), old)
        },
        CASES
    );
}

mod sqlite_to_memcached {
    use super::*;

    conformance_tests!(Scattered::new(
        TestStore::named("memcached"),
        TestStore::named("sqlite")
    ));
}

/// The scripts are run on each store by itself too.
const CASES: u32 = 25;
