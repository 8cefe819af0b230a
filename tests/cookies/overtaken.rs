//! Slow requests that a logout, a login or the end of all sessions overtakes.

use tower_keep::UserId;

use crate::{
    both_kinds,
    support::{Browser, Gate, post_meanwhile, router},
    world::{Kind, World},
};

both_kinds!(
    a_slow_request_that_a_logout_overtakes_sets_no_cookie,
    a_slow_request_that_a_login_overtakes_sets_no_cookie,
    a_slow_request_that_the_end_of_all_sessions_overtakes_sets_no_cookie,
    of_two_rotations_at_once_one_sets_a_cookie_and_its_session_alone_lives,
);

/// What a slow request may have done to the session when it is overtaken.
const SLOW: [&str; 9] = [
    "/put/canary/late?hold",
    "/count/n?hold",
    "/clear?hold",
    "/cycle?hold",
    "/login/alice?hold",
    "/login/mallory?hold",
    "/expire/60?hold",
    "/flush?hold",
    "/logout?hold",
];

async fn overtake(kind: Kind, overtaking: &str) {
    for slow in SLOW {
        let world = World::new(kind);
        let gate = Gate::new();
        let mut browser = Browser::new(&gate.behind(router()).layer(world.layer()));
        browser.post("/login/alice").await.assert_ok();
        browser.post("/put/canary/alice").await.assert_ok();
        let before = browser.clone();
        let held = post_meanwhile(&browser, slow);
        gate.arrived(1).await;
        match overtaking {
            "everywhere" => {
                let alice = UserId::new("alice").unwrap();
                world.cookies().delete_all_of(&alice, None).await.unwrap();
            }
            path => {
                browser.post(path).await.assert_ok();
            }
        }
        gate.open(1);
        let (_, answer) = held.await.unwrap();
        let is_end = slow.starts_with("/flush") || slow.starts_with("/logout");
        if overtaking != "everywhere" || !is_end {
            assert_eq!(answer.set_cookies(), [""; 0], "{slow}");
        }
        assert!(before.is_anonymous().await, "{slow}");
        if overtaking.starts_with("/login") {
            assert_eq!(browser.get("/whoami").await.assert_ok().body, "alice");
            assert_eq!(browser.get("/get/canary").await.body, "\"alice\"");
        }
    }
}

async fn a_slow_request_that_a_logout_overtakes_sets_no_cookie(kind: Kind) {
    overtake(kind, "/logout").await;
    overtake(kind, "/flush").await;
}

async fn a_slow_request_that_a_login_overtakes_sets_no_cookie(kind: Kind) {
    overtake(kind, "/login/alice").await;
}

async fn a_slow_request_that_the_end_of_all_sessions_overtakes_sets_no_cookie(kind: Kind) {
    overtake(kind, "everywhere").await;
}

async fn of_two_rotations_at_once_one_sets_a_cookie_and_its_session_alone_lives(kind: Kind) {
    let world = World::new(kind);
    let gate = Gate::new();
    let mut browser = Browser::new(&gate.behind(router()).layer(world.layer()));
    browser.post("/put/color/red").await.assert_ok();
    let requests = ["/cycle?hold", "/login/ada?hold"].map(|path| post_meanwhile(&browser, path));
    gate.arrived(2).await;
    gate.open(2);
    let mut rotated = Vec::new();
    for request in requests {
        let (browser, answer) = request.await.unwrap();
        if !answer.assert_ok().set_cookies().is_empty() {
            rotated.push(browser);
        }
    }
    assert_eq!(rotated.len(), 1);
    assert!(rotated[0].is_alive().await);
    assert!(browser.is_anonymous().await);
}
