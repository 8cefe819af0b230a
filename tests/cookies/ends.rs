//! What was ended is ended.

use std::sync::Arc;

use tower_keep::{DeleteExpired, MemoryStore, ScanSessions, UserId, testing::ManualClock};

use crate::{
    both_kinds,
    support::{Browser, app},
    world::{DAY, Kind, NAME, World},
};

both_kinds!(
    a_captured_cookie_is_worth_nothing_after_a_logout_on_any_node,
    a_captured_older_state_of_an_ended_session_is_worth_nothing_either,
    a_logout_without_a_session_succeeds_and_keeps_nothing,
    a_second_logout_with_a_captured_cookie_removes_no_cookie,
    ending_all_sessions_of_a_user_ends_them_all_but_the_kept_one,
    the_kept_session_stays_through_changes_and_rotations,
    one_that_begins_after_the_end_of_all_lives,
    nodes_whose_clocks_differ_end_each_others_sessions,
    what_the_store_keeps_tells_nothing_and_works_as_no_cookie,
    what_was_ended_is_forgotten_once_it_would_have_died_anyway,
);

async fn logged_in(world: &World, user: &str) -> Browser {
    let mut browser = world.browser();
    browser.post(&format!("/login/{user}")).await.assert_ok();
    browser
}

async fn a_captured_cookie_is_worth_nothing_after_a_logout_on_any_node(kind: Kind) {
    for path in ["/logout", "/flush"] {
        let world = World::new(kind);
        let mut browser = logged_in(&world, "ada").await;
        let captured = browser.clone();
        let removal = browser.post(path).await.assert_ok().the_cookie();
        assert!(removal.starts_with("__Host-id=;"), "{removal}");
        assert_eq!(browser.id(), None);
        assert!(captured.is_anonymous().await);
        assert!(world.browser().with_id_of(&captured).is_anonymous().await);
    }
}

async fn a_captured_older_state_of_an_ended_session_is_worth_nothing_either(kind: Kind) {
    let world = World::new(kind);
    let mut browser = logged_in(&world, "ada").await;
    let older = browser.clone();
    browser.post("/put/color/red").await.assert_ok();
    browser.post("/logout").await.assert_ok();
    assert!(older.is_anonymous().await);
}

async fn a_logout_without_a_session_succeeds_and_keeps_nothing(kind: Kind) {
    let world = World::new(kind);
    let mut stranger = world.browser();
    let mut forger = world.browser();
    forger.set_cookie(NAME, &format!("1{}", "A".repeat(200)));
    for browser in [&mut stranger, &mut forger] {
        for path in ["/logout", "/flush"] {
            let answer = browser.post(path).await.assert_ok();
            assert_eq!(answer.set_cookies(), [""; 0]);
        }
    }
    assert_eq!(world.marks().await, 0);
}

async fn a_second_logout_with_a_captured_cookie_removes_no_cookie(kind: Kind) {
    let world = World::new(kind);
    let mut browser = logged_in(&world, "ada").await;
    let mut captured = browser.clone();
    browser.post("/logout").await.assert_ok().the_cookie();
    for path in ["/logout", "/flush"] {
        let answer = captured.post(path).await.assert_ok();
        assert_eq!(answer.set_cookies(), [""; 0], "by now it may be a login's");
    }
}

async fn ending_all_sessions_of_a_user_ends_them_all_but_the_kept_one(kind: Kind) {
    let world = World::new(kind);
    let cookies = world.cookies();
    let ada = UserId::new("ada").unwrap();
    let grace = logged_in(&world, "grace").await;
    for keeps in [true, false, true] {
        let all = [
            logged_in(&world, "ada").await,
            logged_in(&world, "ada").await,
        ];
        let mut kept = logged_in(&world, "ada").await;
        let id = kept.get("/record").await.assert_ok().body;
        let id = data_encoding::HEXLOWER.decode(id.as_bytes()).unwrap();
        let id = tower_keep::RecordId::from_bytes(id.try_into().unwrap());
        cookies
            .delete_all_of(&ada, keeps.then_some(&id))
            .await
            .unwrap();
        for ended in all {
            assert!(ended.is_anonymous().await);
        }
        assert_eq!(kept.is_alive().await, keeps);
    }
    assert!(grace.is_alive().await);
}

