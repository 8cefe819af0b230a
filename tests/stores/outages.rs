//! What each kind of request is told while the store is down, and that nothing of it is left when it is back.

use std::time::Duration;

use axum::Router;
use tower_keep::{
    CachedStore, MemoryCache, PostgresStore, Record, RecordId, RedisStore, ScanSessions,
    SessionLayer, SessionStore,
};
use tower_keep_servers::{Kind, Server};

use crate::support::{Answer, Browser, PATIENCE, app, eventually, new_table, postgres_at};

/// What they have acknowledged, they have written.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// How long they try while nothing is there.
const HASTE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn while_redis_is_down_a_request_that_needs_it_is_a_503_and_changes_nothing() {
    let server = Server::start_with(Kind::Redis, &DURABLE).await;
    let [patient, hasty] = [PATIENCE, HASTE].map(|limit| redis(&server, limit));
    nothing_is_changed(&server, &patient, &hasty, Loads::Fail).await;
}

#[tokio::test]
async fn while_postgres_is_down_a_request_that_needs_it_is_a_503_and_changes_nothing() {
    let server = Server::start(Kind::Postgres).await;
    let [patient, hasty] = postgres(&server).await;
    nothing_is_changed(&server, &patient, &hasty, Loads::Fail).await;
}

#[tokio::test]
async fn while_redis_behind_a_cache_is_down_a_change_is_a_503_and_changes_nothing() {
    let server = Server::start_with(Kind::Redis, &DURABLE).await;
    let cache = MemoryCache::of_sole_process();
    let cached = |limit| CachedStore::new(cache.clone(), redis(&server, limit));
    let [patient, hasty] = [PATIENCE, HASTE].map(cached);
    nothing_is_changed(&server, &patient, &hasty, Loads::Succeed).await;
}

#[tokio::test]
async fn while_postgres_behind_a_cache_is_down_a_change_is_a_503_and_changes_nothing() {
    let server = Server::start(Kind::Postgres).await;
    let cache = MemoryCache::of_sole_process();
    let stores = postgres(&server).await;
    let [patient, hasty] = stores.map(|store| CachedStore::new(cache.clone(), store));
    nothing_is_changed(&server, &patient, &hasty, Loads::Succeed).await;
}

/// What becomes of the load of a session, before the commit, which fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loads {
    /// A cache has it.
    Succeed,
    Fail,
}

/// Of a session each: once the outcome of a write is not known, no copy is served.
const CHANGES: [&str; 10] = [
    "/login/grace",
    "/login/ada",
    "/cycle",
    "/logout",
    "/flush",
    "/put/cart/pen",
    "/count/n",
    "/remove/cart",
    "/clear",
    "/expire/600",
];

async fn nothing_is_changed<S>(server: &Server, patient: &S, hasty: &S, loads: Loads)
where
    S: SessionStore + ScanSessions + Clone,
{
    let near = Browser::new(&over(patient));
    let away = Browser::new(&over(hasty));
    let mut known = Vec::new();
    for _ in CHANGES {
        let mut browser = near.stranger();
        browser.post("/login/ada").await.assert_ok();
        browser.post("/put/cart/book").await.assert_ok();
        assert_eq!(browser.get("/whoami").await.body, "ada");
        known.push(browser);
    }
    let before = sessions(patient).await;
    assert_eq!(before.len(), CHANGES.len());
    // So that a connection breaks, too.
    assert_eq!(sessions(hasty).await, before);

    server.kill9().await;
    for (path, known) in CHANGES.iter().zip(&known) {
        let mut browser = away.clone().with_id_of(known);
        for reads in ["/whoami", "/dump", "/get/cart"] {
            let answer = browser.get(reads).await;
            match loads {
                Loads::Fail => assert_refused(&answer, reads),
                Loads::Succeed => assert_eq!(answer.status, 200, "{reads}"),
            }
        }
        assert_refused(&browser.post(path).await, path);
    }
    let stranger = away.stranger();
    for path in ["/login/grace", "/put/new/data", "/count/n"] {
        assert_refused(&stranger.clone().post(path).await, path);
    }
    // Who has no session needs no store.
    assert_eq!(stranger.clone().get("/whoami").await.assert_ok().body, "-");

    server.start_again().await;
    assert_eq!(sessions(patient).await, before);
    for mut browser in known {
        let dump = browser.get("/dump").await.assert_ok().body;
        assert_eq!(dump, r#"{"cart":"book"}"#);
        assert_eq!(browser.get("/whoami").await.assert_ok().body, "ada");
        browser.post("/logout").await.assert_ok();
    }
    assert_eq!(sessions(patient).await, []);
}

/// No id is handed out, and none taken away.
#[track_caller]
fn assert_refused(answer: &Answer, path: &str) {
    assert_eq!(answer.status, 503, "{path}");
    assert_eq!(answer.set_cookies(), [""; 0], "{path}");
}

fn over(store: &(impl SessionStore + Clone)) -> Router {
    app(SessionLayer::new(store.clone()).with_store_timeout(PATIENCE))
}

async fn sessions(store: &impl ScanSessions) -> Vec<(RecordId, Record)> {
    eventually("a list", || async {
        let page = store.scan(None, 1000).await.ok()?;
        let sessions = page.sessions.into_iter();
        let mut sessions: Vec<_> = sessions.map(|stored| (stored.id, stored.record)).collect();
        sessions.sort_by_key(|(id, _)| *id);
        Some(sessions)
    })
    .await
}

fn redis(server: &Server, limit: Duration) -> RedisStore {
    RedisStore::open(&server.url()).unwrap().with_timeout(limit)
}

/// A patient one and a hasty one over the same table.
async fn postgres(server: &Server) -> [PostgresStore; 2] {
    let table = new_table();
    let stores = [PATIENCE, HASTE].map(|limit| postgres_at(&server.url(), &table, limit));
    stores[0].migrate().await.unwrap();
    stores
}
