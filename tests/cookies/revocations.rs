//! The store of what was ended: how often it is asked, and what happens when it fails.

use http::StatusCode;
use tower_keep::{
    EncryptedStore, ErrorKind, Keyring, MemoryStore, Outage, ScanSessions, SessionLayer,
    SessionStore, UserId,
    testing::{Fault, FaultyStore, Operation},
};

use crate::{
    both_kinds,
    support::{Browser, PATIENCE, WatchedStore, app},
    world::{DAY, Kind, World, keyring},
};

both_kinds!(
    requests_ask_the_store_as_often_as_the_documentation_says,
    a_store_that_fails_is_a_503_and_not_a_logout_nor_a_way_in,
    a_store_that_fails_on_logout_is_a_503_and_the_cookie_is_kept,
    a_store_that_fails_on_login_hands_out_nothing_and_leaves_the_old_session,
    during_an_outage_a_route_may_serve_everybody_as_a_stranger,
    a_mark_whose_reply_is_lost_or_that_is_sent_twice_is_made_once_and_well,
    a_failed_end_of_all_sessions_is_an_error,
    a_touch_that_fails_does_not_refuse_the_answer,
    a_damaged_mark_ends_what_it_may_have_ended_and_locks_nobody_out,
    what_was_ended_beside_a_damaged_mark_stays_ended_when_that_is_read_again_or_gone,
    of_two_logins_over_a_damaged_mark_both_stand,
);

async fn requests_ask_the_store_as_often_as_the_documentation_says(kind: Kind) {
    let world = World::new(kind);
    let mut visitor = world.browser();
    visitor.post("/put/color/red").await.assert_ok();
    assert_eq!(world.calls(), 0, "nothing to look up, nothing to end");
    visitor.get("/get/color").await.assert_ok();
    assert_eq!(world.calls(), 1, "a read of nobody's session");
    visitor.post("/put/color/blue").await.assert_ok();
    assert_eq!(world.calls(), 2, "a change of one");
    visitor.post("/login/ada").await.assert_ok();
    assert_eq!(
        world.calls(),
        5,
        "a login: twice whether it stands, the user's generation in two places, the mark"
    );
    visitor.get("/get/color").await.assert_ok();
    assert_eq!(world.calls(), 2, "a read of a user's session");
    visitor.post("/put/color/green").await.assert_ok();
    assert_eq!(world.calls(), 4, "a change of one");
    visitor.get("/ignored").await.assert_ok();
    assert_eq!(world.calls(), 0, "untouched");
    visitor.post("/logout").await.assert_ok();
    assert_eq!(world.calls(), 1, "a logout");
    visitor.post("/login/ada").await.assert_ok();
    assert_eq!(world.calls(), 2, "a login without a session");
    let ada = UserId::new("ada").unwrap();
    world.cookies().delete_all_of(&ada, None).await.unwrap();
    assert_eq!(world.calls(), 3, "the end of all sessions");
    visitor.post("/login/ada").await.assert_ok();
    world.calls();
    visitor.get("/get/color").await.assert_ok();
    assert_eq!(world.calls(), 3, "a read after that");
}

async fn a_store_that_fails_is_a_503_and_not_a_logout_nor_a_way_in(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/login/ada").await.assert_ok();
    let captured = browser.clone();
    let mut ended = browser.clone();
    browser.post("/put/color/red").await.assert_ok();
    world.ended.inject(Fault::Fail);
    for mut browser in [browser.clone(), captured.clone()] {
        for path in ["/get/color", "/whoami", "/optional"] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.set_cookies(), [""; 0]);
        }
        let answer = browser.post("/put/color/blue").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.set_cookies(), [""; 0]);
        browser.get("/ignored").await.assert_ok();
    }
    world.ended.heal();
    assert_eq!(browser.get("/get/color").await.assert_ok().body, "\"red\"");
    ended.post("/logout").await.assert_ok();
    assert!(captured.is_anonymous().await);
}

