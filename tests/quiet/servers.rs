//! The same over servers, of which drivers and caches have something to tell as well.

use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use tower_keep::{
    CachedStore, MemcachedStore, MemoryStore, PostgresStore, RedisCache, RedisStore, SessionLayer,
    SessionStore,
};
use tower_keep_servers::{Kind, Server};

use crate::{
    Log, Secrets, confessing, fill,
    support::{Browser, PATIENCE, new_table, router},
};

const PASSWORD: &str = "canary-hunter2-9914";

/// How long what is down is asked.
const HASTE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn no_log_of_a_store_on_a_server_tells_an_id_a_value_a_user_or_a_password() {
    let log = Log::start();
    let mut secrets = Secrets::default();
    on_redis(&log, &mut secrets).await;
    on_postgres(&log, &mut secrets).await;
    on_memcached(&mut secrets).await;
    before_memory(&log, &mut secrets).await;

    let text = log.text();
    for heard in ["the session store failed", "redis: ", "memcached: "] {
        assert!(text.contains(heard), "{heard:?} was to be provoked");
    }
    assert!(secrets.0.len() >= 16);
    secrets.are_not_in(&text);
    let place = text.find(PASSWORD);
    assert_eq!(place.map(|place| &text[place.saturating_sub(200)..]), None);
}

async fn on_redis(log: &Log, secrets: &mut Secrets) {
    let server = locked_redis().await;
    let store = RedisStore::open(&url_of(&server)).unwrap();
    let cache = store.near_cache().await.unwrap();
    let store = CachedStore::new(cache, store.with_timeout(HASTE));
    outlives_an_outage(&server, store, 503, secrets).await;
    log.tells("the near cache is connected again").await;
    // Of one that does not know the password.
    let wrong = url_of(&server).replace(PASSWORD, &format!("{PASSWORD}-not"));
    let layer = SessionLayer::new(RedisStore::open(&wrong).unwrap());
    let mut browser = Browser::new(&confessing(router(), layer));
    assert_eq!(browser.post("/login/ada").await.status, 503);
}

async fn on_postgres(log: &Log, secrets: &mut Secrets) {
    let server = Server::start(Kind::Postgres).await;
    let pool = PgPoolOptions::new().acquire_timeout(PATIENCE);
    let pool = pool.connect_lazy(&server.url()).unwrap();
    let store = PostgresStore::new(pool).with_table(new_table());
    store.migrate().await.unwrap();
    store.migrate_notifications().await.unwrap();
    let cache = store.near_cache().await.unwrap();
    outlives_an_outage(&server, CachedStore::new(cache, store), 503, secrets).await;
    log.tells("the cache hears of writes again").await;
}

async fn on_memcached(secrets: &mut Secrets) {
    let server = Server::start(Kind::Memcached).await;
    let store = MemcachedStore::open(&server.url()).unwrap();
    outlives_an_outage(&server, store.with_timeout(HASTE), 503, secrets).await;
}

/// A shared cache whose server is lost.
async fn before_memory(log: &Log, secrets: &mut Secrets) {
    let server = locked_redis().await;
    let cache = RedisCache::open(&url_of(&server)).unwrap();
    let store = CachedStore::new(cache.with_timeout(HASTE), MemoryStore::new());
    outlives_an_outage(&server, store, 200, secrets).await;
    log.tells("the session cache failed").await;
}

/// Fills a session, kills the server, asks for everything, and goes on when it is back.
async fn outlives_an_outage(
    server: &Server,
    store: impl SessionStore,
    meanwhile: u16,
    secrets: &mut Secrets,
) {
    let layer = SessionLayer::new(store).with_store_timeout(HASTE * 2);
    let mut browser = Browser::new(&confessing(router(), layer));
    eventually("a session", async || {
        browser.post("/count/n").await.status == 200
    })
    .await;
    secrets.learn(&browser);
    fill(&mut browser).await;
    secrets.learn(&browser);
    browser.post("/cycle").await.assert_ok();
    secrets.learn(&browser);

    server.kill9().await;
    for path in ["/login/ada", "/cycle", "/count/n", "/logout"] {
        let mut copy = browser.clone();
        assert_eq!(copy.post(path).await.status, meanwhile, "{path}");
        secrets.learn(&copy);
    }
    server.start_again().await;
    let mut browser = browser.stranger();
    eventually("another session", async || {
        browser.post("/count/n").await.status == 200
    })
    .await;
    fill(&mut browser).await;
    secrets.learn(&browser);
}

async fn locked_redis() -> Server {
    Server::start_with(Kind::Redis, &["--requirepass", PASSWORD]).await
}

fn url_of(server: &Server) -> String {
    format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port())
}

impl Log {
    async fn tells(&self, what: &str) {
        eventually(what, async || self.text().contains(what)).await;
    }
}

async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !ask().await {
        assert!(started.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
