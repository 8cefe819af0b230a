//! Sweeps over a store that fails, panics or hangs.

use std::time::Duration;

use tower_keep::Sweeper;

use super::{
    PERIOD, Reports, TICK,
    scripted::{
        Answer::{Deletes, Fails, Hangs, Panics, PanicsAfter},
        Scripted,
    },
};

/// A back-off is from a half to the whole of what it may be at most.
#[track_caller]
fn assert_back_off(gap: Duration, longest: Duration) {
    assert!((longest / 2..longest + TICK).contains(&gap), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn after_an_error_it_backs_off_and_goes_on_with_the_sweep() {
    let failures = 5;
    let script = [Fails; 5].into_iter().chain([Deletes(10), Deletes(3)]);
    let store = Scripted::new(script);
    let reports = Reports::default();
    let sweeper = reports.of(Sweeper::new(store.clone()).with_batch(10));
    let sweeping = sweeper.every(PERIOD);
    store.called(8).await;
    for (failure, gap) in store.gaps().into_iter().take(failures).enumerate() {
        assert_back_off(gap, Duration::from_secs(1 << failure));
    }
    let sweep = reports.so_far()[0];
    assert_eq!((sweep.deleted, sweep.batches, sweep.failures), (13, 7, 5));
    assert_eq!(sweeping.deleted(), 13);
}

#[tokio::test(start_paused = true)]
async fn no_outage_is_so_long_that_it_gives_up_and_none_is_met_rarely() {
    let day = Duration::from_secs(24 * 60 * 60);
    let outage = 1000;
    let store = Scripted::new([Fails; 1000]);
    let reports = Reports::default();
    let sweeping = reports.of(Sweeper::new(store.clone())).every(day);
    store.called(outage).await;
    assert_eq!(reports.so_far(), [], "no sweep has come to its end");
    for gap in &store.gaps()[9..] {
        assert_back_off(*gap, Duration::from_secs(5 * 60));
    }
    store.called(outage + 2).await;
    assert_eq!(reports.so_far()[0].failures, 1000);
    assert_eq!(sweeping.stop().await.failures, 1000);
}

#[tokio::test(start_paused = true)]
async fn a_back_off_is_never_longer_than_the_period() {
    let period = Duration::from_secs(3);
    let store = Scripted::new([Fails; 20]);
    let _sweeping = Sweeper::new(store.clone()).every(period);
    store.called(20).await;
    for gap in &store.gaps()[2..19] {
        assert_back_off(*gap, period);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_success_the_next_back_off_is_short_again() {
    let script = [Fails, Fails, Fails, Deletes(10), Fails, Deletes(0)];
    let store = Scripted::new(script);
    let sweeper = Sweeper::new(store.clone()).with_batch(10);
    let _sweeping = sweeper.every(PERIOD);
    store.called(6).await;
    let gaps = store.gaps();
    assert_back_off(gaps[2], Duration::from_secs(4));
    assert_back_off(gaps[4], Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_met_like_one_that_fails() {
    let later = PanicsAfter(Duration::from_millis(500));
    let store = Scripted::new([Panics, later, Deletes(3)]);
    let reports = Reports::default();
    let sweeping = reports.of(Sweeper::new(store.clone())).every(PERIOD);
    store.called(4).await;
    assert_back_off(store.gaps()[0], Duration::from_secs(1));
    let sweep = reports.so_far()[0];
    assert_eq!((sweep.deleted, sweep.batches, sweep.failures), (3, 3, 2));
    assert_eq!(sweeping.stop().await.deleted, 3);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_hangs_is_given_up_after_a_minute_and_tried_again() {
    let store = Scripted::new([Hangs, Deletes(3)]);
    let reports = Reports::default();
    let _sweeping = reports.of(Sweeper::new(store.clone())).every(PERIOD);
    store.called(3).await;
    let minute = Duration::from_secs(60);
    assert_back_off(store.gaps()[0] - minute, Duration::from_secs(1));
    let sweep = reports.so_far()[0];
    assert_eq!((sweep.deleted, sweep.failures), (3, 1));
    assert!(!store.calls()[0].answered);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_panics_ends_nothing() {
    let store = Scripted::new([Deletes(1), Deletes(2)]);
    let sweeper = Sweeper::new(store.clone()).with_report(|_| panic!("a careless report"));
    let sweeping = sweeper.every(PERIOD);
    store.called(3).await;
    assert_eq!(sweeping.deleted(), 3);
}
