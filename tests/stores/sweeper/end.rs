//! How sweeping ends, and how it does not begin.

use std::{panic::catch_unwind, time::Duration};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep, timeout},
};
use tower_keep::{MemoryStore, Sweeper, Sweeping};

use super::{
    PERIOD, TICK,
    scripted::{
        Answer::{self, Deletes, DeletesAfter, Fails, Hangs},
        Scripted,
    },
};

const LONG: Duration = Duration::from_secs(10);

/// A sweeper that has made so many calls to its store and is about whatever comes next.
async fn at_work<const N: usize>(script: [Answer; N], calls: usize) -> (Scripted, Sweeping) {
    let store = Scripted::new(script);
    let sweeper = Sweeper::new(store.clone()).with_batch(10);
    let sweeping = sweeper.every(PERIOD);
    store.called(calls).await;
    sleep(TICK).await;
    (store, sweeping)
}

async fn assert_ended(store: &Scripted, calls: usize) {
    sleep(PERIOD * 10).await;
    assert_eq!(store.calls().len(), calls, "no call after its end");
}

#[tokio::test(start_paused = true)]
async fn dropping_it_before_the_first_sweep_is_the_end() {
    let store = Scripted::new([]);
    drop(Sweeper::new(store.clone()).every(PERIOD));
    assert_ended(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_it_between_sweeps_is_the_end() {
    let (store, sweeping) = at_work([Deletes(3)], 1).await;
    drop(sweeping);
    assert_ended(&store, 1).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_it_in_a_batch_drops_the_batch() {
    let (store, sweeping) = at_work([DeletesAfter(LONG, 3)], 1).await;
    drop(sweeping);
    assert_ended(&store, 1).await;
    assert!(!store.calls()[0].answered);
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_the_batch_that_runs_begins_no_other_and_tells_the_total() {
    for last in [3, 10] {
        let script = [Deletes(10), DeletesAfter(LONG, last), Deletes(10)];
        let (store, sweeping) = at_work(script, 2).await;
        let start = Instant::now();
        let total = sweeping.stop().await;
        assert!((LONG - TICK * 2..LONG + TICK).contains(&start.elapsed()));
        assert_eq!((total.deleted, total.batches), (10 + last, 2));
        assert_ended(&store, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_is_of_all_sweeps() {
    let (_, sweeping) = at_work([Deletes(3), Fails, Deletes(10), Deletes(4)], 4).await;
    let total = sweeping.stop().await;
    assert_eq!((total.deleted, total.batches, total.failures), (17, 4, 1));
}

#[tokio::test(start_paused = true)]
async fn stopping_cuts_every_rest_short() {
    let full = DeletesAfter(LONG, 10);
    let between_batches = async {
        let (store, sweeping) = at_work([full], 1).await;
        sleep(LONG).await;
        assert!(store.calls()[0].answered);
        (store, sweeping)
    };
    let scenes = [
        at_work([], 1).await,
        at_work([Fails; 5], 5).await,
        between_batches.await,
    ];
    for (store, sweeping) in scenes {
        let start = Instant::now();
        let calls = store.calls().len();
        sweeping.stop().await;
        assert!(start.elapsed() < TICK, "{:?}", start.elapsed());
        assert_ended(&store, calls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_before_the_first_sweep_takes_no_time_and_deletes_nothing() {
    let store = Scripted::new([Deletes(10)]);
    let sweeping = Sweeper::new(store.clone()).every(PERIOD);
    let start = Instant::now();
    assert_eq!(sweeping.stop().await.batches, 0);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_ended(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_in_a_batch_that_hangs_takes_a_minute_at_most() {
    let (store, sweeping) = at_work([Hangs], 1).await;
    let start = Instant::now();
    assert_eq!(sweeping.stop().await.failures, 1);
    assert!(start.elapsed() <= Duration::from_secs(60));
    assert_ended(&store, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_nobody_waits_for_drops_the_batch() {
    let (store, sweeping) = at_work([DeletesAfter(LONG, 3)], 1).await;
    assert!(timeout(LONG / 2, sweeping.stop()).await.is_err());
    assert_ended(&store, 1).await;
    assert!(!store.calls()[0].answered);
}

#[test]
fn stopping_after_the_runtime_has_ended_still_tells_the_total() {
    let paused = || {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    let runtime = paused();
    let (_, sweeping) = runtime.block_on(at_work([Deletes(3)], 1));
    drop(runtime);
    assert_eq!(paused().block_on(sweeping.stop()).deleted, 3);
}

#[tokio::test]
#[should_panic(expected = "`Duration::from_secs(10 * 60)`")]
async fn a_period_of_zero_is_refused_with_the_mend() {
    let _sweeping = Sweeper::new(MemoryStore::new()).every(Duration::ZERO);
}

#[test]
#[should_panic(expected = "give 1 at least")]
fn a_batch_of_no_records_is_refused_with_the_mend() {
    let _ = Sweeper::new(MemoryStore::new()).with_batch(0);
}

#[test]
fn without_a_runtime_or_its_timers_it_panics_at_once_and_not_unseen_in_the_task() {
    let start = || drop(Sweeper::new(MemoryStore::new()).every(PERIOD));
    assert!(catch_unwind(start).is_err());
    let no_timers = Builder::new_current_thread().build().unwrap();
    let _entered = no_timers.enter();
    assert!(catch_unwind(start).is_err());
}
