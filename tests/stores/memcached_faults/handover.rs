//! Rotations that were interrupted.

use std::time::{Duration, Instant};

use tower_keep::{
    Created, Record, RecordId, Rotated, SessionStore, StoreErrorKind, Timestamp, Updated,
};

use super::{CANARY, CUSHION, Nodes, item, moved, pending, put, quiet};
use crate::{file_faults::record, support::eventually};

/// A session of node 0 on its way to node 1.
struct Way {
    nodes: Nodes,
    old_id: RecordId,
    new_id: RecordId,
    old: Record,
    new: Record,
}

impl Way {
    /// The new key has the pending record.
    async fn placed() -> Self {
        let nodes = Nodes::start().await;
        let (old_id, old) = nodes.session_at(0).await;
        let new_id = nodes.id_at(1).await;
        let new = record(2, CANARY.as_bytes());
        put(&nodes.servers[1], &new_id, &pending(&new, &old_id)).await;
        Self {
            nodes,
            old_id,
            new_id,
            old,
            new,
        }
    }

    /// And the old one the note.
    async fn retired() -> Self {
        let way = Self::placed().await;
        let note = moved(&way.new, &way.new_id);
        put(&way.nodes.servers[0], &way.old_id, &note).await;
        way
    }
}

#[tokio::test]
async fn before_the_moment_of_the_rotation_the_old_id_is_alive_alone() {
    let way = Way::placed().await;
    let (store, next) = (&way.nodes.store, record(3, b"".as_slice()));
    let version = way.new.version;
    assert_eq!(store.load(&way.new_id).await.unwrap(), None);
    let updated = store.update(&way.new_id, &next, version).await.unwrap();
    assert_eq!(updated, Updated::Gone);
    let touched = store.touch(&way.new_id, next.expires_at, version).await;
    assert!(!touched.unwrap());
    let other = way.nodes.id_at(0).await;
    let rotated = store.rotate(&way.new_id, &other, &next, version).await;
    assert_eq!(rotated.unwrap(), Rotated::Gone);
    assert_eq!(store.load(&other).await.unwrap(), None);
    let created = store.create(&way.new_id, &next).await.unwrap();
    assert_eq!(created, Created::Exists);
    assert_eq!(
        store.load(&way.old_id).await.unwrap().as_ref(),
        Some(&way.old)
    );
    // Sent again, it goes on where it was.
    let rotated = store.rotate(&way.old_id, &way.new_id, &way.new, way.old.version);
    assert_eq!(rotated.await.unwrap(), Rotated::Done);
    assert_eq!(store.load(&way.new_id).await.unwrap(), Some(way.new));
    assert_eq!(store.load(&way.old_id).await.unwrap(), None);
}

#[tokio::test]
async fn after_it_the_new_id_is_alive_alone_and_a_load_makes_it_plain() {
    let way = Way::retired().await;
    let store = &way.nodes.store;
    assert_eq!(store.load(&way.old_id).await.unwrap(), None);
    assert_eq!(
        store.load(&way.new_id).await.unwrap().as_ref(),
        Some(&way.new)
    );
    let plain = item(&way.nodes.servers[1], &way.new_id).await.unwrap();
    assert_eq!(plain.value, way.new.to_bytes());
    let rotated = store.rotate(&way.old_id, &way.new_id, &way.new, way.old.version);
    assert_eq!(rotated.await.unwrap(), Rotated::Done);
}

