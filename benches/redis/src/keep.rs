//! tower-keep over its Redis store, which uses the crate `redis`; also with a cache in the process that Redis tells of
//! what others write.

use axum::{Router, routing::get};
use tower_keep::{CachedStore, Error, IntoBackend, RedisStore, Session, SessionLayer};

use crate::profile::PROFILE;

pub fn router(redis_url: &str) -> Router {
    router_over(RedisStore::open(redis_url).expect("an address"))
}

pub async fn router_with_near_cache(redis_url: &str) -> Router {
    let store = RedisStore::open(redis_url).expect("an address");
    // Of its own: it would be told of what the contender without a cache writes, and take time from it.
    let store = store.with_prefix("near");
    let cache = store.near_cache().await.expect("Redis");
    router_over(CachedStore::new(cache, store))
}

fn router_over(store: impl IntoBackend) -> Router {
    Router::new()
        .route("/login", get(login))
        .route("/untouched", get(async || "untouched"))
        .route("/read", get(read))
        .route("/increment", get(increment))
        .layer(SessionLayer::new(store).with_insecure_http())
}

async fn login(session: Session) -> Result<(), Error> {
    session.insert("visits", 0)?;
    session.insert("profile", PROFILE)
}

async fn read(session: Session) -> Result<String, Error> {
    let visits: Option<u64> = session.get("visits")?;
    Ok(visits.unwrap_or(0).to_string())
}

async fn increment(session: Session) -> Result<String, Error> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(visits.to_string())
}
