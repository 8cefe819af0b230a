//! The same over servers, of which drivers and caches have something to tell as well.

use std::{sync::Arc, time::Duration};

use tower_keep::{
    CachedStore, MemcachedStore, MemoryStore, RedisCache, RedisStore, SessionLayer, SessionStore,
};
use tower_keep_servers::{Kind, Server};

use crate::{
    Secrets, confessing, fill,
    log::Log,
    support::{Browser, PATIENCE, new_table, postgres_at, router},
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
    let store = store.with_timeout(PATIENCE);
    let cache = store.near_cache().await.unwrap();
    let cached = |limit| CachedStore::new(cache.clone(), store.clone().with_timeout(limit));
    outlives_an_outage(&server, [PATIENCE, HASTE].map(cached), 503, secrets).await;
    log.tells("the near cache is connected again").await;
    // Of one that does not know the password.
    let wrong = url_of(&server).replace(PASSWORD, &format!("{PASSWORD}-not"));
    let layer = SessionLayer::new(RedisStore::open(&wrong).unwrap());
    let mut browser = Browser::new(&confessing(router(), layer));
    assert_eq!(browser.post("/login/ada").await.status, 503);
}

async fn on_postgres(log: &Log, secrets: &mut Secrets) {
    let server = Server::start(Kind::Postgres).await;
    let table = new_table();
    let stores = [PATIENCE, HASTE].map(|limit| postgres_at(&server.url(), &table, limit));
    stores[0].migrate().await.unwrap();
    stores[0].migrate_notifications().await.unwrap();
    let cache = stores[0].near_cache().await.unwrap();
    let cached = stores.map(|store| CachedStore::new(cache.clone(), store));
    outlives_an_outage(&server, cached, 503, secrets).await;
    log.tells("the cache hears of writes again").await;
}

async fn on_memcached(secrets: &mut Secrets) {
    let server = Server::start(Kind::Memcached).await;
    let store = MemcachedStore::open(&server.url()).unwrap();
    let stores = [PATIENCE, HASTE].map(|limit| store.clone().with_timeout(limit));
    outlives_an_outage(&server, stores, 503, secrets).await;
}

/// A shared cache whose server is lost.
async fn before_memory(log: &Log, secrets: &mut Secrets) {
    let server = locked_redis().await;
    let cache = RedisCache::open(&url_of(&server)).unwrap();
    let store = Arc::new(MemoryStore::new());
    let stores = [PATIENCE, HASTE].map(|limit| {
        let cached = CachedStore::new(cache.clone().with_timeout(limit), Arc::clone(&store));
        cached.with_cache_timeout(limit)
    });
    outlives_an_outage(&server, stores, 200, secrets).await;
    log.tells("the session cache failed").await;
}

/// Fills a session, kills the server, asks for everything, and goes on when it is back.
async fn outlives_an_outage<S: SessionStore>(
    server: &Server,
    [patient, hasty]: [S; 2],
    meanwhile: u16,
    secrets: &mut Secrets,
) {
    let over = |store, limit| {
        let layer = SessionLayer::new(store).with_store_timeout(limit);
        Browser::new(&confessing(router(), layer))
    };
    let mut browser = over(patient, PATIENCE);
    browser.post("/count/n").await.assert_ok();
    secrets.learn(&browser);
    fill(&mut browser).await;
    secrets.learn(&browser);
    browser.post("/cycle").await.assert_ok();
    secrets.learn(&browser);

    server.kill9().await;
    let away = over(hasty, HASTE * 2).with_id_of(&browser);
    for path in ["/login/ada", "/cycle", "/count/n", "/logout"] {
        let mut copy = away.clone();
        assert_eq!(copy.post(path).await.status, meanwhile, "{path}");
        secrets.learn(&copy);
    }
    server.start_again().await;
    let mut browser = browser.stranger();
    browser.post("/count/n").await.assert_ok();
    secrets.learn(&browser);
    fill(&mut browser).await;
    secrets.learn(&browser);
}

async fn locked_redis() -> Server {
    Server::start_with(Kind::Redis, &["--requirepass", PASSWORD]).await
}

fn url_of(server: &Server) -> String {
    format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port())
}
