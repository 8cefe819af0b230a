//! Counts the visits of each visitor.

use axum::{Router, routing::get};
use tower_keep::{Error, MemoryStore, Session, SessionLayer};

async fn counter(session: Session) -> Result<String, Error> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(format!("visits: {visits}\n"))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sessions = SessionLayer::new(MemoryStore::new());
    let app = Router::new().route("/", get(counter)).layer(sessions);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000");
    axum::serve(listener, app).await
}
