//! tower-keep with any store; also a module of `benches/peers` and `benches/cookies`.

use axum::{Router, extract::Path, routing::get};
use tower_keep::{Error, IntoBackend, Session, SessionLayer};
use tower_keep_harness::preferences;

pub(crate) fn router(store: impl IntoBackend) -> Router {
    Router::new()
        .route("/ignored", get(async || "ignored"))
        .route("/read", get(read))
        .route("/increment", get(increment))
        .route("/fill/{keys}", get(fill))
        .layer(SessionLayer::new(store))
}

async fn read(session: Session) -> Result<String, Error> {
    let visits: Option<u64> = session.get("visits")?;
    Ok(visits.unwrap_or(0).to_string())
}

async fn increment(session: Session) -> Result<String, Error> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(visits.to_string())
}

async fn fill(session: Session, Path(keys): Path<usize>) -> Result<(), Error> {
    session.insert("visits", 0)?;
    session.extend(preferences(keys))
}
