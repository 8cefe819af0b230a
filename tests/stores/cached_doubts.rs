//! `CachedStore` where a removal is in doubt: of sessions that a failed call may have ended, and beside a server that is
//! down.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tower_keep::{
    Cached, CachedStore, Created, MemcachedCache, MemoryCache, MemoryStore, Record, RecordCache,
    RecordId, Rotated, SessionStore, StoreError, StoredSession, Timestamp, Updated, UserId,
    UserSessions, Version,
    testing::{Fault, FaultyStore, Operation},
};
use tower_keep_servers::{Kind, Server};

use crate::{
    sql_places::{HOUR, new_id, now, record},
    support::eventually,
};

#[tokio::test]
async fn sessions_that_a_failed_call_may_have_ended_are_read_from_the_store_listed_or_not() {
    let store = FaultyStore::new(MemoryStore::new());
    let store = CachedStore::new(MemoryCache::of_sole_process(), ListsNobody(store));
    let eve = UserId::new("eve").unwrap();
    let (id, first) = (new_id(), record(now(), HOUR, Some("eve")));
    let _ = store.create(&id, &first).await.unwrap();
    assert!(store.load(&id).await.unwrap().is_some());
    let faulty = &store.store().0;
    faulty.inject_once(Operation::DeleteAllOf, Fault::LoseReply);
    store.delete_all_of(&eve, None).await.unwrap_err();
    assert_eq!(store.load(&id).await.unwrap(), None);
    // The next call finds none to end, and succeeds.
    assert_eq!(store.delete_all_of(&eve, None).await.unwrap(), []);
    assert_eq!(store.load(&id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn copies_of_a_user_are_trusted_again_once_none_is_left_from_before() {
    let store = FaultyStore::new(MemoryStore::new());
    let store = CachedStore::new(MemoryCache::of_sole_process(), ListsNobody(store));
    let eve = UserId::new("eve").unwrap();
    let faulty = &store.store().0;
    faulty.inject_once(Operation::DeleteAllOf, Fault::Fail);
    store.delete_all_of(&eve, None).await.unwrap_err();
    let (id, first) = (new_id(), record(now(), HOUR, Some("eve")));
    let _ = store.create(&id, &first).await.unwrap();
    let is_cached = async || {
        faulty.heal();
        assert!(store.load(&id).await.unwrap().is_some());
        faulty.inject(Fault::Fail);
        store.load(&id).await.is_ok()
    };
    assert!(!is_cached().await);
    tokio::time::advance(MemoryCache::TIME_TO_LIVE_DEFAULT + Duration::from_secs(11)).await;
    assert!(is_cached().await);
}

#[tokio::test]
async fn sessions_of_others_are_still_read_from_the_cache_after_a_failed_call() {
    let store = FaultyStore::new(MemoryStore::new());
    let store = CachedStore::new(MemoryCache::of_sole_process(), ListsNobody(store));
    let eve = UserId::new("eve").unwrap();
    let (id, first) = (new_id(), record(now(), HOUR, Some("adam")));
    let _ = store.create(&id, &first).await.unwrap();
    assert!(store.load(&id).await.unwrap().is_some());
    let faulty = &store.store().0;
    faulty.inject_once(Operation::DeleteAllOf, Fault::Fail);
    store.delete_all_of(&eve, None).await.unwrap_err();
    faulty.inject(Fault::Fail);
    assert_eq!(store.load(&id).await.unwrap(), Some(first));
}

#[tokio::test]
async fn beside_a_server_that_is_down_a_logout_is_final_for_all_who_share_the_other() {
    let servers = [
        Server::start(Kind::Memcached).await,
        Server::start(Kind::Memcached).await,
    ];
    let nodes = servers
        .each_ref()
        .map(|server| server.address().to_string());
    let open = || {
        let cache = MemcachedCache::open(&format!("memcached://{}", nodes.join(",")));
        cache.unwrap().with_timeout(PATIENCE)
    };
    let store = Arc::new(MemoryStore::new());
    let here = CachedStore::new(open(), Arc::clone(&store)).with_cache_timeout(PATIENCE);
    let there = CachedStore::new(open(), store).with_cache_timeout(PATIENCE);
    let ids: Vec<RecordId> = (0..32).map(|_| new_id()).collect();
    for id in &ids {
        let first = record(now(), HOUR, None);
        let _ = here.create(id, &first).await.unwrap();
        eventually("a copy", || async {
            assert!(here.load(id).await.unwrap().is_some());
            let found = here.cache().get(id).await.unwrap();
            matches!(found, Cached::Hit(_)).then_some(())
        })
        .await;
    }
    servers[0].kill9().await;
    let mut left = Vec::new();
    for id in &ids {
        match here.cache().get(id).await {
            Ok(found) => {
                assert!(matches!(found, Cached::Hit(_)));
                left.push(id);
            }
            // This part of the cache is left alone from now on.
            Err(_) => assert!(here.load(id).await.unwrap().is_some()),
        }
    }
    assert!(!left.is_empty() && left.len() < ids.len());
    for id in left {
        assert!(there.load(id).await.unwrap().is_some());
        assert!(here.delete(id).await.unwrap());
        assert_eq!(there.load(id).await.unwrap(), None);
    }
}

/// For a busy machine; a server that is down refuses at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store that has listed the sessions of a user before any of them was made.
#[derive(Debug)]
struct ListsNobody(FaultyStore<MemoryStore>);

#[async_trait]
impl SessionStore for ListsNobody {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.0.load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.0.create(id, record).await
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
impl UserSessions for ListsNobody {
    async fn sessions_of(&self, _: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        Ok(Vec::new())
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        self.0.delete_all_of(user, keep).await
    }
}
