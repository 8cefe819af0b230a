//! axum_session with its in-memory sessions (the null pool).

use axum::{Router, extract::Path, routing::get};
use axum_session::{Session, SessionConfig, SessionLayer, SessionNullPool, SessionStore};
use tower_keep_harness::preferences;

pub async fn router() -> Router {
    let store = SessionStore::<SessionNullPool>::new(None, SessionConfig::default()).await;
    Router::new()
        .route("/ignored", get(async || "ignored"))
        .route("/read", get(read))
        .route("/increment", get(increment))
        .route("/fill/{keys}", get(fill))
        .layer(SessionLayer::new(store.expect("a store")))
}

async fn read(session: Session<SessionNullPool>) -> String {
    let visits: Option<u64> = session.get("visits");
    visits.unwrap_or(0).to_string()
}

async fn increment(session: Session<SessionNullPool>) -> String {
    let visits = session.get::<u64>("visits").unwrap_or(0) + 1;
    session.set("visits", visits);
    visits.to_string()
}

async fn fill(session: Session<SessionNullPool>, Path(keys): Path<usize>) {
    session.set("visits", 0);
    for (key, value) in preferences(keys) {
        session.set(&key, value);
    }
}
