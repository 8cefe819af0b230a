//! Nodes whose clocks differ, and nodes that sweep at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use tower_keep::{Clock, Record, RecordId, Rotated, Updated, UserId, testing::ManualClock};

use crate::sql_places::{
    HOUR, Place, Sessions, Which, create, new_id, next, now, on_each_database, record,
};

on_each_database!(
    what_a_fast_node_deletes_is_gone_for_a_slow_one,
    a_logout_during_which_the_clock_is_set_back_is_final,
    what_a_fast_node_deletes_of_a_user_is_gone_for_a_slow_one,
    a_fast_node_sweeps_what_it_takes_for_expired_and_nothing_comes_back,
    two_sweepers_and_live_requests_are_not_in_each_others_way,
);

/// Two nodes on one table, the second a minute ahead, and a session that has half a minute left by
/// the clock of the first.
struct Scene {
    place: Place,
    slow: Arc<dyn Sessions>,
    fast: Arc<dyn Sessions>,
    id: RecordId,
    record: Record,
}

impl Scene {
    async fn new(which: Which) -> Self {
        let place = Place::new(which).await;
        let (clock, ahead) = (ManualClock::new(), ManualClock::new());
        ahead.advance(Duration::from_secs(60));
        let slow = place.store_with_clock(clock.clone());
        let fast = place.store_with_clock(ahead);
        let record = record(clock.now().into(), Duration::from_secs(30), Some("ada"));
        let id = create(&*slow, &record).await;
        assert_eq!(slow.load(&id).await.unwrap().as_ref(), Some(&record));
        assert_eq!(fast.load(&id).await.unwrap(), None);
        Self {
            place,
            slow,
            fast,
            id,
            record,
        }
    }

    /// Nothing that either node does brings the session back.
    async fn assert_over(&self) {
        for store in [&self.slow, &self.fast] {
            assert_eq!(store.load(&self.id).await.unwrap(), None);
            let (next, seen) = (next(&self.record), self.record.version);
            let updated = store.update(&self.id, &next, seen).await.unwrap();
            assert_eq!(updated, Updated::Gone);
            let rotated = store
                .rotate(&self.id, &new_id(), &next, seen)
                .await
                .unwrap();
            assert_eq!(rotated, Rotated::Gone);
            let later = now().saturating_add(HOUR);
            assert!(!store.touch(&self.id, later, seen).await.unwrap());
        }
        let rows = format!("SELECT count(*) FROM {}", self.place.table);
        assert_eq!(self.place.pool.column(&rows).await, ["0"]);
    }
}

async fn what_a_fast_node_deletes_is_gone_for_a_slow_one(which: Which) {
    let scene = Scene::new(which).await;
    assert!(!scene.fast.delete(&scene.id).await.unwrap());
    scene.assert_over().await;
}

/// The session is over when the logout looks first, and alive when it looks again.
async fn a_logout_during_which_the_clock_is_set_back_is_final(which: Which) {
    let scene = Scene::new(which).await;
    let store = scene.place.store_with_clock(SetBack::default());
    assert!(!store.delete(&scene.id).await.unwrap());
    scene.assert_over().await;
}

/// A minute ahead once, and right from then on.
#[derive(Debug, Default)]
struct SetBack(AtomicBool);

impl Clock for SetBack {
    fn now(&self) -> SystemTime {
        let now = ManualClock::new().now();
        match self.0.swap(true, SeqCst) {
            true => now,
            false => now + Duration::from_secs(60),
        }
    }
}

async fn what_a_fast_node_deletes_of_a_user_is_gone_for_a_slow_one(which: Which) {
    let scene = Scene::new(which).await;
    let ada = UserId::new("ada").unwrap();
    let kept = create(&*scene.slow, &scene.record).await;
    let live = record(now(), HOUR, Some("ada"));
    let live = create(&*scene.slow, &live).await;
    // It tells of what was live by its own clock.
    assert_eq!(
        scene.fast.delete_all_of(&ada, Some(&kept)).await.unwrap(),
        [live]
    );
    assert!(scene.slow.load(&kept).await.unwrap().is_some());
    assert_eq!(scene.fast.delete_all_of(&ada, None).await.unwrap(), []);
    scene.assert_over().await;
}

async fn a_fast_node_sweeps_what_it_takes_for_expired_and_nothing_comes_back(which: Which) {
    let scene = Scene::new(which).await;
    let live = record(now(), HOUR, None);
    let id = create(&*scene.slow, &live).await;
    assert_eq!(scene.slow.delete_expired(10).await.unwrap(), 0);
    assert_eq!(scene.fast.delete_expired(10).await.unwrap(), 1);
    assert_eq!(scene.slow.load(&id).await.unwrap(), Some(live));
    assert!(scene.slow.delete(&id).await.unwrap());
    scene.assert_over().await;
}

async fn two_sweepers_and_live_requests_are_not_in_each_others_way(which: Which) {
    const EXPIRED: u64 = 400;
    const LIVE: usize = 8;
    let place = Place::new(which).await;
    let store = place.store();
    let dead = record(now(), Duration::ZERO, Some("dead"));
    for _ in 0..EXPIRED {
        create(&*store, &dead).await;
    }
    let mut requests = Vec::new();
    for _ in 0..LIVE {
        let store = Arc::clone(&store);
        let mut seen = record(now(), HOUR, Some("live"));
        let mut id = create(&*store, &seen).await;
        requests.push(tokio::spawn(async move {
            for step in 0..20 {
                let (wanted, old) = (next(&seen), seen.version);
                if step % 4 == 3 {
                    let new = new_id();
                    let rotated = store.rotate(&id, &new, &wanted, old).await.unwrap();
                    assert_eq!(rotated, Rotated::Done);
                    id = new;
                } else {
                    let updated = store.update(&id, &wanted, old).await.unwrap();
                    assert_eq!(updated, Updated::Done);
                }
                seen = wanted;
                assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&seen));
            }
            (id, seen)
        }));
    }
    let sweep = |pool: crate::sql_places::AnyPool| {
        let node = pool.store(&place.table);
        tokio::spawn(async move {
            let mut removed = 0;
            for _ in 0..40 {
                removed += node.delete_expired(20).await.unwrap();
            }
            removed
        })
    };
    let first = sweep(place.new_pool(2).await);
    let second = sweep(place.new_pool(2).await);
    assert_eq!(first.await.unwrap() + second.await.unwrap(), EXPIRED);
    let mut live = 0;
    for request in requests {
        let (id, record) = request.await.unwrap();
        assert_eq!(store.load(&id).await.unwrap(), Some(record));
        live += 1;
    }
    let rows = format!("SELECT count(*) FROM {}", place.table);
    assert_eq!(place.pool.column(&rows).await, [live.to_string()]);
}
