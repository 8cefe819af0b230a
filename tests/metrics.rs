//! What the layer tells the `metrics` facade.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use support::{Browser, app};
use tokio::sync::Notify;
use tower_keep::{
    MemoryStore, SessionLayer, Sweeper,
    testing::{Fault, FaultyStore, ManualClock, Operation},
};

#[test]
fn every_kind_of_event_is_counted_once() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(visit()));

    let mut counters = BTreeMap::new();
    let mut commits = 0;
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let name = key.key().name().to_owned();
        assert_eq!(
            key.key().labels().count(),
            0,
            "{name}: labels could tell of users"
        );
        match value {
            DebugValue::Counter(count) => drop(counters.insert(name, count)),
            DebugValue::Histogram(values) => {
                assert_eq!(name, "tower_keep_commit_seconds");
                commits += values.len();
            }
            DebugValue::Gauge(_) => panic!("{name}: a gauge"),
        }
    }
    let expected = [
        ("conflicts", 1),
        ("creates", 3),
        ("deletes", 1),
        ("expired_deletes", 2),
        ("gone", 1),
        ("loads", 9),
        ("replays", 1),
        ("rotates", 1),
        ("store_errors", 2),
        ("touches", 1),
        ("updates", 4),
    ];
    let expected = expected.map(|(name, count)| (format!("tower_keep_{name}_total"), count));
    assert_eq!(counters, BTreeMap::from(expected));
    assert_eq!(
        commits, 9,
        "of three creates, three updates, a rotate, a touch and a delete"
    );
}

async fn visit() {
    let clock = ManualClock::new();
    let store = Arc::new(FaultyStore::new(
        MemoryStore::new().with_clock(clock.clone()),
    ));
    let layer = SessionLayer::new(Arc::clone(&store)).with_clock(clock.clone());
    let app = app(layer);
    let mut browser = Browser::new(&app);

    browser.post("/put/key/value").await.assert_ok(); // a create
    browser.get("/get/key").await.assert_ok(); // a load
    clock.advance(Duration::from_secs(2 * 24 * 60 * 60));
    browser.get("/get/key").await.assert_ok(); // a load, a touch

    // Both load before either commits: two loads, three updates, a conflict, a replay.
    let (mut one, mut two) = (browser.clone(), browser.clone());
    let (one, two) = tokio::join!(
        one.post("/count/visits?then=slow"),
        two.post("/count/visits?then=slow")
    );
    assert_eq!(
        (one.status, two.status),
        (http::StatusCode::OK, http::StatusCode::OK)
    );

    store.inject(Fault::Fail);
    assert_eq!(browser.get("/get/key").await.status, 503); // a load, a store error
    store.heal();

    let mut late = browser.clone();
    browser.post("/cycle").await.assert_ok(); // a load, a rotate
    // Loads, and finds its session gone when it commits.
    let mut logout = browser.clone();
    let (write, logout) = tokio::join!(
        browser.post("/put/key/late?then=slow"),
        logout.post("/logout")
    );
    assert_eq!(
        (write.status, logout.status),
        (http::StatusCode::OK, http::StatusCode::OK)
    );
    late.get("/get/key").await.assert_ok(); // a load
    browser.get("/get/key").await.assert_ok(); // a load

    for _ in 0..2 {
        browser.stranger().post("/put/key/value").await.assert_ok(); // a create
    }
    clock.advance(Duration::from_secs(15 * 24 * 60 * 60));
    store.inject_once(Operation::DeleteExpired, Fault::Fail); // a store error
    let swept = Arc::new(Notify::new());
    let told = Arc::clone(&swept);
    let sweeper = Sweeper::new(store).with_report(move |_| told.notify_one());
    let sweeping = sweeper.every(Duration::from_millis(1));
    swept.notified().await;
    assert_eq!(sweeping.stop().await.deleted, 2); // two expired deletes
}
