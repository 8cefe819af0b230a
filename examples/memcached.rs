//! Sessions in memcached, in one node or spread over several: a counter, login and logout.
//!
//! ```console
//! $ memcached -p 11211 -l 127.0.0.1 &
//! $ memcached -p 11212 -l 127.0.0.1 &
//! $ cargo run --features memcached --example memcached memcached://127.0.0.1:11211,127.0.0.1:11212 &
//! $ site=http://localhost:3000
//! $ curl -c jar -b jar $site/
//! visits: 1
//! $ curl -c jar -b jar -d user=ada $site/login
//! $ curl -c jar -b jar $site/
//! visits of ada: 2
//! $ curl -c jar -b jar -X POST $site/logout
//! $ curl -c jar -b jar $site/
//! visits: 1
//! ```
//!
//! The first argument names the nodes. It starts even when they are away, and answers 503 until they are back.
//!
//! When memcached needs the room or is restarted, people are logged out. It cannot find the sessions of a user: for a
//! list of one's devices see the examples `redis` and `login`.

use std::{env, error::Error as StdError};

use axum::{
    Form, Router,
    routing::{get, post},
};
use http::StatusCode;
use serde::Deserialize;
use tower_keep::{Error, LazySession, MemcachedStore, Session, SessionLayer, UserId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let nodes = env::args().nth(1);
    let store = MemcachedStore::open(nodes.as_deref().unwrap_or("memcached://127.0.0.1:11211"))?;
    let sessions = SessionLayer::new(store);
    let app = Router::new()
        .route("/", get(counter))
        .route("/login", post(login))
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

async fn counter(session: Session) -> Result<String, Error> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    let whose = session.user().map(|user| format!(" of {user}"));
    Ok(format!("visits{}: {visits}\n", whose.unwrap_or_default()))
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// Asks for no password: the example `login` shows how.
async fn login(session: Session, form: Form<Login>) -> Result<StatusCode, Error> {
    let Some(user) = UserId::parse(&form.user) else {
        return Ok(StatusCode::BAD_REQUEST);
    };
    session.login(user)?;
    Ok(StatusCode::OK)
}

async fn logout(session: LazySession) -> Result<(), Error> {
    session.flush()
}
