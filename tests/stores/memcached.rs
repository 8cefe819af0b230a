//! `MemcachedStore` against the contract, over two nodes.

use std::time::Duration;

use tower_keep::{Created, MemcachedStore, Rotated, SessionStore, testing::conformance_tests};

use crate::{
    model::model_tests,
    sql_places::{HOUR, new_id, next, now, record},
    support::memcached,
};

/// Nobody listens there.
fn unreachable() -> MemcachedStore {
    let store = MemcachedStore::open("memcached://127.0.0.1:1,127.0.0.1:2").unwrap();
    store.with_timeout(Duration::from_millis(200))
}

conformance_tests!(memcached(), unreachable = unreachable());
/// The note of where it went is what makes its new id alive, until that has been confirmed.
#[tokio::test]
async fn an_id_that_a_session_has_left_is_not_given_again() {
    let store = memcached();
    let (old, new) = (new_id(), new_id());
    let before = record(now(), HOUR, None);
    let after = next(&before);
    assert_eq!(store.create(&old, &before).await.unwrap(), Created::Done);
    let rotated = store.rotate(&old, &new, &after, before.version).await;
    assert_eq!(rotated.unwrap(), Rotated::Done);
    let another = record(now(), HOUR, None);
    assert_eq!(store.create(&old, &another).await.unwrap(), Created::Exists);
    assert_eq!(store.load(&old).await.unwrap(), None);
    assert_eq!(store.load(&new).await.unwrap(), Some(after));
}

model_tests!(|clock| async move { memcached().with_clock(clock) });