#[tokio::test]
async fn after_it_an_update_of_the_new_id_needs_no_load() {
    let way = Way::retired().await;
    let next = record(3, b"next".as_slice());
    let store = &way.nodes.store;
    let updated = store.update(&way.new_id, &next, way.new.version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
    assert_eq!(store.load(&way.new_id).await.unwrap(), Some(next));
}

#[tokio::test]
async fn after_it_a_rotation_of_the_new_id_needs_no_load() {
    let way = Way::retired().await;
    let next = record(3, b"next".as_slice());
    let third = way.nodes.id_at(0).await;
    let store = &way.nodes.store;
    let rotated = store.rotate(&way.new_id, &third, &next, way.new.version);
    assert_eq!(rotated.await.unwrap(), Rotated::Done);
    assert_eq!(store.load(&third).await.unwrap(), Some(next));
    assert_eq!(store.load(&way.new_id).await.unwrap(), None);
}

#[tokio::test]
async fn after_it_a_touch_of_the_new_id_needs_no_load() {
    let way = Way::retired().await;
    let later = way.new.expires_at.saturating_add(Duration::from_secs(1));
    let store = &way.nodes.store;
    let touched = store.touch(&way.new_id, later, way.new.version).await;
    assert!(touched.unwrap(), "there is one");
}

#[tokio::test]
async fn after_it_the_end_of_the_new_id_is_the_end_of_a_session() {
    let way = Way::retired().await;
    let store = &way.nodes.store;
    assert!(store.delete(&way.new_id).await.unwrap(), "there was one");
    assert_eq!(store.load(&way.new_id).await.unwrap(), None);
    assert_eq!(store.load(&way.old_id).await.unwrap(), None);
}

#[tokio::test]
async fn a_pending_record_that_has_expired_is_gone_for_each_operation() {
    let way = Way::retired().await;
    let store = &way.nodes.store;
    let mut expired = way.new.clone();
    expired.expires_at = Timestamp::from_millis(1);
    let bytes = pending(&expired, &way.old_id);
    let next = record(3, b"".as_slice());
    let stale = way.old.version;
    for expected in [way.new.version, stale] {
        put(&way.nodes.servers[1], &way.new_id, &bytes).await;
        let updated = store.update(&way.new_id, &next, expected).await.unwrap();
        assert_eq!(updated, Updated::Gone);
        put(&way.nodes.servers[1], &way.new_id, &bytes).await;
        let third = way.nodes.id_at(0).await;
        let rotated = store.rotate(&way.new_id, &third, &next, expected).await;
        assert_eq!(rotated.unwrap(), Rotated::Gone);
        put(&way.nodes.servers[1], &way.new_id, &bytes).await;
        assert_eq!(store.load(&way.new_id).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_record_whose_old_node_is_gone_is_an_error_and_never_anonymous() {
    let way = Way::retired().await;
    let store = way.nodes.another_store();
    let hasty = store.clone().with_timeout(LIMIT);
    way.nodes.servers[0].pause().await;
    let next = record(3, b"".as_slice());
    let error = hasty.load(&way.new_id).await.unwrap_err();
    assert_eq!(quiet(&error), StoreErrorKind::Unavailable);
    let error = hasty.update(&way.new_id, &next, way.new.version).await;
    assert_eq!(quiet(&error.unwrap_err()), StoreErrorKind::Unavailable);
    way.nodes.servers[0].resume().await;
    assert_eq!(store.load(&way.new_id).await.unwrap(), Some(way.new));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_while_one_node_hangs_is_an_error_and_one_id_is_alive_afterwards() {
    for down in [0, 1] {
        let nodes = Nodes::start().await;
        let (old_id, old) = nodes.session_at(0).await;
        let new_id = nodes.id_at(1).await;
        let new = record(2, CANARY.as_bytes());
        let store = nodes.another_store();
        let hasty = store.clone().with_timeout(LIMIT);
        // It is known, and has a connection.
        assert_eq!(store.load(&old_id).await.unwrap().as_ref(), Some(&old));
        assert_eq!(store.load(&new_id).await.unwrap(), None);
        nodes.servers[down].pause().await;
        let started = Instant::now();
        let error = hasty.rotate(&old_id, &new_id, &new, old.version).await;
        assert_eq!(quiet(&error.unwrap_err()), StoreErrorKind::Unavailable);
        assert!(started.elapsed() < LIMIT + CUSHION);
        nodes.servers[down].resume().await;
        let is_one = [[Some(old.clone()), None], [None, Some(new.clone())]];
        // It may go on between the two loads, if it does at all.
        eventually("one id", || async {
            let found = [
                store.load(&old_id).await.unwrap(),
                store.load(&new_id).await.unwrap(),
            ];
            assert_ne!(found, [None, None], "{down}");
            is_one.contains(&found).then_some(())
        })
        .await;
        let again = store.rotate(&old_id, &new_id, &new, old.version).await;
        assert_eq!(again.unwrap(), Rotated::Done);
        assert_eq!(store.load(&new_id).await.unwrap(), Some(new));
        assert_eq!(store.load(&old_id).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_whose_target_node_is_killed_is_an_error_and_the_old_id_is_alive() {
    let nodes = Nodes::start().await;
    let (old_id, old) = nodes.session_at(0).await;
    let new_id = nodes.id_at(1).await;
    let new = record(2, CANARY.as_bytes());
    nodes.servers[1].kill9().await;
    let store = &nodes.store;
    let error = store.rotate(&old_id, &new_id, &new, old.version).await;
    assert_eq!(quiet(&error.unwrap_err()), StoreErrorKind::Unavailable);
    assert_eq!(store.load(&old_id).await.unwrap().as_ref(), Some(&old));
    nodes.servers[1].start_again().await;
    let rotated = store.rotate(&old_id, &new_id, &new, old.version).await;
    assert_eq!(rotated.unwrap(), Rotated::Done);
    assert_eq!(store.load(&new_id).await.unwrap(), Some(new));
}

const LIMIT: Duration = Duration::from_secs(1);
