//! What each kind of request is told while the store is down, and that nothing of it is left when it is back.

use std::time::Duration;

use axum::Router;
use sqlx::postgres::PgPoolOptions;
use tower_keep::{
    CachedStore, MemoryCache, PostgresStore, Record, RecordId, RedisStore, ScanSessions,
    SessionLayer, SessionStore, TableName,
};
use tower_keep_servers::{Kind, Server};

use crate::{
    redis_places::eventually,
    support::{Answer, Browser, PATIENCE, app, new_table},
};

/// What they have acknowledged, they have written.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// How long they try while nothing is there.
const HASTE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn while_redis_is_down_a_request_that_needs_it_is_a_503_and_changes_nothing() {
    let server = Server::start_with(Kind::Redis, &DURABLE).await;
    let open = |limit| RedisStore::open(&server.url()).unwrap().with_timeout(limit);
    nothing_is_changed(&server, &open(PATIENCE), &open(HASTE), Reads::Fail).await;
}

#[tokio::test]
async fn while_postgres_is_down_a_request_that_needs_it_is_a_503_and_changes_nothing() {
    let server = Server::start(Kind::Postgres).await;
    let table = new_table();
    let patient = postgres(&server, &table, PATIENCE);
    patient.migrate().await.unwrap();
    let hasty = postgres(&server, &table, HASTE);
    nothing_is_changed(&server, &patient, &hasty, Reads::Fail).await;
}

/// What is in the cache is read all the same, until a write whose outcome nobody knows.
#[tokio::test]
async fn while_the_store_behind_a_cache_is_down_a_change_is_a_503_and_changes_nothing() {
    let server = Server::start(Kind::Postgres).await;
    let table = new_table();
    let cache = MemoryCache::of_sole_process();
    let cached = |store| CachedStore::new(cache.clone(), store);
    let patient = postgres(&server, &table, PATIENCE);
    patient.migrate().await.unwrap();
    let (patient, hasty) = (cached(patient), cached(postgres(&server, &table, HASTE)));
    nothing_is_changed(&server, &patient, &hasty, Reads::Succeed).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Succeed,
    Fail,
}

async fn nothing_is_changed<S>(server: &Server, patient: &S, hasty: &S, reads: Reads)
where
    S: SessionStore + ScanSessions + Clone,
{
    let mut known = Browser::new(&over(patient));
    known.post("/login/ada").await.assert_ok();
    known.post("/put/cart/book").await.assert_ok();
    assert_eq!(known.get("/whoami").await.body, "ada");
    let before = sessions(patient).await;
    assert_eq!(before.len(), 1);

    server.kill9().await;
    let away = Browser::new(&over(hasty)).with_id_of(&known);
    for path in ["/whoami", "/dump", "/get/cart"] {
        let answer = away.clone().get(path).await;
        match reads {
            Reads::Fail => assert_refused(&answer, path),
            Reads::Succeed => assert_eq!(answer.status, 200, "{path}"),
        }
    }
    for path in [
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
    ] {
        assert_refused(&away.clone().post(path).await, path);
    }
    let stranger = away.stranger();
    for path in ["/login/grace", "/put/new/data", "/count/n"] {
        assert_refused(&stranger.clone().post(path).await, path);
    }
    // Who has no session needs no store.
    assert_eq!(stranger.clone().get("/whoami").await.assert_ok().body, "-");

    server.start_again().await;
    eventually("an answer", || async {
        (known.clone().get("/whoami").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(sessions(patient).await, before);
    let dump = known.get("/dump").await.assert_ok().body;
    assert_eq!(dump, r#"{"cart":"book"}"#);
    assert_eq!(known.get("/whoami").await.assert_ok().body, "ada");
    known.post("/logout").await.assert_ok();
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
        Some(sessions.map(|stored| (stored.id, stored.record)).collect())
    })
    .await
}

fn postgres(server: &Server, table: &TableName, limit: Duration) -> PostgresStore {
    let pool = PgPoolOptions::new().acquire_timeout(limit);
    let pool = pool.connect_lazy(&server.url()).unwrap();
    PostgresStore::new(pool).with_table(table.clone())
}
