//! Slow requests that a logout, a login or the end of all sessions overtakes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tower_keep::{
    CookieStore, Created, MemoryStore, Record, RecordId, Revocable, Rotated, SessionLayer,
    SessionStore, StoreError, Timestamp, Updated, UserId, Version,
};

use crate::{
    both_kinds,
    support::{Browser, Gate, post_meanwhile, router},
    world::{Kind, World},
};

both_kinds!(
    a_slow_request_that_a_logout_overtakes_sets_no_cookie,
    a_slow_request_that_a_login_overtakes_sets_no_cookie,
    a_slow_request_that_the_end_of_all_sessions_overtakes_sets_no_cookie,
    the_end_of_all_sessions_at_any_moment_of_a_request_ends_what_it_rotates_too,
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

/// Ends all sessions of Alice right before one of its loads.
#[derive(Debug)]
struct Meddling {
    inner: Arc<MemoryStore>,
    cookies: CookieStore<Revocable>,
    loads: AtomicUsize,
    before_load: usize,
}

#[async_trait]
impl SessionStore for Meddling {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        if self.loads.fetch_add(1, Ordering::SeqCst) == self.before_load {
            let alice = UserId::new("alice").unwrap();
            self.cookies.delete_all_of(&alice, None).await.unwrap();
        }
        self.inner.load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.inner.create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        self.inner.update(id, record, expected).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.inner.rotate(old, new, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        self.inner.touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.inner.delete(id).await
    }
}

async fn the_end_of_all_sessions_at_any_moment_of_a_request_ends_what_it_rotates_too(kind: Kind) {
    for path in ["/cycle", "/put/color/red", "/expire/60"] {
        for before_load in 0..4 {
            let world = World::new(kind);
            let inner = Arc::new(MemoryStore::new());
            let cookies = || kind.cookies(&world.keyring);
            let mut victim = Browser::new(&router().layer(SessionLayer::new(
                cookies().with_revocations(Arc::clone(&inner)),
            )));
            victim.post("/login/alice").await.assert_ok();
            let meddling = Arc::new(Meddling {
                cookies: cookies().with_revocations(Arc::clone(&inner)),
                inner,
                loads: AtomicUsize::new(0),
                before_load,
            });
            let layer = SessionLayer::new(cookies().with_revocations(Arc::clone(&meddling)));
            let mut thief = Browser::new(&router().layer(layer)).with_id_of(&victim);
            thief.post(path).await;
            assert!(meddling.loads.load(Ordering::SeqCst) > before_load);
            assert!(victim.is_anonymous().await, "{path} {before_load}");
            // What is written to a session that had ended before it was loaded begins another, of nobody.
            let whose = thief.get("/whoami").await.assert_ok().body;
            assert_eq!(whose, "-", "{path} {before_load}");
        }
    }
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
