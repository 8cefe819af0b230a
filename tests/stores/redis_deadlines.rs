//! How long keys live.

use std::time::Duration;

use tower_keep::{
    Clock, Created, Rotated, SessionStore, Timestamp, Updated, UserSessions, testing::ManualClock,
};

use crate::{
    redis_places::{Place, Which, id_of, on_each_topology},
    sql_places::{HOUR, new_id, next, now, record},
    support::{Browser, app, eventually, layer_over},
};

on_each_topology!(
    no_operation_leaves_a_key_without_a_time_to_live,
    no_request_leaves_a_key_without_a_time_to_live,
    the_time_to_live_goes_with_the_deadline,
    a_touch_by_a_request_moves_the_deadline_and_the_time_to_live,
    a_deadline_far_away_or_near_is_a_time_to_live_that_the_server_takes,
    what_ended_is_remembered_for_a_minute_at_most,
);

/// What the store adds, for nodes whose clocks are behind.
const SLACK: Duration = Duration::from_secs(300);

/// As many milliseconds as an answer can tell.
const FOR_EVER: Duration = Duration::from_millis(i64::MAX as u64);

/// More than a test takes.
const TEST: Duration = Duration::from_secs(120);

#[track_caller]
fn assert_is(millis: i64, wanted: Duration) {
    let millis = Duration::from_millis(u64::try_from(millis).unwrap());
    assert!(
        millis <= wanted && wanted < millis + TEST,
        "{millis:?}, and not {wanted:?}"
    );
}

/// Answers how many keys there are.
async fn assert_all_go(place: &Place, longest: Duration, after: &str) -> usize {
    let keys = place.keys().await;
    for key in &keys {
        let millis = place.pttl(key).await;
        let longest = i64::try_from(longest.as_millis()).unwrap();
        // It may have gone meanwhile.
        assert!(
            millis == -2 || (1..=longest).contains(&millis),
            "after {after}: {key} lives for {millis} ms"
        );
    }
    keys.len()
}

async fn no_operation_leaves_a_key_without_a_time_to_live(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let longest = HOUR * 2 + SLACK;
    for user in [None, Some("ada")] {
        let first = record(now(), HOUR, user);
        let ids = [new_id(), new_id(), new_id(), new_id()];
        for id in &ids[..3] {
            assert_eq!(store.create(id, &first).await.unwrap(), Created::Done);
            assert!(assert_all_go(&place, longest, "create").await > 0);
        }
        let second = next(&first);
        let updated = store.update(&ids[0], &second, first.version).await;
        assert_eq!(updated.unwrap(), Updated::Done);
        assert_all_go(&place, longest, "update").await;
        let later = second.expires_at.saturating_add(HOUR / 2);
        assert!(store.touch(&ids[0], later, second.version).await.unwrap());
        assert_all_go(&place, longest, "touch").await;
        let third = next(&second);
        let rotated = store.rotate(&ids[0], &ids[3], &third, second.version);
        assert_eq!(rotated.await.unwrap(), Rotated::Done);
        assert_all_go(&place, longest, "rotate").await;
        let elsewhere = new_id();
        let lost = store.rotate(&ids[1], &elsewhere, &third, second.version);
        assert!(matches!(lost.await.unwrap(), Rotated::Conflict(_)));
        assert_all_go(&place, longest, "a rotation that was late").await;
        assert!(store.delete(&ids[1]).await.unwrap());
        assert_all_go(&place, longest, "delete").await;
        if let Some(user) = &first.user {
            assert_eq!(store.sessions_of(user).await.unwrap().len(), 2);
            assert_all_go(&place, longest, "sessions_of").await;
            let ended = store.delete_all_of(user, Some(&ids[3])).await.unwrap();
            assert_eq!(ended.len(), 1);
            assert_all_go(&place, longest, "delete_all_of").await;
        }
    }
}

async fn no_request_leaves_a_key_without_a_time_to_live(which: Which) {
    let place = Place::new(which).await;
    let layer = layer_over(place.store());
    let longest = Duration::from_secs(30 * 24 * 60 * 60) + SLACK;
    let mut browser = Browser::new(&app(layer));
    for path in [
        "/put/cart/1",
        "/login/ada",
        "/put/cart/2",
        "/expire/60",
        "/expire/browser",
        "/cycle",
        "/expire/reset",
        "/login/bob",
        "/flush",
        "/login/ada",
        "/logout",
    ] {
        browser.post(path).await.assert_ok();
        assert_all_go(&place, longest, path).await;
    }
}

