//! Limits of time as long as can be said.

use std::time::Duration;

use tower_keep::{
    Cached, Created, MemcachedCache, RecordCache, RedisCache, RedisStore, SessionStore,
};

use crate::{
    redis_places::{Place, Which},
    sql_places::{HOUR, new_id, now, record},
    support::{memcached, memcached_url},
};

async fn keeps(store: impl SessionStore) {
    let (id, session) = (new_id(), record(now(), HOUR, None));
    assert_eq!(store.create(&id, &session).await.unwrap(), Created::Done);
    assert_eq!(store.load(&id).await.unwrap(), Some(session));
}

async fn is_asked(cache: impl RecordCache) {
    let miss = cache.get(&new_id()).await.unwrap();
    assert!(matches!(miss, Cached::Miss(Some(_))));
}

#[tokio::test]
async fn a_store_may_take_for_ever() {
    for which in [Which::Single, Which::Cluster] {
        let place = Place::new(which).await;
        let store = RedisStore::open(&place.url()).unwrap();
        keeps(
            store
                .with_prefix(&*place.prefix)
                .with_timeout(Duration::MAX),
        )
        .await;
    }
    keeps(memcached().with_timeout(Duration::MAX)).await;
}

#[tokio::test]
async fn a_cache_may_take_for_ever() {
    let place = Place::new(Which::Single).await;
    let cache = RedisCache::open(&place.url()).unwrap();
    is_asked(
        cache
            .with_prefix(&*place.prefix)
            .with_timeout(Duration::MAX),
    )
    .await;
    let cache = MemcachedCache::open(&memcached_url()).unwrap();
    is_asked(cache.with_timeout(Duration::MAX)).await;
}