async fn a_store_that_fails_on_logout_is_a_503_and_the_cookie_is_kept(kind: Kind) {
    let world = World::new(kind);
    for path in ["/logout", "/flush"] {
        let mut browser = world.browser();
        browser.post("/login/ada").await.assert_ok();
        world.ended.inject_on(&[Operation::Create], Fault::Fail);
        let answer = browser.post(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.set_cookies(), [""; 0]);
        world.ended.heal();
        assert!(browser.is_alive().await, "so it can be tried again");
        browser.post(path).await.assert_ok().the_cookie();
    }
}

async fn a_store_that_fails_on_login_hands_out_nothing_and_leaves_the_old_session(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/cart/book").await.assert_ok();
    for path in ["/login/ada", "/cycle"] {
        world.ended.inject_on(&[Operation::Create], Fault::Fail);
        let answer = browser.post(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.set_cookies(), [""; 0]);
        world.ended.heal();
        assert_eq!(browser.get("/get/cart").await.assert_ok().body, "\"book\"");
    }
}

async fn during_an_outage_a_route_may_serve_everybody_as_a_stranger(kind: Kind) {
    let world = World::new(kind);
    let mut browser = Browser::new(&app(world.layer().with_outage(Outage::Anonymous)));
    browser.post("/login/ada").await.assert_ok();
    world.ended.inject(Fault::Fail);
    let answer = browser.get("/whoami").await.assert_ok();
    assert_eq!(answer.body, "-");
    assert_eq!(answer.set_cookies(), [""; 0]);
    let change = browser.post("/put/color/red").await;
    assert_eq!(change.status, StatusCode::SERVICE_UNAVAILABLE);
    world.ended.heal();
    assert_eq!(browser.get("/whoami").await.assert_ok().body, "ada");
}

async fn a_mark_whose_reply_is_lost_or_that_is_sent_twice_is_made_once_and_well(kind: Kind) {
    for path in ["/logout", "/flush", "/cycle", "/login/ada"] {
        for fault in [Fault::LoseReply, Fault::SendTwice, Fault::Fail] {
            let world = World::new(kind);
            let mut browser = world.browser();
            browser.post("/login/ada").await.assert_ok();
            let captured = browser.clone();
            let before = world.marks().await;
            world.ended.inject_once(Operation::Create, fault);
            let set = browser.post(path).await.assert_ok().the_cookie();
            world.ended.heal();
            assert_eq!(
                set.starts_with("__Host-id=;"),
                path.ends_with('t') || path == "/flush"
            );
            assert_eq!(world.marks().await, before + 1);
            assert!(captured.is_anonymous().await);
        }
    }
}

async fn a_failed_end_of_all_sessions_is_an_error(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/login/ada").await.assert_ok();
    let ada = UserId::new("ada").unwrap();
    world.ended.inject(Fault::Fail);
    let failed = world.cookies().delete_all_of(&ada, None).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Store);
    world.ended.heal();
    assert!(browser.is_alive().await);
    for fault in [Fault::SendTwice, Fault::LoseReply] {
        world.ended.inject_once(Operation::Create, fault);
        // An end that may have come is asked for again.
        if world.cookies().delete_all_of(&ada, None).await.is_err() {
            world.cookies().delete_all_of(&ada, None).await.unwrap();
        }
        assert!(browser.is_anonymous().await);
        browser.post("/login/ada").await.assert_ok();
        assert!(browser.is_alive().await);
    }
}

async fn a_touch_that_fails_does_not_refuse_the_answer(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    world.pass(2 * DAY);
    world.ended.inject_after(1, Fault::Fail);
    let answer = browser.get("/get/color").await.assert_ok();
    assert_eq!(answer.set_cookies(), [""; 0]);
    world.ended.heal();
    browser.get("/get/color").await.assert_ok().the_cookie();
}

