//! Logging in, expiring, and what of a request is committed.

use std::time::Duration;

use http::StatusCode;
use tower_keep::{RandomError, RandomSource};

use crate::{
    both_kinds,
    support::{Browser, app},
    world::{DAY, Kind, World},
};

both_kinds!(
    a_login_changes_the_id_kills_the_old_cookie_and_keeps_the_data,
    another_users_data_is_not_carried_over,
    a_session_ends_when_it_was_not_used_for_the_idle_time,
    a_session_ends_at_its_absolute_deadline_however_much_it_is_used,
    a_read_after_a_tenth_of_the_idle_time_is_sealed_again,
    a_write_to_an_expired_session_starts_a_new_one_without_the_old_data,
    a_session_that_expires_during_a_request_is_not_revived_by_its_write,
    a_failing_random_source_is_an_error_and_the_session_stays_as_it_was,
    an_expiry_rule_survives_later_requests,
    a_session_that_ends_with_the_browser_also_ends_on_the_server,
    a_flush_and_an_insert_make_a_new_session_with_the_new_data_alone,
    a_client_error_is_committed_and_a_server_error_is_not,
    a_rotation_before_a_server_error_leaves_the_old_cookie_alive,
    a_logout_before_a_server_error_or_a_panic_is_a_logout,
);

async fn record(browser: &Browser) -> String {
    browser.clone().get("/record").await.assert_ok().body
}

async fn a_login_changes_the_id_kills_the_old_cookie_and_keeps_the_data(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/cart/book").await.assert_ok();
    for _ in 0..2 {
        let before = browser.clone();
        browser.post("/login/ada").await.assert_ok().the_cookie();
        assert_ne!(record(&browser).await, record(&before).await);
        assert!(before.is_anonymous().await, "on every node");
        assert!(world.browser().with_id_of(&before).is_anonymous().await);
        assert_eq!(browser.get("/whoami").await.body, "ada");
        assert_eq!(browser.get("/dump").await.body, r#"{"cart":"book"}"#);
    }
}

async fn another_users_data_is_not_carried_over(kind: Kind) {
    let mut browser = World::new(kind).browser();
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/diary/secret").await.assert_ok();
    browser.post("/login/grace").await.assert_ok();
    assert_eq!(browser.get("/dump").await.body, "{}");
    assert_eq!(browser.get("/whoami").await.body, "grace");
}

async fn a_session_ends_when_it_was_not_used_for_the_idle_time(kind: Kind) {
    for (waits, alive) in [(3599, true), (3601, false)] {
        let world = World::new(kind);
        let layer = world.layer().with_idle_timeout(Duration::from_secs(3600));
        let mut browser = Browser::new(&app(layer));
        browser.post("/put/color/red").await.assert_ok();
        world.pass(waits);
        assert_eq!(browser.clone().is_alive().await, alive);
        if alive {
            // That was a use, and its answer has moved the end.
            browser.get("/loaded").await.assert_ok().the_cookie();
            world.pass(3599);
            assert!(browser.is_alive().await);
        }
    }
}

async fn a_session_ends_at_its_absolute_deadline_however_much_it_is_used(kind: Kind) {
    let world = World::new(kind);
    let layer = || {
        world
            .layer()
            .with_absolute_timeout(Duration::from_secs(10 * DAY))
    };
    let mut browser = Browser::new(&app(layer()));
    browser.post("/login/ada").await.assert_ok();
    let mut cycled = browser.stranger();
    cycled.post("/put/color/red").await.assert_ok();
    for _ in 0..9 {
        world.pass(DAY);
        browser.get("/loaded").await.assert_ok();
        cycled.post("/cycle").await.assert_ok();
    }
    let mut again = browser.clone();
    again.post("/login/ada").await.assert_ok();
    world.pass(DAY + 1);
    assert!(!browser.is_alive().await);
    assert!(!cycled.is_alive().await, "a new id is no new beginning");
    assert!(again.is_alive().await, "a login is");
}

async fn a_read_after_a_tenth_of_the_idle_time_is_sealed_again(kind: Kind) {
    let world = World::new(kind);
    let layer = world
        .layer()
        .with_idle_timeout(Duration::from_secs(10 * DAY));
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/color/red").await.assert_ok();
    world.pass(DAY - 1);
    let early = browser.get("/loaded").await.assert_ok();
    assert_eq!(early.set_cookies(), [""; 0]);
    world.pass(1);
    let set = browser.get("/loaded").await.assert_ok().the_cookie();
    assert!(set.contains("Max-Age=864000"), "{set}");
}

async fn a_write_to_an_expired_session_starts_a_new_one_without_the_old_data(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/old/1").await.assert_ok();
    let before = record(&browser).await;
    world.pass(14 * DAY + 1);
    browser.post("/put/new/2").await.assert_ok().the_cookie();
    assert_eq!(browser.get("/dump").await.body, r#"{"new":"2"}"#);
    assert_ne!(record(&browser).await, before);
}

async fn a_session_that_expires_during_a_request_is_not_revived_by_its_write(kind: Kind) {
    use axum::routing::post;
    use tower_keep::Session;

    let world = World::new(kind);
    let late = |rotates: bool| {
        let clock = world.clock.clone();
        move |session: Session| async move {
            clock.advance(Duration::from_secs(14 * DAY + 1));
            match rotates {
                true => session.cycle_id(),
                false => session.insert("late", 1),
            }
        }
    };
    let routes = crate::support::router()
        .route("/late/write", post(late(false)))
        .route("/late/cycle", post(late(true)));
    let app = routes.layer(world.layer());
    for path in ["/late/write", "/late/cycle"] {
        let mut browser = Browser::new(&app);
        browser.post("/put/cart/book").await.assert_ok();
        let answer = browser.post(path).await.assert_ok();
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert!(browser.is_anonymous().await);
    }
}

#[derive(Debug)]
struct NoRandom;

impl RandomSource for NoRandom {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError::new("no entropy"))
    }
}

