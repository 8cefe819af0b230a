//! Sweeps in the background, by the paused clock of tokio.

mod end;
mod scripted;
mod troubles;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use tokio::time::{Instant, sleep};
use tower_keep::{
    DeleteExpired, MemoryStore, SessionLayer, Sweep, Sweeper,
    testing::{CountingStore, ManualClock},
};

use self::scripted::{
    Answer::{Deletes, DeletesAfter},
    Scripted,
};
use crate::support::{Browser, app};

const PERIOD: Duration = Duration::from_secs(600);

/// Timers of tokio end with the next millisecond.
const TICK: Duration = Duration::from_millis(2);

/// What the sweeps of a store have reported.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<Sweep>>>);

impl Reports {
    fn of<S: DeleteExpired>(&self, sweeper: Sweeper<S>) -> Sweeper<S> {
        let reports = self.clone();
        sweeper.with_report(move |sweep| reports.0.lock().unwrap().push(*sweep))
    }

    fn so_far(&self) -> Vec<Sweep> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_sweeps_of_many_nodes_are_spread_over_one_period() {
    let mut firsts = Vec::new();
    for _ in 0..100 {
        let store = Scripted::new([]);
        let _sweeping = Sweeper::new(store.clone()).every(PERIOD);
        store.called(1).await;
        firsts.push(store.calls()[0].at);
    }
    firsts.sort();
    assert!(firsts[0] < PERIOD / 4, "{:?}", firsts[0]);
    assert!(firsts[99] > PERIOD * 3 / 4, "{:?}", firsts[99]);
    assert!(firsts[99] <= PERIOD + TICK, "{:?}", firsts[99]);
}

#[tokio::test(start_paused = true)]
async fn sweeps_follow_each_other_by_a_period_give_or_take_a_tenth() {
    let store = Scripted::new([]);
    let _sweeping = Sweeper::new(store.clone()).every(PERIOD);
    store.called(101).await;
    let mut gaps = store.gaps();
    gaps.sort();
    assert!(gaps[0] >= PERIOD * 9 / 10, "{:?}", gaps[0]);
    assert!(gaps[99] <= PERIOD * 11 / 10 + TICK, "{:?}", gaps[99]);
    assert!(gaps[99] - gaps[0] > PERIOD / 10, "nodes drift apart");
}

#[tokio::test(start_paused = true)]
async fn the_next_period_begins_when_a_sweep_has_ended() {
    let long = PERIOD / 12;
    let script = [DeletesAfter(long, 10), DeletesAfter(long, 0)];
    let store = Scripted::new(script);
    let sweeper = Sweeper::new(store.clone()).with_batch(10);
    let _sweeping = sweeper.every(PERIOD);
    store.called(3).await;
    assert!(store.gaps()[1] >= long + PERIOD * 9 / 10);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_deletes_in_batches_until_one_is_not_full() {
    let store = Scripted::new([Deletes(10), Deletes(10), Deletes(3)]);
    let reports = Reports::default();
    let sweeper = reports.of(Sweeper::new(store.clone()).with_batch(10));
    let sweeping = sweeper.every(PERIOD);
    store.called(3).await;
    sleep(TICK).await;
    assert!(store.calls().iter().all(|call| call.limit == 10));
    let [sweep] = reports.so_far()[..] else {
        panic!("{:?}", reports.so_far());
    };
    assert_eq!((sweep.deleted, sweep.batches, sweep.failures), (23, 3, 0));
    assert_eq!(sweeping.deleted(), 23);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_1000_records_if_nothing_else_is_said() {
    let store = Scripted::new([Deletes(1000), Deletes(999)]);
    let _sweeping = Sweeper::new(store.clone()).every(PERIOD);
    store.called(3).await;
    assert!(store.calls().iter().all(|call| call.limit == 1000));
    let gaps = store.gaps();
    assert!(gaps[0] < TICK && gaps[1] > PERIOD / 2, "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_full_batch_it_rests_as_long_as_the_batch_took() {
    let times = [1, 5, 30].map(Duration::from_secs);
    let store = Scripted::new(times.map(|time| DeletesAfter(time, 10)));
    let reports = Reports::default();
    let sweeper = reports.of(Sweeper::new(store.clone()).with_batch(10));
    let _sweeping = sweeper.every(PERIOD);
    store.called(5).await;
    for (gap, took) in store.gaps().into_iter().zip(times) {
        assert!((took * 2..took * 2 + TICK * 2).contains(&gap), "{gap:?}");
    }
    let sweep = reports.so_far()[0];
    let took: Duration = times.iter().sum();
    assert!(
        (took..took + TICK * 4).contains(&sweep.took),
        "the rests are not counted: {sweep:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_needs_no_time_still_leaves_some_to_others() {
    let store = Scripted::new([Deletes(1); 1000]);
    let sweeper = Sweeper::new(store.clone()).with_batch(1);
    let _sweeping = sweeper.every(PERIOD);
    store.called(1).await;
    let start = Instant::now();
    store.called(1000).await;
    assert!(start.elapsed() >= Duration::from_millis(999));
}

#[tokio::test(start_paused = true)]
async fn each_sweep_is_reported_also_one_that_found_nothing() {
    let store = Scripted::new([Deletes(5), Deletes(0), Deletes(2)]);
    let reports = Reports::default();
    let sweeping = reports.of(Sweeper::new(store.clone())).every(PERIOD);
    store.called(4).await;
    let deleted: Vec<u64> = reports.so_far().iter().map(|s| s.deleted).collect();
    assert_eq!(deleted[..3], [5, 0, 2]);
    assert_eq!(sweeping.deleted(), 7);
}

/// Five sessions that live and, in another browser each, seven that have expired.
async fn scene() -> (MemoryStore, Vec<Browser>) {
    let clock = ManualClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    let layer = SessionLayer::new(store.clone()).with_clock(clock.clone());
    let app: Router = app(layer);
    let fill = async |count: usize| {
        let mut browsers = vec![Browser::new(&app); count];
        for browser in &mut browsers {
            browser.post("/put/cart/full").await.assert_ok();
        }
        browsers
    };
    fill(7).await;
    clock.advance(Duration::from_secs(15 * 24 * 60 * 60));
    let live = fill(5).await;
    assert_eq!(store.len(), 12);
    (store, live)
}

#[tokio::test(start_paused = true)]
async fn the_expired_sessions_go_and_the_live_ones_stay() {
    let (store, live) = scene().await;
    let sweeper = Sweeper::new(store.clone()).with_batch(2);
    let sweeping = sweeper.every(PERIOD);
    sleep(PERIOD * 5).await;
    assert_eq!(sweeping.stop().await.deleted, 7);
    assert_eq!(store.len(), 5);
    for mut browser in live {
        assert_eq!(browser.get("/get/cart").await.body, r#""full""#);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_store_is_swept_whatever_its_type() {
    let (store, _) = scene().await;
    let counting = Arc::new(CountingStore::new(store.clone()));
    let erased: Arc<dyn DeleteExpired> = Arc::new(store);
    let one = Sweeper::new(Arc::clone(&counting)).every(PERIOD);
    let other = Sweeper::new(erased).every(PERIOD);
    sleep(PERIOD * 3).await;
    let deleted = one.stop().await.deleted + other.stop().await.deleted;
    assert_eq!(deleted, 7);
    let counts = counting.take();
    assert!(counts.delete_expired >= 2 && counts.total() == counts.delete_expired);
}
