//! A server that is killed, or that hangs, while requests go on.

use std::time::{Duration, Instant};

use tower_keep::{SessionStore, StoreErrorKind, Updated};
use tower_keep_servers::{Kind, Server};

use super::{in_time, load::Load, recovers};
use crate::{
    redis_places::{order, patient},
    sql_places::{HOUR, new_id, next, now, record},
};

const CLIENTS: usize = 8;
const DIRECT: usize = 2;
const COUNTS: u64 = 20;

/// What it has acknowledged, it has written.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_and_started_again_under_load_loses_no_acknowledged_write() {
    let server = Server::start_with(Kind::Redis, &DURABLE).await;
    let store = patient(&server.url());
    let load = Load::start(&store, CLIENTS, DIRECT).await;
    load.next_round().await;
    load.counts(COUNTS).await;

    let hurried = load.hurry(load.clients()).await;
    let down = Instant::now();
    server.kill9().await;
    load.failures_of_all_since(down).await;
    let calmed = load.calm();
    server.start_again().await;
    let returned = Instant::now();
    recovers("a server killed", returned, || load.serves_a_stranger()).await;
    let lost = load.next_round_after_outage().await;
    assert_eq!(lost, 0, "no acknowledged count is lost");
    load.counts(COUNTS).await;
    for failure in load.stop().await {
        assert!(failure.ended >= hurried, "{failure:?}");
        assert!(failure.began < calmed, "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_for_less_than_the_timeout_costs_no_error() {
    let server = Server::start_with(Kind::Redis, &DURABLE).await;
    let store = patient(&server.url());
    let load = Load::start(&store, CLIENTS, DIRECT).await;
    load.next_round().await;
    load.counts(COUNTS).await;
    for _ in 0..3 {
        let down = Instant::now();
        server.kill9().await;
        server.start_again().await;
        let away = down.elapsed();
        load.counts(COUNTS).await;
        eprintln!("away for {away:?}");
    }
    assert_eq!(load.next_round().await, 0);
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_a_503_in_time_and_serves_again_when_it_goes_on() {
    let server = Server::start(Kind::Redis).await;
    let store = patient(&server.url());
    let load = Load::start(&store, CLIENTS, DIRECT).await;
    load.next_round().await;
    load.counts(COUNTS).await;

    let hurried = load.hurry(load.clients()).await;
    let down = Instant::now();
    server.pause().await;
    load.failures_of_all_since(down).await;
    let calmed = load.calm();
    server.resume().await;
    let returned = Instant::now();
    recovers("a server paused", returned, || load.serves_a_stranger()).await;
    let lost = load.next_round_after_outage().await;
    assert_eq!(lost, 0, "no acknowledged count is lost");
    load.counts(COUNTS).await;
    for failure in load.stop().await {
        assert!(failure.ended >= hurried, "{failure:?}");
        assert!(failure.began < calmed, "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_clients_shorter_than_the_timeout_is_waited_for() {
    let server = Server::start(Kind::Redis).await;
    let store = patient(&server.url());
    let id = new_id();
    let mut present = record(now(), HOUR, None);
    let _ = store.create(&id, &present).await.unwrap();
    // Both sides of the half second after which another connection is tried.
    for millis in ["200", "900"] {
        order(&server, &["CLIENT", "PAUSE", millis, "ALL"]).await;
        let newer = next(&present);
        let (loaded, updated) =
            tokio::join!(store.load(&id), store.update(&id, &newer, present.version));
        assert!(loaded.unwrap().is_some());
        assert_eq!(updated.unwrap(), Updated::Done);
        present = newer;
        assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&present));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_clients_longer_than_the_timeout_is_an_error_and_then_over() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let server = Server::start(Kind::Redis).await;
    let patient = patient(&server.url());
    let id = new_id();
    let first = record(now(), HOUR, None);
    let second = next(&first);
    let _ = patient.create(&id, &first).await.unwrap();
    let store = patient.with_timeout(TIMEOUT);
    for which in ["WRITE", "ALL"] {
        let paused = Instant::now();
        let pause = Duration::from_millis(1500);
        order(&server, &["CLIENT", "PAUSE", "1500", which]).await;
        if which == "ALL" {
            let loaded = in_time(TIMEOUT, store.load(&id)).await;
            assert!(loaded.is_err() || paused.elapsed() > pause, "{loaded:?}");
        }
        let updated = store.update(&id, &second, first.version);
        let updated = in_time(TIMEOUT, updated).await;
        assert!(updated.is_err() || paused.elapsed() > pause, "{updated:?}");
        let updated = recovers("a pause", paused + pause, || async {
            let updated = store.update(&id, &second, first.version);
            in_time(TIMEOUT, updated).await.ok()
        });
        assert_eq!(updated.await, Updated::Done);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_opened_before_its_server_is_there_works_when_it_is() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let server = Server::start(Kind::Redis).await;
    server.kill9().await;
    let store = patient(&server.url());
    let store = store.with_timeout(TIMEOUT);
    let error = in_time(TIMEOUT, store.load(&new_id())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    server.start_again().await;
    recovers("a server that was late", Instant::now(), || async {
        store.load(&new_id()).await.ok()
    })
    .await;
}
