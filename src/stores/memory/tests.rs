use std::time::Duration;

use super::*;
use crate::{id::WriteToken, record::Payload};

const NOW: Timestamp = Timestamp::from_millis(0);

fn id(number: u16) -> RecordId {
    let mut bytes = [0; RecordId::LEN];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    RecordId::from_bytes(bytes)
}

fn record(payload: usize) -> Record {
    let end = Timestamp::from(std::time::SystemTime::now()).saturating_add(Duration::from_secs(60));
    Record {
        version: Version::first(WriteToken::from_bytes([1; 16])),
        user: None,
        created_at: NOW,
        expires_at: end,
        absolute_deadline: end,
        payload: Payload::from(vec![0; payload]),
    }
}

async fn fill(store: &MemoryStore, numbers: std::ops::Range<u16>, payload: usize) {
    for number in numbers {
        let created = store.create(&id(number), &record(payload)).await.unwrap();
        assert_eq!(created, Created::Done);
    }
}

async fn is_there(store: &MemoryStore, number: u16) -> bool {
    store.load(&id(number)).await.unwrap().is_some()
}

#[tokio::test]
async fn the_least_recently_used_session_goes_first() {
    let store = MemoryStore::new().with_entries_max(3);
    fill(&store, 0..3, 0).await;
    assert!(
        is_there(&store, 0).await,
        "used, so that 1 is the oldest now"
    );
    fill(&store, 3..4, 0).await;
    assert_eq!(store.len(), 3);
    assert!(!is_there(&store, 1).await);
    for number in [0, 2, 3] {
        assert!(is_there(&store, number).await, "{number}");
    }
}

#[tokio::test]
async fn a_store_never_holds_more_bytes_than_it_is_told() {
    let store = MemoryStore::new().with_bytes_max(SHARD_BYTES_MIN);
    let size = 1000 + ENTRY_OVERHEAD;
    fill(&store, 0..200, 1000).await;
    assert_eq!(store.len(), SHARD_BYTES_MIN / size);
    assert!(is_there(&store, 199).await && !is_there(&store, 0).await);
}

#[tokio::test]
async fn a_record_that_grows_pushes_others_out_and_not_itself() {
    let store = MemoryStore::new().with_bytes_max(SHARD_BYTES_MIN);
    fill(&store, 0..10, 1000).await;
    let mut large = record(60_000);
    large.version = large.version.next(WriteToken::from_bytes([2; 16]));
    let updated = store.update(&id(0), &large, record(0).version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
    assert!(is_there(&store, 0).await);
    assert!(store.len() < 10);
}

#[tokio::test]
async fn a_record_larger_than_the_store_is_a_typed_error_and_evicts_nobody() {
    let store = MemoryStore::new().with_bytes_max(SHARD_BYTES_MIN);
    fill(&store, 0..1, 1000).await;
    let error = store
        .create(&id(1), &record(SHARD_BYTES_MIN))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge);
    assert!(is_there(&store, 0).await);
}

#[tokio::test]
async fn a_large_store_is_divided_and_keeps_its_bounds() {
    let store = MemoryStore::new().with_entries_max(16 * SHARD_ENTRIES_MIN);
    assert_eq!(store.0.shards.len(), SHARDS_MAX);
    fill(&store, 0..u16::MAX, 0).await;
    fill(&store, u16::MAX..u16::MAX, 0).await;
    assert!(store.len() <= 16 * SHARD_ENTRIES_MIN);
    assert!(is_there(&store, u16::MAX - 1).await);
}

#[tokio::test]
async fn an_index_entry_goes_with_its_record() {
    let store = MemoryStore::new().with_entries_max(1);
    let user = UserId::parse("ada").unwrap();
    let mut of_ada = record(0);
    of_ada.user = Some(user.clone());
    assert_eq!(store.create(&id(0), &of_ada).await.unwrap(), Created::Done);
    assert_eq!(store.sessions_of(&user).await.unwrap().len(), 1);
    fill(&store, 1..2, 0).await;
    assert_eq!(store.sessions_of(&user).await.unwrap(), []);
}

#[test]
#[should_panic(expected = "at least one session")]
fn a_store_of_no_sessions_is_refused() {
    let _ = MemoryStore::new().with_entries_max(0);
}

#[test]
#[should_panic(expected = "at least")]
fn a_store_too_small_for_one_session_is_refused() {
    let _ = MemoryStore::new().with_bytes_max(1000);
}
