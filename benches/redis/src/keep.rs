//! tower-keep over its Redis store, which uses the crate `redis`.

use axum::{Router, routing::get};
use tower_keep::{Error, RedisStore, Session, SessionLayer};

use crate::profile::PROFILE;

pub fn router(redis_url: &str) -> Router {
    let store = RedisStore::open(redis_url).expect("an address");
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
