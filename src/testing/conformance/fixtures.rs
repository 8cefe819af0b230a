//! Records and ids for the conformance tests.

use std::time::{Duration, SystemTime};

use crate::{
    clock::{Clock, SystemClock},
    id::{RandomSource, RecordId, SystemRandom, WriteToken},
    record::{Payload, Record, Version},
    store::{Created, SessionStore},
    timestamp::Timestamp,
    user::UserId,
};

pub(super) type Store<'a> = &'a dyn SessionStore;

pub(super) fn new_id() -> RecordId {
    let mut bytes = [0; RecordId::LEN];
    SystemRandom.fill(&mut bytes).expect("random bits");
    RecordId::from_bytes(bytes)
}

pub(super) fn new_token() -> WriteToken {
    WriteToken::generate(&SystemRandom).expect("random bits")
}

/// A user that no other test has.
pub(super) fn new_user() -> UserId {
    UserId::new(new_id().to_hex()).expect("a user id")
}

pub(super) fn now() -> Timestamp {
    SystemClock.now().into()
}

/// In an hour: later than any test takes.
pub(super) fn later() -> Timestamp {
    now().saturating_add(Duration::from_secs(60 * 60))
}

pub(super) fn new_record(payload: &[u8]) -> Record {
    Record {
        version: Version::first(new_token()),
        user: None,
        created_at: now(),
        expires_at: later(),
        absolute_deadline: later().saturating_add(Duration::from_secs(60 * 60)),
        payload: payload.into(),
    }
}

/// What a writer makes of a record: the next revision with a token of its own.
pub(super) fn next(record: &Record, payload: &[u8]) -> Record {
    Record {
        version: record.version.next(new_token()),
        payload: Payload::from(payload),
        ..record.clone()
    }
}

pub(super) async fn create(store: Store<'_>, record: &Record) -> RecordId {
    let id = new_id();
    put(store, &id, record).await;
    id
}

pub(super) async fn put(store: Store<'_>, id: &RecordId, record: &Record) {
    let created = store.create(id, record).await.expect("create");
    assert_eq!(created, Created::Done, "a random id is not taken");
}

pub(super) async fn load(store: Store<'_>, id: &RecordId) -> Option<Record> {
    store.load(id).await.expect("load")
}

/// A record that is alive when it is created and has expired when this returns.
pub(super) async fn create_and_outlive(store: Store<'_>, record: Record) -> RecordId {
    let id = new_id();
    let short = Record {
        expires_at: now().saturating_add(Duration::from_millis(300)),
        ..record
    };
    put(store, &id, &short).await;
    outlive(store, short.expires_at).await;
    id
}

/// Waits until the store, too, thinks that this time has come.
pub(super) async fn outlive(store: Store<'_>, end: Timestamp) {
    // Other records than the caller's are asked for: a load may remove what has expired.
    let canary = Record {
        expires_at: end,
        ..new_record(b"canary")
    };
    let canary_id = new_id();
    let _ = store.create(&canary_id, &canary).await.expect("create");
    let started = SystemTime::now();
    while now() < end || load(store, &canary_id).await.is_some() {
        assert!(
            started.elapsed().is_ok_and(|waited| waited < PATIENCE),
            "a record is still served long after it has expired"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Enough for a store whose expiry is as coarse as seconds.
const PATIENCE: Duration = Duration::from_secs(20);