async fn a_failing_random_source_is_an_error_and_the_session_stays_as_it_was(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let without = Browser::new(&app(world.layer().with_random_source(NoRandom)));
    let refused = async |browser: &Browser, path: &str| {
        let answer = browser.clone().post(path).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert_eq!(answer.set_cookies(), [""; 0], "{path}");
    };
    refused(&without, "/put/color/blue").await;
    let known = without.with_id_of(&browser);
    refused(&known, "/cycle").await;
    refused(&known, "/login/ada").await;
    if kind == Kind::Encrypted {
        // There is no nonce to encrypt under.
        refused(&known, "/put/color/blue").await;
    }
    assert_eq!(world.marks().await, 0);
    assert_eq!(browser.get("/dump").await.body, r#"{"color":"red"}"#);
}

async fn an_expiry_rule_survives_later_requests(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let set = browser.post("/expire/100").await.assert_ok().the_cookie();
    assert!(set.contains("Max-Age=100"), "{set}");
    for value in ["blue", "green"] {
        world.pass(99);
        browser
            .post(&format!("/put/color/{value}"))
            .await
            .assert_ok();
    }
    world.pass(101);
    assert!(!browser.is_alive().await);
}

async fn a_session_that_ends_with_the_browser_also_ends_on_the_server(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let set = browser
        .post("/expire/browser")
        .await
        .assert_ok()
        .the_cookie();
    assert!(!set.contains("Max-Age"), "{set}");
    world.pass(13 * DAY);
    let set = browser.get("/loaded").await.assert_ok().the_cookie();
    assert!(!set.contains("Max-Age"), "{set}");
    world.pass(13 * DAY);
    assert!(browser.is_alive().await, "what is sealed was postponed");
    world.pass(DAY + 1);
    assert!(!browser.is_alive().await);
    let mut closed = browser.clone();
    closed.restart();
    assert_eq!(closed.id(), None);
}

async fn a_flush_and_an_insert_make_a_new_session_with_the_new_data_alone(kind: Kind) {
    use axum::routing::post;
    use tower_keep::{Error, Session};

    let world = World::new(kind);
    let route = async |session: Session| -> Result<(), Error> {
        session.flush()?;
        session.insert("flash", "bye")
    };
    let routes = crate::support::router().route("/bye", post(route));
    let mut browser = Browser::new(&routes.layer(world.layer()));
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/cart/book").await.assert_ok();
    let before = browser.clone();
    browser.post("/bye").await.assert_ok().the_cookie();
    assert_eq!(browser.get("/dump").await.body, r#"{"flash":"bye"}"#);
    assert_eq!(browser.get("/whoami").await.body, "-");
    assert_ne!(record(&browser).await, record(&before).await);
    assert!(before.is_anonymous().await);
}

async fn a_client_error_is_committed_and_a_server_error_is_not(kind: Kind) {
    let mut browser = World::new(kind).browser();
    browser.post("/put/color/red").await.assert_ok();
    let answer = browser.post("/put/color/blue?then=404").await;
    answer.the_cookie();
    assert_eq!(browser.get("/get/color").await.body, "\"blue\"");
    for then in ["500", "503", "599"] {
        let answer = browser.post(&format!("/put/color/green?then={then}")).await;
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    browser.post_and_panic("/put/color/green?then=panic").await;
    assert_eq!(browser.get("/get/color").await.body, "\"blue\"");
}

async fn a_rotation_before_a_server_error_leaves_the_old_cookie_alive(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    for path in ["/cycle", "/login/ada"] {
        let answer = browser.post(&format!("{path}?then=500")).await;
        assert_eq!(answer.set_cookies(), [""; 0]);
        browser.post_and_panic(&format!("{path}?then=panic")).await;
    }
    assert!(browser.is_alive().await);
    assert_eq!(world.marks().await, 0);
}

async fn a_logout_before_a_server_error_or_a_panic_is_a_logout(kind: Kind) {
    for path in ["/flush", "/logout"] {
        for then in ["500", "panic"] {
            let mut browser = World::new(kind).browser();
            browser.post("/login/ada").await.assert_ok();
            let before = browser.clone();
            if then == "panic" {
                browser.post_and_panic(&format!("{path}?then=panic")).await;
            } else {
                browser.post(&format!("{path}?then=500")).await.the_cookie();
                assert_eq!(browser.id(), None);
            }
            before.until_anonymous().await;
        }
    }
}

impl Browser {
    /// Waits for a commit that goes on without its request.
    async fn until_anonymous(&self) {
        for _ in 0..1000 {
            if !self.is_alive().await {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the session lives on");
    }
}
