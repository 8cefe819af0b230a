//! The caches against their contract.

mod memcached;
mod redis;

mod memory {
    mod of_sole_process {
        use tower_keep::{MemoryCache, testing::record_cache_tests};

        record_cache_tests!(MemoryCache::of_sole_process());
    }

    mod stale_up_to_a_second {
        use std::time::Duration;

        use tower_keep::{MemoryCache, testing::record_cache_tests};

        record_cache_tests!(MemoryCache::stale_up_to(Duration::from_secs(1)));
    }
}

use std::time::Duration;

use tower_keep::{
    Cached, CachedStore, Created, MemoryStore, Record, RecordCache, RecordId, SessionStore,
};
use tower_keep_servers::Server;

use crate::{
    sql_places::{HOUR, new_id, now, record},
    support::eventually,
};

/// Enough for the slowest machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Of each operation while the server does not answer.
const ROUNDS: u32 = 4;

/// What a cache may take for all of them, on a machine that is busy: less than with the time that a store has.
const IN_TIME: Duration = Duration::from_secs(20);

/// The ticket to bring one.
async fn ticket<C: RecordCache>(cache: &C, id: &RecordId) -> C::Ticket {
    match cache.get(id).await.unwrap() {
        Cached::Miss(ticket) => ticket.unwrap(),
        Cached::Hit(copy) => panic!("{copy:?}"),
    }
}

async fn bring(cache: &impl RecordCache, id: &RecordId, record: &Record) {
    // A ticket stands for some seconds.
    let brought = eventually("a copy", || async {
        let ticket = ticket(cache, id).await;
        cache.fill(id, record, ticket).await.unwrap();
        copy(cache, id).await
    });
    assert_eq!(brought.await, *record);
}

async fn copy(cache: &impl RecordCache, id: &RecordId) -> Option<Record> {
    match cache.get(id).await.unwrap() {
        Cached::Hit(record) => Some(record),
        Cached::Miss(_) => None,
    }
}

/// A store behind a cache that has something unreadable under that id answers what it has, and the cache has it soon.
async fn is_read_past(cache: &(impl RecordCache + Clone), id: &RecordId, record: &Record) {
    let store = CachedStore::new(cache.clone(), MemoryStore::new()).with_cache_timeout(TIMEOUT);
    assert_eq!(
        store.store().create(id, record).await.unwrap(),
        Created::Done
    );
    let filled = eventually("a copy", || async {
        assert_eq!(store.load(id).await.unwrap().as_ref(), Some(record));
        match cache.get(id).await {
            Ok(Cached::Hit(copy)) => Some(copy),
            Ok(Cached::Miss(_)) | Err(_) => None,
        }
    });
    assert_eq!(filled.await, *record);
}

/// Kills the server and starts it again, and then has it stand still for a while.
async fn is_found_again(server: &Server, cache: &impl RecordCache) {
    let (id, ours) = (new_id(), record(now(), HOUR, None));
    recovers(cache, &id).await;
    server.kill9().await;
    assert_fails_in_time(cache, &id, &ours).await;
    server.start_again().await;
    recovers(cache, &id).await;
    server.pause().await;
    assert_fails_in_time(cache, &id, &ours).await;
    server.resume().await;
    recovers(cache, &id).await;
}

/// Each operation answers an error, and soon.
async fn assert_fails_in_time(cache: &impl RecordCache, id: &RecordId, record: &Record) {
    let all = async {
        for _ in 0..ROUNDS {
            cache.get(id).await.unwrap_err();
            let replaced = cache.replace(id, record, record.version).await;
            replaced.unwrap_err();
            let touched = cache.touch(id, record.expires_at, record.version).await;
            touched.unwrap_err();
            cache.remove(id).await.unwrap_err();
        }
    };
    tokio::time::timeout(IN_TIME, all).await.unwrap();
}

/// Asks until the server that is back is found again.
async fn recovers(cache: &impl RecordCache, id: &RecordId) {
    let back = async {
        while cache.get(id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, back).await.unwrap();
}
