//! tower-sessions with its memory store.

use axum::{Router, extract::Path, routing::get};
use tower_keep_harness::preferences;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer, session::Error};

pub fn router() -> Router {
    Router::new()
        .route("/ignored", get(async || "ignored"))
        .route("/read", get(read))
        .route("/increment", get(increment))
        .route("/fill/{keys}", get(fill))
        .layer(SessionManagerLayer::new(MemoryStore::default()))
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

async fn fill(session: Session, Path(keys): Path<usize>) {
    let filled: Result<(), Error> = async {
        session.insert("visits", 0).await?;
        for (key, value) in preferences(keys) {
            session.insert(&key, value).await?;
        }
        Ok(())
    }
    .await;
    filled.expect("room");
}
