//! Sessions in the cookies of the client: a counter, login, logout, and logout everywhere.
//!
//! ```console
//! $ cargo run --features cookie --example cookie &
//! SESSION_SECRET is not set: made one, and sessions end with this process
//! listening on http://localhost:3000
//! $ site=http://localhost:3000
//! $ curl -c jar -b jar $site/
//! visits: 1
//! $ curl -c jar -b jar -d user=ada $site/login
//! $ curl -c jar -b jar $site/
//! visits of ada: 2
//! $ curl -c jar -b jar -X POST $site/logout_everywhere
//! $ curl -c jar -b jar $site/
//! visits: 1
//! ```
//!
//! With the secret in the environment the sessions survive a restart, and are good on every machine that has it. The
//! second variable is the secret of before, if it was changed: what it has sealed is still opened.
//!
//! What was ended is kept in the memory of this process here. With several, or if a restart must not bring ended
//! sessions back, keep it in a database: `with_revocations(PostgresStore::new(pool))`.

use std::{env, error::Error as StdError};

use axum::{
    Form, Router,
    extract::State,
    routing::{get, post},
};
use http::StatusCode;
use serde::Deserialize;
use tower_keep::{
    CookieStore, Error, Keyring, LazySession, MemoryStore, Revocable, Session, SessionLayer, UserId,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let cookies = CookieStore::encrypted(&keyring()?).with_revocations(MemoryStore::new());
    let sessions = SessionLayer::new(cookies.clone());
    let app = Router::new()
        .route("/", get(counter))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/logout_everywhere", post(logout_everywhere))
        .with_state(cookies)
        .layer(sessions.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000");
    axum::serve(listener, app)
        .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
        .await?;
    // What requests have begun to end is ended.
    sessions.drain().await;
    Ok(())
}

fn keyring() -> Result<Keyring, Box<dyn StdError>> {
    let Ok(secret) = env::var("SESSION_SECRET") else {
        println!("SESSION_SECRET is not set: made one, and sessions end with this process");
        return Ok(Keyring::new(Keyring::generate_secret()?)?);
    };
    let keyring = Keyring::new(secret)?;
    Ok(match env::var("SESSION_SECRET_BEFORE") {
        Ok(before) => keyring.with_retired(before)?,
        Err(_) => keyring,
    })
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

async fn logout_everywhere(
    session: Session,
    State(cookies): State<CookieStore<Revocable>>,
) -> Result<(), Error> {
    if let Some(user) = session.user() {
        cookies.delete_all_of(&user, None).await?;
    }
    session.flush()
}
