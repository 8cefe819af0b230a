//! `CachedStore` against the contract: each cache in front of each kind of store.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use tower_keep::{
    CachedStore, MemcachedCache, MemoryCache, PostgresStore, RecordCache, RedisCache, SessionStore,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

use crate::{
    model::model_tests,
    support::{TestStore, memcached_cache, postgres, redis_cache},
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
