//! Login, logout, "remember me", and who is there.
//!
//! ```sh
//! curl -c jar -b jar -d user=ada -d password=lovelace -d remember=on localhost:3000/login
//! curl -c jar -b jar localhost:3000/
//! curl -c jar -b jar -X POST localhost:3000/logout
//! ```

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Form, Router,
    extract::State,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::StatusCode;
use serde::Deserialize;
use tower_keep::{Error, Expiry, LazySession, MemoryStore, Session, SessionLayer};

/// The users of this example, with the hashes of their passwords.
#[derive(Clone)]
struct Users(Arc<HashMap<&'static str, String>>);

impl Users {
    fn new() -> Self {
        let users = [("ada", "lovelace"), ("grace", "hopper")];
        let hashed = users.map(|(name, password)| (name, password_auth::generate_hash(password)));
        Self(Arc::new(HashMap::from(hashed)))
    }

    /// Takes as long for a user who does not exist: the time tells nobody who does.
    async fn verify(&self, login: &Login) -> bool {
        let known = self.0.get(&*login.user).cloned();
        let hash = known.clone().or_else(|| self.0.values().next().cloned());
        let password = login.password.clone();
        // Checking a password is work for a thread, not for the runtime.
        let fits = tokio::task::spawn_blocking(move || {
            hash.is_some_and(|hash| password_auth::verify_password(password, &hash).is_ok())
        });
        fits.await.unwrap_or(false) && known.is_some()
    }
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
    remember: Option<String>,
}

async fn home(session: Option<Session>) -> Result<Html<String>, Error> {
    let Some(session) = session else {
        return Ok(Html(LOGIN_FORM.to_owned()));
    };
    let visits: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    let user = session
        .user()
        .map_or("nobody".to_owned(), |user| user.to_string());
    let hours = session.expires_in().as_secs() / 3600;
    Ok(Html(format!(
        "<p>You are {user}, for the {visits}. time, for {hours} more hours at least.</p>\n\
         <form method=post action=/logout><button>Log out</button></form>\n"
    )))
}

async fn login(
    session: Session,
    State(users): State<Users>,
    Form(login): Form<Login>,
) -> Result<Response, Error> {
    if !users.verify(&login).await {
        let answer = (StatusCode::UNAUTHORIZED, "wrong user or password\n");
        return Ok(answer.into_response());
    }
    session.login(&login.user)?;
    match login.remember {
        Some(_) => session.set_expiry(Expiry::Idle(REMEMBERED))?,
        None => session.set_expiry(Expiry::BrowserClose)?,
    }
    Ok(Redirect::to("/").into_response())
}

/// Asks the store for one thing: to delete the session.
async fn logout(session: LazySession) -> Result<Redirect, Error> {
    session.flush()?;
    Ok(Redirect::to("/"))
}

async fn whoami(session: Option<Session>) -> Result<String, StatusCode> {
    let user = session.and_then(|session| session.user());
    let user = user.ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(format!("{user}\n"))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sessions = SessionLayer::new(MemoryStore::new())
        .with_cookie_name("login")
        .with_idle_timeout(Duration::from_secs(30 * 60));
    let app = Router::new()
        .route("/", get(home))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/whoami", get(whoami))
        .with_state(Users::new())
        .layer(sessions.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000");
    axum::serve(listener, app)
        .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
        .await?;
    sessions.drain().await;
    Ok(())
}

const REMEMBERED: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const LOGIN_FORM: &str = "\
<form method=post action=/login>
  <input name=user placeholder=ada> <input name=password type=password placeholder=lovelace>
  <label><input name=remember type=checkbox> remember me</label> <button>Log in</button>
</form>
";
