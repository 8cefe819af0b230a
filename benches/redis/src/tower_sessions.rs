//! tower-sessions over its Redis store, which uses the client fred; also with its cache in the process, over moka.

use axum::{Router, routing::get};
use tower_sessions::{
    CachingSessionStore, Session, SessionManagerLayer, SessionStore, session::Error,
};
use tower_sessions_moka_store::MokaStore;
use tower_sessions_redis_store::{RedisStore, fred::prelude::*};

use crate::profile::PROFILE;

pub async fn router(redis_url: &str) -> Router {
    router_over(store(redis_url).await)
}

pub async fn router_with_moka(redis_url: &str) -> Router {
    let cache = MokaStore::new(Some(CACHED_MAX));
    router_over(CachingSessionStore::new(cache, store(redis_url).await))
}

async fn store(redis_url: &str) -> RedisStore<Pool> {
    let config = Config::from_url(redis_url).expect("an address");
    let pool = Pool::new(config, None, None, None, CONNECTIONS).expect("a pool");
    pool.connect();
    pool.wait_for_connect().await.expect("Redis");
    RedisStore::new(pool)
}

fn router_over(store: impl SessionStore + Clone) -> Router {
    Router::new()
        .route("/login", get(login))
        .route("/untouched", get(async || "untouched"))
        .route("/read", get(read))
        .route("/increment", get(increment))
        .layer(SessionManagerLayer::new(store).with_secure(false))
}

async fn login(session: Session) {
    let filled: Result<(), Error> = async {
        session.insert("visits", 0).await?;
        session.insert("profile", PROFILE).await
    }
    .await;
    filled.expect("room");
}

async fn read(session: Session) -> String {
    let visits: Option<u64> = session.get("visits").await.expect("a number");
    visits.unwrap_or(0).to_string()
}

async fn increment(session: Session) -> String {
    let visits: Option<u64> = session.get("visits").await.expect("a number");
    let visits = visits.unwrap_or(0) + 1;
    session.insert("visits", visits).await.expect("room");
    visits.to_string()
}

/// fred sends the commands of all callers over one connection, without waiting for replies before the next. Four
/// were no faster.
const CONNECTIONS: usize = 1;

/// Sessions, more than there are.
const CACHED_MAX: u64 = 100_000;
