//! Several requests of one client at once.

use std::{sync::Arc, time::Duration};

use axum::routing::post;
use tower_keep::{Session, SessionStore, testing::ManualClock};

use crate::support::{
    Answer, Browser, Gate, TestStore, WatchedStore, layer_over, post_meanwhile, router, yields,
};

#[tokio::test]
async fn a_slow_request_that_a_logout_overtakes_stores_nothing_and_sets_no_cookie() {
    logout_overtakes(TestStore::new()).await;
}

#[tokio::test]
async fn a_slow_request_that_a_login_overtakes_is_dropped_and_the_new_id_alone_lives() {
    login_overtakes(TestStore::new()).await;
}

#[tokio::test]
async fn of_two_rotations_at_once_exactly_one_id_lives_and_one_cookie_is_set() {
    two_rotations(TestStore::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_rotations_in_parallel_exactly_one_id_lives() {
    many_rotations(TestStore::new()).await;
}

#[tokio::test]
async fn two_writers_of_different_keys_at_once_are_both_stored() {
    two_writers(TestStore::new()).await;
}

/// What a slow request may have done to the session when it is overtaken.
const SLOW: [&str; 12] = [
    "/put/canary/late",
    "/count/n",
    "/append/list/late",
    "/remove/canary",
    "/clear",
    "/cycle",
    "/login/alice",
    "/login/mallory",
    "/expire/60",
    "/flush",
    "/logout",
    // Only looks, when the deadline is to be written again.
    "/contains/canary",
];

struct Scene<S> {
    store: WatchedStore<S>,
    gate: Gate,
    /// Logged in as Alice; her session holds a canary.
    browser: Browser,
}

impl<S: SessionStore> Scene<S> {
    async fn new(inner: &Arc<S>) -> Self {
        let store = WatchedStore::new(inner, 3);
        // Later advanced so far that the session's deadline is to be written again.
        let clock = ManualClock::new();
        let layer = layer_over(store.clone())
            .with_clock(clock.clone())
            .with_idle_timeout(Duration::from_secs(60 * 60));
        let gate = Gate::new();
        let routes = router().route(
            "/contains/{key}",
            post(async |s: Session| s.contains_key("canary").to_string()),
        );
        let app = gate.behind(routes).layer(layer);
        let mut browser = Browser::new(&app);
        browser.post("/login/alice").await.assert_ok();
        browser.post("/put/canary/alice").await.assert_ok();
        clock.advance(Duration::from_secs(30 * 60));
        Self {
            store,
            gate,
            browser,
        }
    }

    /// A request has the session and has worked on it, another overtakes it, the first one answers.
    async fn overtake(&self, slow: &str, fast: &str) -> (Browser, Answer) {
        let late = post_meanwhile(&self.browser, &format!("{slow}?hold"));
        self.gate.arrived(1).await;
        let mut fast_browser = self.browser.clone();
        let answer = fast_browser.post(fast).await.assert_ok();
        assert_eq!(answer.set_cookies().len(), 1, "{slow}: {fast}");
        self.gate.open(1);
        let (_, answer) = late.await.unwrap();
        (fast_browser, answer)
    }
}

async fn logout_overtakes<S: SessionStore>(store: S) {
    let store = Arc::new(store);
    for slow in SLOW {
        let scene = Scene::new(&store).await;
        let (_, answer) = scene.overtake(slow, "/logout").await;
        assert_eq!(answer.status, 200, "{slow}");
        assert_eq!(answer.set_cookies(), [""; 0], "{slow}");
        assert_eq!(scene.store.live().await, [], "{slow}");
        let mut replay = scene.browser.clone();
        assert_eq!(replay.get("/whoami").await.body, "-", "{slow}");
        assert_eq!(replay.get("/dump").await.body, "{}", "{slow}");
    }
}

async fn login_overtakes<S: SessionStore>(store: S) {
    let store = Arc::new(store);
    for slow in SLOW {
        let scene = Scene::new(&store).await;
        let (mut fresh, answer) = scene.overtake(slow, "/login/bob").await;
        assert_eq!(answer.status, 200, "{slow}");
        assert_eq!(answer.set_cookies(), [""; 0], "{slow}");
        assert_eq!(scene.store.live().await.len(), 1, "{slow}");
        assert_eq!(fresh.get("/whoami").await.body, "bob", "{slow}");
        assert_eq!(fresh.get("/dump").await.body, "{}", "{slow}");
        let mut old = scene.browser.clone();
        assert_eq!(old.get("/whoami").await.body, "-", "{slow}");
    }
}

async fn two_rotations<S: SessionStore>(store: S) {
    let store = Arc::new(store);
    for (first, second) in [
        ("/cycle", "/cycle"),
        ("/cycle", "/login/alice"),
        ("/login/alice", "/cycle"),
        ("/login/alice", "/login/bob"),
    ] {
        for delay in 0..16 {
            let scene = Scene::new(&store).await;
            let one = post_meanwhile(&scene.browser, &format!("{first}?hold"));
            scene.gate.arrived(1).await;
            let other = post_meanwhile(&scene.browser, &format!("{second}?hold"));
            scene.gate.arrived(2).await;
            scene.gate.open(1);
            yields(delay).await;
            scene.gate.open(1);

            let case = format!("{first}, {delay} steps, {second}");
            let both = [one.await.unwrap(), other.await.unwrap()];
            assert_eq!(scene.store.live().await.len(), 1, "{case}");
            let mut winners = 0;
            for (mut browser, answer) in both {
                assert_eq!(answer.status, 200, "{case}");
                if answer.set_cookies().is_empty() {
                    assert_eq!(browser.get("/whoami").await.body, "-", "{case}");
                } else {
                    winners += 1;
                    answer.the_cookie();
                    assert_ne!(browser.get("/whoami").await.body, "-", "{case}");
                }
            }
            assert_eq!(winners, 1, "{case}");
        }
    }
}

async fn many_rotations<S: SessionStore>(store: S) {
    let store = Arc::new(store);
    for round in 0..50 {
        let scene = Scene::new(&store).await;
        let requests: Vec<_> = (0..8)
            .map(|n| match n % 2 {
                0 => post_meanwhile(&scene.browser, "/cycle?hold"),
                _ => post_meanwhile(&scene.browser, "/login/alice?hold"),
            })
            .collect();
        scene.gate.arrived(8).await;
        scene.gate.open(8);
        let mut cookies = 0;
        for request in requests {
            cookies += request.await.unwrap().1.assert_ok().set_cookies().len();
        }
        assert_eq!(cookies, 1, "round {round}");
        assert_eq!(scene.store.live().await.len(), 1, "round {round}");
    }
}

async fn two_writers<S: SessionStore>(store: S) {
    let store = Arc::new(store);
    for delay in 0..16 {
        let scene = Scene::new(&store).await;
        let one = post_meanwhile(&scene.browser, "/put/one/1?hold");
        scene.gate.arrived(1).await;
        let other = post_meanwhile(&scene.browser, "/put/other/2?hold");
        scene.gate.arrived(2).await;
        scene.gate.open(1);
        yields(delay).await;
        scene.gate.open(1);
        one.await.unwrap().1.assert_ok();
        other.await.unwrap().1.assert_ok();
        let mut browser = scene.browser.clone();
        assert_eq!(
            browser.get("/dump").await.body,
            r#"{"canary":"alice","one":"1","other":"2"}"#,
            "{delay} steps"
        );
    }
}
