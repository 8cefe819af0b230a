//! Sessions in Redis, for any number of processes: a counter, login and logout, a list of one's devices.
//!
//! ```console
//! $ redis-server --port 6379 --save '' &
//! $ cargo run --features redis --example redis &
//! $ site=http://localhost:3000
//! $ curl -c laptop -A Laptop -d user=ada $site/login
//! $ curl -c phone -A Phone -d user=ada $site/login
//! $ curl -b laptop $site/
//! visits: 1
//! $ curl -b laptop $site/devices
//! Laptop (this one)
//! Phone
//! $ curl -b laptop -X POST $site/devices/end-others
//! ended: 1
//! $ curl -c laptop -b laptop -X POST $site/logout
//! ```
//!
//! Another Redis is named by the first argument, or else by `REDIS_URL`: `redis+sentinel://a:26379,b:26379/NAME` is the
//! primary that Sentinels know by that name, `redis+cluster://a:6379,b:6379` a cluster, found by some of its nodes.
//!
//! It starts even when Redis is away, and answers 503 until it is back.

use std::{env, error::Error as StdError};

use axum::{
    Form, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header::USER_AGENT};
use serde::Deserialize;
use tower_keep::{Error, LazySession, RedisStore, Session, SessionLayer, UserId, UserSessions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let url = env::args().nth(1).or_else(|| env::var("REDIS_URL").ok());
    let store = RedisStore::open(url.as_deref().unwrap_or("redis://127.0.0.1:6379"))?;
    let sessions = SessionLayer::new(store.clone());
    let app = Router::new()
        .route("/", get(counter))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/devices", get(devices))
        .route("/devices/end-others", post(end_others))
        .with_state(store)
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
    Ok(format!("visits: {visits}\n"))
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// Asks for no password: the example `login` shows how.
async fn login(
    session: Session,
    headers: HeaderMap,
    form: Form<Login>,
) -> Result<StatusCode, Error> {
    let Some(user) = UserId::parse(&form.user) else {
        return Ok(StatusCode::BAD_REQUEST);
    };
    session.login(user)?;
    let text = headers.get(USER_AGENT).and_then(|name| name.to_str().ok());
    let user_agent = text.map(|text| text.chars().take(USER_AGENT_LEN_MAX).collect::<String>());
    session.insert("user_agent", user_agent)?;
    Ok(StatusCode::OK)
}

async fn logout(session: LazySession) -> Result<(), Error> {
    session.flush()
}

async fn devices(session: Session, store: State<RedisStore>) -> Result<Response, Error> {
    let Some(user) = session.user() else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    let mut list = String::new();
    for stored in store.sessions_of(&user).await? {
        // Data that cannot be read hides no device.
        let user_agent: Option<String> = stored.get("user_agent").unwrap_or_default();
        list += user_agent.as_deref().unwrap_or("an unknown device");
        let is_this = session.record_id() == Some(stored.id);
        list += if is_this { " (this one)\n" } else { "\n" };
    }
    Ok(list.into_response())
}

async fn end_others(session: Session, store: State<RedisStore>) -> Result<Response, Error> {
    let Some(user) = session.user() else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    let this = session.record_id();
    let ended = store.delete_all_of(&user, this.as_ref()).await?;
    Ok(format!("ended: {}\n", ended.len()).into_response())
}

/// Longer than those of browsers, and too short to fill a session of 64 KiB.
const USER_AGENT_LEN_MAX: usize = 256;