/// Its store is encrypted, and the secret was dropped.
async fn a_damaged_mark_ends_what_it_may_have_ended_and_locks_nobody_out(kind: Kind) {
    let world = World::new(kind);
    let inner = MemoryStore::new();
    let cookies = || {
        let marks = EncryptedStore::new(inner.clone(), &keyring());
        kind.cookies(&world.keyring).with_revocations(marks)
    };
    let ada = UserId::new("ada").unwrap();
    let at = |cookies| Browser::new(&app(SessionLayer::new(cookies)));
    let mut before = at(cookies());
    before.post("/login/ada").await.assert_ok();
    cookies().delete_all_of(&ada, None).await.unwrap();
    // Each has a secret of its own, and can not read what the others have marked.
    let marks = FaultyStore::new(EncryptedStore::new(inner.clone(), &keyring()));
    let marks = std::sync::Arc::new(marks);
    let cut_off = kind
        .cookies(&world.keyring)
        .with_revocations(std::sync::Arc::clone(&marks));
    marks.inject_on(&[Operation::Create], Fault::Fail);
    let mut at_login = at(cut_off);
    let refused = at_login.post("/login/ada").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(at_login.with_id_of(&before).is_anonymous().await);
    let later = cookies();
    let mut again = at(later.clone()).with_id_of(&before);
    assert!(again.is_anonymous().await);
    again.post("/login/ada").await.assert_ok();
    assert!(again.is_alive().await);
    let latest = cookies();
    latest.delete_all_of(&ada, None).await.unwrap();
    assert!(at(latest).with_id_of(&again).is_anonymous().await);
}

/// A secret of the marks is lost, then found again, and at last what it has sealed expires.
async fn what_was_ended_beside_a_damaged_mark_stays_ended_when_that_is_read_again_or_gone(
    kind: Kind,
) {
    let world = World::new(kind);
    let inner = MemoryStore::new();
    let [lost, present] = [(); 2].map(|()| Keyring::generate_secret().unwrap());
    let both = Keyring::new(&present).unwrap().with_retired(&lost).unwrap();
    let [lost, present] = [lost, present].map(|secret| Keyring::new(secret).unwrap());
    let cookies = |marks: &Keyring| {
        let marks = EncryptedStore::new(inner.clone(), marks);
        kind.cookies(&world.keyring).with_revocations(marks)
    };
    let at = |marks: &Keyring| Browser::new(&app(SessionLayer::new(cookies(marks))));
    let ada = UserId::new("ada").unwrap();
    cookies(&lost).delete_all_of(&ada, None).await.unwrap();
    let mut before = at(&lost);
    before.post("/login/ada").await.assert_ok();
    let first = inner.scan(None, 10).await.unwrap().sessions;
    assert_eq!(first.len(), 1);

    let mut between = at(&present);
    between.post("/login/ada").await.assert_ok();
    cookies(&present).delete_all_of(&ada, None).await.unwrap();
    let mut after = at(&present);
    after.post("/login/ada").await.assert_ok();

    let assert_ended = async |marks: &Keyring| {
        for ended in [&before, &between] {
            assert!(at(marks).with_id_of(ended).is_anonymous().await);
        }
        assert!(at(marks).with_id_of(&after).is_alive().await);
        let mut another = at(marks);
        another.post("/login/ada").await.assert_ok();
        assert!(another.is_alive().await);
    };
    assert_ended(&present).await;
    assert_ended(&both).await;
    assert!(inner.delete(&first[0].id).await.unwrap());
    assert_ended(&present).await;
    assert_ended(&both).await;
    cookies(&present).delete_all_of(&ada, None).await.unwrap();
    assert!(at(&present).with_id_of(&after).is_anonymous().await);
}

async fn of_two_logins_over_a_damaged_mark_both_stand(kind: Kind) {
    let world = World::new(kind);
    let inner = MemoryStore::new();
    let ada = UserId::new("ada").unwrap();
    let marks = EncryptedStore::new(inner.clone(), &keyring());
    let cookies = kind.cookies(&world.keyring).with_revocations(marks);
    cookies.delete_all_of(&ada, None).await.unwrap();
    let marks = EncryptedStore::new(inner, &keyring());
    let marks = WatchedStore::new(&std::sync::Arc::new(marks), 3);
    let cookies = kind.cookies(&world.keyring).with_revocations(marks);
    let layer = SessionLayer::new(cookies).with_store_timeout(PATIENCE);
    let browser = Browser::new(&app(layer));
    let [mut one, mut other] = [browser.clone(), browser];
    let (first, second) = tokio::join!(one.post("/login/ada"), other.post("/login/ada"));
    first.assert_ok();
    second.assert_ok();
    assert!(one.is_alive().await);
    assert!(other.is_alive().await);
}