async fn the_time_to_live_goes_with_the_deadline(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let first = record(now(), HOUR, Some("ada"));
    let (id, new_id) = (new_id(), new_id());
    let key = place.session_key(&id);
    let user_key = place.user_key(first.user.as_ref().unwrap());
    let _ = store.create(&id, &first).await.unwrap();
    assert_is(place.pttl(&key).await, HOUR + SLACK);
    assert_is(place.pttl(&user_key).await, HOUR * 2 + SLACK);

    let later = first.created_at.saturating_add(HOUR * 2);
    assert!(store.touch(&id, later, first.version).await.unwrap());
    assert_is(place.pttl(&key).await, HOUR * 2 + SLACK);
    let touched = store.load(&id).await.unwrap().unwrap();
    assert_eq!(touched.expires_at, later);

    // A touch that comes late moves neither.
    assert!(
        store
            .touch(&id, first.expires_at, first.version)
            .await
            .unwrap()
    );
    assert_is(place.pttl(&key).await, HOUR * 2 + SLACK);
    assert_eq!(store.load(&id).await.unwrap().unwrap().expires_at, later);

    let mut shorter = next(&first);
    shorter.expires_at = first.created_at.saturating_add(HOUR / 2);
    let updated = store.update(&id, &shorter, first.version).await.unwrap();
    assert_eq!(updated, Updated::Done);
    assert_is(place.pttl(&key).await, HOUR / 2 + SLACK);

    let mut moved = next(&shorter);
    moved.absolute_deadline = first.created_at.saturating_add(HOUR * 5);
    moved.expires_at = first.created_at.saturating_add(HOUR * 4);
    let rotated = store.rotate(&id, &new_id, &moved, shorter.version).await;
    assert_eq!(rotated.unwrap(), Rotated::Done);
    assert_is(
        place.pttl(&place.session_key(&new_id)).await,
        HOUR * 4 + SLACK,
    );
    assert_is(place.pttl(&user_key).await, HOUR * 5 + SLACK);
}

async fn a_touch_by_a_request_moves_the_deadline_and_the_time_to_live(which: Which) {
    let place = Place::new(which).await;
    let clock = ManualClock::new();
    let store = place.store_with_clock(clock.clone());
    let layer = layer_over(store.clone())
        .with_clock(clock.clone())
        .with_idle_timeout(HOUR);
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/cart/full").await.assert_ok();
    let id = id_of(&browser);
    let key = place.session_key(&id);
    for _ in 0..3 {
        let before = store.load(&id).await.unwrap().unwrap().expires_at;
        clock.advance(HOUR / 2);
        // The server's clock goes on by itself: as if it had.
        let left = (HOUR / 2 + SLACK).as_millis().to_string();
        place.raw("PEXPIRE", &key, &[left.as_bytes()]).await;
        browser.get("/get/cart").await.assert_ok();
        let after = store.load(&id).await.unwrap().unwrap().expires_at;
        assert_eq!(after, before.saturating_add(HOUR / 2));
        assert_is(place.pttl(&key).await, HOUR + SLACK);
    }
}

async fn a_deadline_far_away_or_near_is_a_time_to_live_that_the_server_takes(which: Which) {
    let place = Place::new(which).await;
    let clock = ManualClock::new();
    let store = place.store_with_clock(clock.clone());
    let now = Timestamp::from(clock.now());
    let never = Timestamp::from_millis(i64::MAX);
    for end in [now.saturating_add(Duration::from_secs(5)), never] {
        let mut first = record(now, HOUR, Some("ada"));
        first.expires_at = end;
        first.absolute_deadline = end;
        let id = new_id();
        assert_eq!(store.create(&id, &first).await.unwrap(), Created::Done);
        let second = next(&first);
        let updated = store.update(&id, &second, first.version).await.unwrap();
        assert_eq!(updated, Updated::Done);
        assert!(store.touch(&id, never, second.version).await.unwrap());
        let third = next(&second);
        let rotated = store.rotate(&id, &new_id(), &third, second.version).await;
        assert_eq!(rotated.unwrap(), Rotated::Done);
        assert_all_go(&place, FOR_EVER, "a far deadline").await;
    }
}

async fn what_ended_is_remembered_for_a_minute_at_most(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let first = record(now(), HOUR, None);
    let second = next(&first);
    let [old, new] = [new_id(), new_id()];
    let _ = store.create(&old, &first).await.unwrap();
    let rotated = store.rotate(&old, &new, &second, first.version).await;
    assert_eq!(rotated.unwrap(), Rotated::Done);
    let (old, new_key) = (place.session_key(&old), place.session_key(&new));
    eventually("short note", || async {
        (place.pttl(&old).await <= 60_000).then_some(())
    })
    .await;
    assert!(store.delete(&new).await.unwrap());
    assert!((1..=60_000).contains(&place.pttl(&new_key).await));
}
