//! `CachedStore` against the contract: each cache in front of each kind of store.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use tower_keep::{
    CachedStore, Created, MemcachedCache, MemoryCache, PostgresStore, RecordCache, RedisCache,
    RedisStore, SessionStore, Updated,
    testing::{
        CountingStore, conformance_tests, delete_expired_tests, scan_sessions_tests,
        user_sessions_tests,
    },
};

use crate::{
    model::model_tests,
    sql_places::{HOUR, new_id, next, now, record},
    support::{
        TestStore, eventually, memcached_cache, postgres, redis, redis_cache, redis_sentinel,
    },
};

fn in_a_file() -> TestStore {
    TestStore::named("sqlite")
}

/// Nobody listens there.
fn nowhere() -> PostgresStore {
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(100))
        .connect_lazy("postgres://app:hunter2@127.0.0.1:1/app");
    PostgresStore::new(pool.unwrap())
}

/// One pair, and how long the cache may take if that is not the default.
macro_rules! pair {
    ($name:ident, $cache:expr, $store:expr $(, $limit:expr)?) => {
        mod $name {
            use super::*;

            conformance_tests!(cached($store), unreachable = cached(nowhere()));
            user_sessions_tests!(cached($store));
            delete_expired_tests!(cached($store));
            scan_sessions_tests!(cached($store));
            model_tests!(
                |clock| async move {
                    let store = $store.with_clock(clock.clone());
                    cached(store).with_clock(clock)
                },
                CASES
            );

            fn cached<S: SessionStore>(store: S) -> CachedStore<impl RecordCache, S> {
                CachedStore::new($cache, store)$(.with_cache_timeout($limit))?
            }
        }
    };
}

pair!(
    memory_and_postgres,
    MemoryCache::of_sole_process(),
    postgres(5)
);
pair!(
    memory_and_sqlite,
    MemoryCache::of_sole_process(),
    in_a_file()
);
pair!(redis_and_postgres, redis_cache(), postgres(5));
pair!(redis_and_sqlite, redis_cache(), in_a_file());
pair!(memcached_and_postgres, memcached_cache(), postgres(5));
pair!(memcached_and_sqlite, memcached_cache(), in_a_file());

/// One store with the cache in this process that its server tells of writes.
macro_rules! near_pair {
    ($name:ident, $store:expr) => {
        mod $name {
            use super::*;

            conformance_tests!(cached($store).await);
            user_sessions_tests!(cached($store).await);
            scan_sessions_tests!(cached($store).await);
            model_tests!(
                |clock| async move {
                    let store = $store.with_clock(clock.clone());
                    cached(store).await.with_clock(clock)
                },
                CASES
            );
        }
    };
}

mod near_redis {
    use super::*;

    near_pair!(on_a_server, redis());
    near_pair!(under_sentinels, redis_sentinel());

    async fn cached(store: RedisStore) -> CachedStore<MemoryCache, RedisStore> {
        CachedStore::new(store.near_cache().await.unwrap(), store)
    }
}

mod near_postgres {
    use super::*;

    near_pair!(with_notifications, postgres(5));

    async fn cached(store: PostgresStore) -> CachedStore<MemoryCache, PostgresStore> {
        store.migrate_notifications().await.unwrap();
        CachedStore::new(store.near_cache().await.unwrap(), store)
    }
}

#[tokio::test]
async fn behind_the_cache_that_redis_tells_a_hot_read_asks_the_server_nothing() {
    let store = redis();
    let cache = store.near_cache().await.unwrap();
    a_hot_read_is_free(cache, store).await;
}

#[tokio::test]
async fn behind_the_cache_that_postgres_tells_a_hot_read_asks_the_server_nothing() {
    let store = postgres(5);
    store.migrate_notifications().await.unwrap();
    let cache = store.near_cache().await.unwrap();
    a_hot_read_is_free(cache, store).await;
}

async fn a_hot_read_is_free<S: SessionStore>(cache: MemoryCache, store: S) {
    let store = CachedStore::new(cache, CountingStore::new(store));
    let asked = || store.store().take();
    let (id, first) = (new_id(), record(now(), HOUR, None));
    assert_eq!(store.create(&id, &first).await.unwrap(), Created::Done);
    let read = async || store.load(&id).await.unwrap();
    // The news of its own writes may come behind the first reads.
    let hot = async || {
        eventually("a copy that stays", async || {
            asked();
            for _ in 0..10 {
                assert!(read().await.is_some());
            }
            (asked().total() == 0).then_some(())
        })
        .await;
    };
    hot().await;
    let second = next(&first);
    let updated = store.update(&id, &second, first.version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
    let spent = asked();
    assert_eq!((spent.update, spent.total()), (1, 1));
    assert_eq!(read().await, Some(second));
    hot().await;
    assert!(store.delete(&id).await.unwrap());
    let spent = asked();
    assert_eq!((spent.delete, spent.total()), (1, 1));
    assert_eq!(read().await, None);
}

// A cache that can not be reached changes nothing in what the store promises.
pair!(
    no_redis_and_sqlite,
    RedisCache::open("redis://app:hunter2@127.0.0.1:1").unwrap(),
    in_a_file(),
    Duration::from_millis(2)
);
pair!(
    no_memcached_and_sqlite,
    MemcachedCache::open("memcached://127.0.0.1:1").unwrap(),
    in_a_file(),
    Duration::from_millis(2)
);

/// Of each pair; all of them run the same scripts.
const CASES: u32 = 30;
