//! What servers hear of a request whose session is in a cache.

use std::{sync::Arc, time::Instant};

use tower_keep::{CachedStore, RedisCache};
use tower_keep_servers::Kind;

use crate::{
    redis_commands::Monitor,
    redis_places::{Place, Which},
    sql_statements::Scene,
    support::{Browser, PATIENCE, app, layer_over},
};

/// The verbs of what a server has heard since the last call.
async fn verbs(monitor: &mut Monitor<'_>, text: &str) -> Vec<String> {
    let commands = monitor.take(text).await;
    let verb = |command: &String| command.split('"').nth(1).unwrap().to_uppercase();
    commands.iter().map(verb).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_near_cache_redis_hears_of_changes_alone() {
    let place = Place::own(Which::Single).await;
    let store = place.store();
    let cache = store.near_cache().await.unwrap();
    let layer = layer_over(CachedStore::new(cache, store));
    let mut browser = Browser::new(&app(layer));
    let mut monitor = Monitor::new(&place.primaries()[0]).await;
    // From here on the server knows the scripts.
    browser.post("/put/cart/book").await.assert_ok();
    browser.post("/put/cart/full").await.assert_ok();
    browser.clone().post("/logout").await.assert_ok();
    browser.post("/put/cart/book").await.assert_ok();

    let reads = async || {
        for _ in 0..5 {
            assert_eq!(browser.clone().get("/get/cart").await.body, r#""book""#);
        }
    };
    // The news of its own writes may come behind the first reads.
    let began = Instant::now();
    while {
        monitor.take(&place.prefix).await;
        reads().await;
        !verbs(&mut monitor, &place.prefix).await.is_empty()
    } {
        assert!(began.elapsed() < PATIENCE, "it is never hot");
    }
    browser.post("/put/cart/full").await.assert_ok();
    assert_eq!(verbs(&mut monitor, &place.prefix).await, ["EVALSHA"]);
    browser.post("/logout").await.assert_ok();
    assert_eq!(verbs(&mut monitor, &place.prefix).await, ["EVALSHA"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_in_front_postgres_hears_of_changes_alone() {
    let mut scene = Scene::new(Kind::Postgres, false).await;
    let place = Place::own(Which::Single).await;
    let cache = RedisCache::open(&place.url()).unwrap();
    let cache = cache.with_prefix(&*place.prefix).with_timeout(PATIENCE);
    let store = CachedStore::new(cache, Arc::clone(&scene.store));
    let store = store.with_cache_timeout(PATIENCE);
    let mut browser = Browser::new(&app(layer_over(store)));
    let mut monitor = Monitor::new(&place.primaries()[0]).await;
    browser.post("/put/cart/book").await.assert_ok();
    browser.get("/get/cart").await.assert_ok();
    browser.post("/put/cart/full").await.assert_ok();
    browser.get("/get/cart").await.assert_ok();
    monitor.take(&place.prefix).await;
    scene.verbs().await;

    for _ in 0..5 {
        browser.get("/get/cart").await.assert_ok();
        assert_eq!(verbs(&mut monitor, &place.prefix).await, ["GET"]);
    }
    assert_eq!(scene.verbs().await, [""; 0]);
    browser.post("/put/cart/book").await.assert_ok();
    assert_eq!(verbs(&mut monitor, &place.prefix).await, ["GET", "EVALSHA"]);
    assert_eq!(scene.verbs().await, ["UPDATE"]);
    browser.post("/logout").await.assert_ok();
    assert_eq!(verbs(&mut monitor, &place.prefix).await, ["DEL"]);
    assert_eq!(scene.verbs().await, ["DELETE"]);
}
