//! Many at once, and calls that are dropped.

use tokio::task::JoinSet;
use tower_keep::{Record, RecordId, SessionStore, Updated};
use tower_keep_servers::{FaultProxy, Kind, Server};

use super::{CANARY, Nodes, new_id, open, put_record};
use crate::{
    file_faults::record,
    support::{Browser, abandon_after, app, eventually, layer_over},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_at_once_are_all_answered_by_64_connections() {
    let server = Server::shared(Kind::Memcached).await;
    let proxy = FaultProxy::to(server.address()).await;
    let store = open(&[proxy.port()]);
    is_well(&store).await;
    let connections = proxy.traffic().connections;
    eprintln!("{connections} connections");
    // And one that asked for the settings.
    assert!(connections <= 64 + 1, "{connections}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_clients_count_to_3200_in_one_session_over_two_nodes() {
    let nodes = Nodes::start().await;
    let mut browser = Browser::new(&app(layer_over(nodes.store.clone())));
    browser.post("/put/who/me").await.assert_ok();
    let mut clients = JoinSet::new();
    for _ in 0..64 {
        let mut browser = browser.clone();
        clients.spawn(async move {
            for _ in 0..50 {
                browser.post("/count/n").await.assert_ok();
            }
        });
    }
    clients.join_all().await;
    assert_eq!(browser.get("/get/n").await.assert_ok().body, "3200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_dropped_at_any_poll_leaves_the_old_state_or_the_new_and_a_store_that_works() {
    let nodes = Nodes::start().await;
    let store = &nodes.store;
    for operation in 0..6 {
        let mut is_through = false;
        let mut polls = 0;
        while !is_through || polls < 12 {
            let (old_id, old) = nodes.session_at(0).await;
            let new_id = nodes.id_at(1).await;
            let mut new = record(2, CANARY.as_bytes());
            new.expires_at = old
                .expires_at
                .saturating_add(std::time::Duration::from_secs(1));
            let touched = Record {
                expires_at: new.expires_at,
                ..old.clone()
            };
            let before = [Some(old.clone()), None];
            let (ended, after) = match operation {
                0 => {
                    let load = abandon_after(polls, store.load(&old_id)).await;
                    (load.is_some(), before.clone())
                }
                1 => {
                    let update = store.update(&old_id, &new, old.version);
                    let update = abandon_after(polls, update).await;
                    (update.is_some(), [Some(new), None])
                }
                2 => {
                    let rotate = store.rotate(&old_id, &new_id, &new, old.version);
                    let rotate = abandon_after(polls, rotate).await;
                    (rotate.is_some(), [None, Some(new)])
                }
                3 => {
                    let touch = store.touch(&old_id, new.expires_at, old.version);
                    let touch = abandon_after(polls, touch).await;
                    (touch.is_some(), [Some(touched), None])
                }
                4 => {
                    let delete = abandon_after(polls, store.delete(&old_id)).await;
                    (delete.is_some(), [None, None])
                }
                _ => {
                    let create = abandon_after(polls, store.create(&new_id, &new)).await;
                    (create.is_some(), [Some(old), Some(new)])
                }
            };
            is_through = ended;
            is_one_of(store, [old_id, new_id], &before, &after, ended).await;
            // A node that is slow is polled in vain for long.
            polls += 1 + polls / 100;
            assert!(polls < 100_000, "{operation}");
        }
    }
    is_well(store).await;
}

/// A rotation goes on when its caller has gone, so the two ids are looked at until they agree.
async fn is_one_of(
    store: &tower_keep::MemcachedStore,
    ids: [RecordId; 2],
    before: &[Option<Record>; 2],
    after: &[Option<Record>; 2],
    is_done: bool,
) {
    eventually("the old state or the new", || async {
        let found = [
            store.load(&ids[0]).await.unwrap(),
            store.load(&ids[1]).await.unwrap(),
        ];
        let is_one = found == *after || (!is_done && found == *before);
        is_one.then_some(())
    })
    .await;
}

#[test]
fn a_store_outlives_the_runtime_it_was_used_in() {
    let start = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    };
    let runtime = start();
    let server = runtime.block_on(Server::shared(Kind::Memcached));
    let store = open(&[server.port()]);
    for _ in 0..3 {
        let runtime = start();
        runtime.block_on(is_well(&store));
    }
    // Two at the same time, of which one ends while it is used.
    let other = start();
    let (id, first) = (new_id(), record(1, b"".as_slice()));
    runtime.block_on(put_record(&store, &id, &first));
    for _ in 0..50 {
        let store = store.clone();
        other.spawn(async move {
            while let Ok(Some(_)) = store.load(&id).await {
                tokio::task::yield_now().await;
            }
        });
    }
    runtime.block_on(is_well(&store));
    other.shutdown_background();
    runtime.block_on(is_well(&store));
}

/// Two hundred tasks find their sessions.
async fn is_well(store: &tower_keep::MemcachedStore) {
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        let store = store.clone();
        tasks.spawn(async move {
            let (id, first) = (new_id(), record(1, b"one".as_slice()));
            put_record(&store, &id, &first).await;
            let second = record(2, b"two".as_slice());
            let updated = store.update(&id, &second, first.version).await.unwrap();
            assert_eq!(updated, Updated::Done);
            assert_eq!(store.load(&id).await.unwrap(), Some(second));
            assert!(store.delete(&id).await.unwrap());
        });
    }
    tasks.join_all().await;
}
