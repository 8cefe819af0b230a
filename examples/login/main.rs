//! Login, logout, "remember me", and a list of one's devices with a button to end each of them.
//!
//! Sessions are in a file of SQLite, so that a restart logs nobody out. It lies beside the program,
//! or where the first argument says.
//!
//! ```console
//! $ cargo run --features sqlite --example login &
//! $ site=http://localhost:3000
//! $ curl -c laptop -A Laptop -d user=ada -d password=lovelace -d remember=on $site/login
//! $ curl -c phone -A Phone -d user=ada -d password=lovelace $site/login
//! $ kill -9 %1
//! $ cargo run --features sqlite --example login &
//! $ curl -b laptop $site/ | grep '<li>'
//! <li>Phone: login 1 min ago, used in the last 1 min, lives for 30 min unless used, <form …</li>
//! <li>Laptop: login 1 min ago, used in the last 1 min, lives for 14 d unless used, this device</li>
//! $ curl -b laptop -X POST $site/devices/end-others
//! $ curl -i -b phone $site/whoami
//! HTTP/1.1 401 Unauthorized
//! …
//! $ curl -b laptop $site/whoami
//! ada
//! $ curl -c laptop -b laptop -X POST $site/logout
//! ```
//!
//! The forms have no tokens: `SameSite=Lax` keeps the cookie out of what other sites post. It does not
//! keep them from posting a login of their own, nor neighbours under the same domain from anything: an
//! application that has to fear that adds tokens, or looks at `Sec-Fetch-Site`.

mod database;
mod devices;
#[cfg(test)]
mod tests;
mod users;

use std::{env, error::Error as StdError, path::PathBuf, time::Duration};

use axum::{
    Form, Router,
    extract::State,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tower_keep::{Error, Expiry, LazySession, Session, SessionLayer, SqliteStore, Sweeper};

use crate::{devices::Device, users::Users};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let file = match env::args_os().nth(1) {
        Some(file) => PathBuf::from(file),
        None => env::current_exe()?.with_extension("sqlite"),
    };
    let pool = database::open(&file).await?;
    let store = SqliteStore::new(pool.clone());
    store.migrate().await?;
    println!("sessions are in {}", file.display());

    let sweeping = Sweeper::new(store.clone()).every(SWEEP_PERIOD);
    let sessions = sessions(store.clone());
    let users = Users::new();
    let app = router(App { users, store }).layer(sessions.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000");
    axum::serve(listener, app)
        .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
        .await?;

    sessions.drain().await;
    sweeping.stop().await;
    pool.close().await;
    Ok(())
}

/// What the handlers share. The list of devices asks the store itself, beside the layer.
#[derive(Clone)]
struct App {
    users: Users,
    store: SqliteStore,
}

fn sessions(store: SqliteStore) -> SessionLayer {
    SessionLayer::new(store)
        .with_cookie_name("login")
        .with_idle_timeout(IDLE)
        .with_touch_after(LAST_USED_PRECISION)
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/devices/end", post(devices::end))
        .route("/devices/end-others", post(devices::end_others))
        .route("/whoami", get(whoami))
        .with_state(app)
}

async fn home(session: Session, State(app): State<App>) -> Result<Html<String>, Error> {
    let Some(user) = session.user() else {
        return Ok(Html(LOGIN_FORM.to_owned()));
    };
    let devices = devices::list(&app.store, &user, session.record_id()).await?;
    let user = devices::escape(user.as_str());
    Ok(Html(format!(
        "<p>You are {user}.</p>\n{devices}{LOGOUT_FORM}"
    )))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
    remember: Option<String>,
}

async fn login(
    session: Session,
    State(app): State<App>,
    headers: HeaderMap,
    Form(login): Form<Login>,
) -> Result<Response, Error> {
    if !app.users.verify(&login.user, login.password).await {
        let answer = (StatusCode::UNAUTHORIZED, "wrong user or password\n");
        return Ok(answer.into_response());
    }
    let (expiry, idle) = match login.remember {
        Some(_) => (Expiry::Idle(REMEMBERED), REMEMBERED),
        None => (Expiry::BrowserClose, IDLE),
    };
    session.login(&login.user)?;
    session.set_expiry(expiry)?;
    session.insert(Device::KEY, Device::new(&headers, idle))?;
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

/// For those who do not want to be remembered: a break, but not a night.
const IDLE: Duration = Duration::from_secs(30 * 60);

const REMEMBERED: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How exactly the list knows when a session was used. For that a session in use is written once in
/// that time; without it, once in a tenth of the idle time.
const LAST_USED_PRECISION: Duration = Duration::from_secs(60);

const SWEEP_PERIOD: Duration = Duration::from_secs(10 * 60);

const LOGIN_FORM: &str = "\
<form method=post action=/login>
  <input name=user placeholder=ada> <input name=password type=password placeholder=lovelace>
  <label><input name=remember type=checkbox> remember me</label> <button>Log in</button>
</form>
";

const LOGOUT_FORM: &str = "<form method=post action=/logout><button>Log out</button></form>\n";
