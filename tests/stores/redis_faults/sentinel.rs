//! Failovers under Sentinels while requests go on.

use std::time::Instant;

use tower_keep_servers::Sentinels;

use super::{
    load::{Failure, Load},
    recovers,
};
use crate::redis_places::patient;

const CLIENTS: usize = 8;
const DIRECT: usize = 2;
const COUNTS: u64 = 20;

/// Nothing failed but from the outage on, which was awaited in a hurry, until shortly after there was a primary again.
fn assert_only_between(failures: &[Failure], hurry: [Instant; 2], promoted: Instant) {
    let [hurried, calmed] = hurry;
    let last = failures.iter().map(|failure| failure.began).max();
    let last = last.map(|last| last.saturating_duration_since(promoted));
    eprintln!(
        "{} requests failed; the last one began {last:?} after the promotion, {:?} after the outage",
        failures.len(),
        promoted - hurried
    );
    for failure in failures {
        assert!(failure.ended >= hurried, "before the outage: {failure:?}");
        assert!(failure.began < calmed, "after the promotion: {failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_killed_under_load_is_replaced_and_followed() {
    let set = Sentinels::start().await;
    let store = patient(&set.url());
    let load = Load::start(&store, CLIENTS, DIRECT).await;
    load.counts(COUNTS).await;

    let dead = set.primary().await;
    let hurried = load.hurry(load.clients()).await;
    dead.kill9().await;
    set.replace(dead).await;
    let promoted = Instant::now();
    recovers("after the promotion", promoted, || {
        load.answers(&load.clients()[0])
    })
    .await;
    let calmed = load.calm();
    let lost = load.next_round_after_outage().await;
    eprintln!("all served {:?} after the promotion", promoted.elapsed());
    eprintln!("{lost} acknowledged counts were lost");
    load.counts(COUNTS).await;

    // It comes back as a replica, and nobody notices.
    let back = Instant::now();
    dead.start_again().await;
    set.wait_until_replica(dead).await;
    load.counts(COUNTS).await;
    let failures = load.stop().await;
    assert_only_between(&failures, [hurried, calmed], promoted);
    assert!(
        failures.iter().all(|failure| failure.ended < back),
        "{failures:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_under_load_is_replaced_and_left_for_good() {
    let set = Sentinels::start().await;
    let store = patient(&set.url());
    let load = Load::start(&store, CLIENTS, DIRECT).await;
    load.counts(COUNTS).await;

    let old = set.primary().await;
    let hurried = load.hurry(load.clients()).await;
    old.pause().await;
    set.replace(old).await;
    let promoted = Instant::now();
    recovers("after the promotion", promoted, || {
        load.answers(&load.clients()[0])
    })
    .await;
    let calmed = load.calm();
    let lost = load.next_round_after_outage().await;
    eprintln!("all served {:?} after the promotion", promoted.elapsed());
    eprintln!("{lost} acknowledged counts were lost");
    load.counts(COUNTS).await;

    // For a moment there are two that take writes.
    let back = Instant::now();
    old.resume().await;
    load.counts(COUNTS).await;
    set.wait_until_replica(old).await;
    load.counts(COUNTS).await;
    let failures = load.stop().await;
    assert_only_between(&failures, [hurried, calmed], promoted);
    assert!(
        failures.iter().all(|failure| failure.ended < back),
        "{failures:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_hangs_or_is_dead_does_not_keep_the_others_from_telling() {
    let set = Sentinels::shared().await;
    let addresses = set.sentinel_addresses();
    // Nobody listens at the first; the second takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent
        .local_addr()
        .map(|address| (silent, address))
        .unwrap();
    let url = format!(
        "redis+sentinel://127.0.0.1:1,{},{}/{}",
        silent.1,
        addresses[0],
        set.service_name()
    );
    let store = patient(&url).with_prefix("silent");
    recovers("two sentinels away", Instant::now(), || async {
        tower_keep::SessionStore::load(&store, &crate::sql_places::new_id())
            .await
            .ok()
    })
    .await;
}
