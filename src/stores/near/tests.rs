use super::*;
use crate::{
    id::WriteToken,
    record::{Payload, Version},
};

fn record(revision: u64, payload: usize) -> Record {
    let token = WriteToken::from_bytes([u8::try_from(revision).unwrap(); WriteToken::LEN]);
    Record {
        version: Version { revision, token },
        user: None,
        created_at: Timestamp::from_millis(0),
        expires_at: Timestamp::from_millis(i64::MAX),
        absolute_deadline: Timestamp::from_millis(i64::MAX),
        payload: Payload::from(vec![0; payload]),
    }
}

/// All in one shard.
fn id(number: u16) -> RecordId {
    let mut bytes = [0; RecordId::LEN];
    bytes[2..4].copy_from_slice(&number.to_be_bytes());
    RecordId::from_bytes(bytes)
}

async fn bring(cache: &MemoryCache, id: &RecordId, record: &Record) {
    let Cached::Miss(Some(ticket)) = cache.get(id).await.unwrap() else {
        panic!("it is there");
    };
    cache.fill(id, record, ticket).await.unwrap();
}

async fn has(cache: &MemoryCache, id: &RecordId) -> bool {
    matches!(cache.get(id).await.unwrap(), Cached::Hit(_))
}

#[tokio::test]
async fn a_full_cache_lets_go_of_the_least_recently_used() {
    let cache = MemoryCache::of_sole_process().with_bytes_max(BYTES_MIN);
    let copy = record(1, 16 * 1024);
    for number in 0..3 {
        bring(&cache, &id(number), &copy).await;
    }
    assert!(has(&cache, &id(0)).await);
    bring(&cache, &id(3), &copy).await;
    assert!(has(&cache, &id(0)).await);
    assert!(!has(&cache, &id(1)).await);
    assert!(has(&cache, &id(3)).await);
}

#[tokio::test]
async fn a_smaller_bound_holds_at_once_for_a_cache_in_use() {
    let (cache, follower) = MemoryCache::followed();
    follower.fresh_until(Instant::now() + Duration::from_secs(60));
    for number in 0..20 {
        bring(&cache, &id(number), &record(1, 16 * 1024)).await;
    }
    assert_eq!(cache.len(), 20);
    let same = cache.clone().with_bytes_max(BYTES_MIN);
    assert_eq!(cache.len(), 3);
    assert!(has(&same, &id(19)).await, "the most recently used stay");
}

#[tokio::test]
async fn a_record_larger_than_the_cache_has_no_copy_and_drives_none_out() {
    let cache = MemoryCache::of_sole_process().with_bytes_max(BYTES_MIN);
    bring(&cache, &id(0), &record(1, 10)).await;
    bring(&cache, &id(1), &record(1, BYTES_MIN)).await;
    assert!(has(&cache, &id(0)).await);
    assert!(!has(&cache, &id(1)).await);
}

#[tokio::test]
async fn an_older_copy_is_let_go_of_and_its_room_is_free_again() {
    let cache = MemoryCache::of_sole_process().with_bytes_max(BYTES_MIN);
    let large = |revision| record(revision, 60 * 1024);
    for revision in 1..50 {
        bring(&cache, &id(0), &large(revision)).await;
        let (next, expected) = (large(revision + 1), large(revision).version);
        cache.replace(&id(0), &next, expected).await.unwrap();
        assert!(has(&cache, &id(0)).await, "there is room for it");
        cache.remove(&id(0)).await.unwrap();
    }
}

#[cfg(any(feature = "postgres", feature = "redis"))]
#[tokio::test(start_paused = true)]
async fn one_that_is_told_of_writes_serves_nothing_once_it_has_not_heard_for_a_while() {
    let (cache, follower) = MemoryCache::followed();
    let found = cache.get(&id(0)).await.unwrap();
    assert!(matches!(found, Cached::Miss(None)), "it has not heard yet");
    follower.fresh_until(Instant::now() + Duration::from_secs(1));
    bring(&cache, &id(0), &record(1, 10)).await;
    bring(&cache, &id(1), &record(5, 10)).await;
    tokio::time::advance(Duration::from_millis(999)).await;
    assert!(has(&cache, &id(0)).await);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!has(&cache, &id(0)).await);
    follower.fresh_until(Instant::now() + Duration::from_secs(1));
    assert!(has(&cache, &id(0)).await, "nothing was missed");
    follower.changed(&id(0));
    assert!(!has(&cache, &id(0)).await);
    follower.is_cut_off();
    let found = cache.get(&id(1)).await.unwrap();
    assert!(matches!(found, Cached::Miss(None)));
    assert!(cache.is_empty());
    assert!(follower.is_needed());
    drop(cache);
    assert!(!follower.is_needed());
}

#[cfg(any(feature = "postgres", feature = "redis"))]
#[tokio::test]
async fn a_fill_that_was_begun_before_a_flush_is_left_out() {
    let (cache, follower) = MemoryCache::followed();
    follower.fresh_until(Instant::now() + Duration::from_secs(60));
    let Cached::Miss(Some(ticket)) = cache.get(&id(0)).await.unwrap() else {
        panic!("it is there");
    };
    follower.flush();
    cache.fill(&id(0), &record(1, 10), ticket).await.unwrap();
    assert!(!has(&cache, &id(0)).await);
}

#[tokio::test(start_paused = true)]
async fn a_cache_whose_follower_is_gone_serves_nothing() {
    let (cache, follower) = MemoryCache::followed();
    follower.fresh_until(Instant::now() + Duration::from_secs(60));
    bring(&cache, &id(0), &record(1, 10)).await;
    drop(follower);
    assert!(cache.is_empty());
    assert!(matches!(
        cache.get(&id(0)).await.unwrap(),
        Cached::Miss(None)
    ));
}
