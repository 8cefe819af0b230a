//! Sessions in PostgreSQL, read from a cache: from one in this process that PostgreSQL keeps true, or from a Redis that all
//! processes share.
//!
//! ```console
//! $ createdb sessions
//! $ cargo run --features postgres,redis --example cached -- postgres://localhost/sessions &
//! $ curl -c jar -b jar http://localhost:3000/
//! visits: 1
//! $ curl -c jar -b jar http://localhost:3000/look
//! visits: 1
//! ```
//!
//! With the address of a Redis behind it, that is the cache: `… postgres://localhost/sessions redis://127.0.0.1:6379`.
//!
//! `/` changes the session: one statement. `/look` reads it, and asks nobody, or Redis alone. What another process writes or
//! ends, this one reads after one message; the page `tower_keep::manual::coherence` tells what happens when that is lost.

use std::{env, error::Error as StdError, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use sqlx::postgres::PgPoolOptions;
use tower_keep::{
    CachedStore, Error, LazySession, PostgresStore, RedisCache, Session, SessionLayer, Sweeper,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (database, redis) = match &arguments[..] {
        [database] => (database, None),
        [database, redis] => (database, Some(redis)),
        _ => return Err("usage: cached postgres://… [redis://…]".into()),
    };
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_secs(1))
        .connect(database)
        .await?;
    let store = PostgresStore::new(pool);
    store.migrate().await?;
    let _sweeping = Sweeper::new(store.clone()).every(Duration::from_secs(600));
    let sessions = if let Some(url) = redis {
        SessionLayer::new(CachedStore::new(RedisCache::open(url)?, store))
    } else {
        store.migrate_notifications().await?;
        SessionLayer::new(CachedStore::new(store.near_cache().await?, store))
    };
    let app = Router::new()
        .route("/", get(visit))
        .route("/look", get(look))
        .route("/logout", post(logout))
        .layer(sessions.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000");
    axum::serve(listener, app)
        .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
        .await?;
    // What requests have begun to write is written.
    sessions.drain().await;
    Ok(())
}

async fn visit(session: Session) -> Result<String, Error> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(format!("visits: {visits}\n"))
}

async fn look(session: Session) -> Result<String, Error> {
    let visits = session.get::<u64>("visits")?;
    Ok(format!("visits: {}\n", visits.unwrap_or(0)))
}

async fn logout(session: LazySession) -> Result<(), Error> {
    session.flush()
}
