//! axum_session over its Redis store, which uses `redis` and `redis_pool`.
//!
//! With a memory lifetime of zero a session is in the process only while a request is under way, so that its processes
//! agree, as those of the other contenders do. All else is as by default.

use axum::{Router, routing::get};
use axum_session::{Session, SessionConfig, SessionLayer, SessionStore};
use axum_session_redispool::SessionRedisPool;
use redis_pool::SingleRedisPool;
use time::Duration;

use crate::profile::PROFILE;

pub async fn router(redis_url: &str) -> Router {
    let client = redis::Client::open(redis_url).expect("an address");
    let pool = SingleRedisPool::from(client).into();
    let config = SessionConfig::default().with_memory_lifetime(Duration::ZERO);
    let store = SessionStore::<SessionRedisPool>::new(Some(pool), config).await;
    Router::new()
        .route("/login", get(login))
        .route("/untouched", get(async || "untouched"))
        .route("/read", get(read))
        .route("/increment", get(increment))
        .layer(SessionLayer::new(store.expect("a store")))
}

async fn login(session: Session<SessionRedisPool>) {
    session.set("visits", 0);
    session.set("profile", PROFILE);
}

async fn read(session: Session<SessionRedisPool>) -> String {
    let visits: Option<u64> = session.get("visits");
    visits.unwrap_or(0).to_string()
}

async fn increment(session: Session<SessionRedisPool>) -> String {
    let visits = session.get::<u64>("visits").unwrap_or(0) + 1;
    session.set("visits", visits);
    visits.to_string()
}