async fn the_kept_session_stays_through_changes_and_rotations(kind: Kind) {
    let world = World::new(kind);
    let ada = UserId::new("ada").unwrap();
    for path in ["/put/color/red", "/cycle", "/login/ada"] {
        let mut browser = logged_in(&world, "ada").await;
        let id = browser.get("/record").await.assert_ok().body;
        let id = data_encoding::HEXLOWER.decode(id.as_bytes()).unwrap();
        let id = tower_keep::RecordId::from_bytes(id.try_into().unwrap());
        world
            .cookies()
            .delete_all_of(&ada, Some(&id))
            .await
            .unwrap();
        for _ in 0..2 {
            browser.post(path).await.assert_ok();
            assert!(browser.is_alive().await, "{path}");
        }
        world.cookies().delete_all_of(&ada, None).await.unwrap();
        assert!(browser.is_anonymous().await, "{path}");
    }
}

async fn one_that_begins_after_the_end_of_all_lives(kind: Kind) {
    let world = World::new(kind);
    let ada = UserId::new("ada").unwrap();
    for _ in 0..3 {
        let before = logged_in(&world, "ada").await;
        world.cookies().delete_all_of(&ada, None).await.unwrap();
        // In the same millisecond.
        let after = logged_in(&world, "ada").await;
        assert!(before.is_anonymous().await);
        assert!(after.is_alive().await);
    }
}

async fn nodes_whose_clocks_differ_end_each_others_sessions(kind: Kind) {
    let world = World::new(kind);
    let ahead = ManualClock::new();
    ahead.advance(std::time::Duration::from_secs(60));
    let on_the_node_ahead = Browser::new(&app(world.layer().with_clock(ahead)));
    let ada = UserId::new("ada").unwrap();
    let mut browser = on_the_node_ahead.clone();
    browser.post("/login/ada").await.assert_ok();
    assert!(browser.is_alive().await);
    // By the clock of this node, before that login.
    world.cookies().delete_all_of(&ada, None).await.unwrap();
    assert!(browser.is_anonymous().await);
    let mut again = world.browser();
    again.post("/login/ada").await.assert_ok();
    assert!(on_the_node_ahead.with_id_of(&again).is_alive().await);
}

async fn what_the_store_keeps_tells_nothing_and_works_as_no_cookie(kind: Kind) {
    let world = World::new(kind);
    let mut browser = logged_in(&world, "ada-lovelace").await;
    browser.post("/put/diary/between-us").await.assert_ok();
    let other = logged_in(&world, "ada-lovelace").await;
    let ada = UserId::new("ada-lovelace").unwrap();
    world.cookies().delete_all_of(&ada, None).await.unwrap();
    browser.post("/logout").await.assert_ok();
    let token = browser.id().unwrap_or(other.id().unwrap()).to_owned();
    let marks = world.ended.scan(None, 100).await.unwrap().sessions;
    assert!(!marks.is_empty());
    for mark in marks {
        assert_eq!(mark.record.user, None);
        let row = [mark.id.as_bytes(), &*mark.record.to_bytes()].concat();
        for text in ["ada-lovelace", "between-us", &token[1..33]] {
            assert!(!row.windows(text.len()).any(|part| part == text.as_bytes()));
        }
        for bytes in row.windows(32) {
            let value = data_encoding::BASE64URL_NOPAD.encode(bytes);
            let cookie = format!("{NAME}={value}");
            assert_eq!(
                browser.read_with("/optional", cookie.as_bytes()).await,
                "none"
            );
        }
    }
}

async fn what_was_ended_is_forgotten_once_it_would_have_died_anyway(kind: Kind) {
    let world = World::new(kind);
    let store = Arc::new(MemoryStore::new().with_clock(world.clock.clone()));
    let cookies = kind
        .cookies(&world.keyring)
        .with_revocations(Arc::clone(&store));
    let layer = tower_keep::SessionLayer::new(cookies).with_clock(world.clock.clone());
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/color/red").await.assert_ok();
    browser.post("/logout").await.assert_ok();
    world.pass(30 * DAY);
    assert_eq!(
        store.delete_expired(10).await.unwrap(),
        0,
        "a clock may be behind"
    );
    world.pass(DAY);
    assert_eq!(store.delete_expired(10).await.unwrap(), 1);
}
