//! Signing in and out.

use std::time::Duration;

use axum::{
    Form,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tower_keep::{Error, Expiry, LazySession, Session};

use super::{
    App, Users,
    devices::Device,
    flash,
    page::{Page, Text},
};

/// For those who do not want to be remembered: a break, but not a night.
pub(crate) const IDLE: Duration = Duration::from_secs(30 * 60);

const REMEMBERED: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Begins no session for who has none.
pub(crate) async fn form(session: Option<Session>) -> Result<Response, Error> {
    let Some(session) = session else {
        return Ok(page(&Page::default(), "", ""));
    };
    if session.user().is_some() {
        return Ok(Redirect::to("/").into_response());
    }
    Ok(page(&Page::of(&session)?, "", ""))
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    user: String,
    password: String,
    remember: Option<String>,
}

pub(crate) async fn sign_in(
    session: Session,
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<SignIn>,
) -> Result<Response, Error> {
    if !app.users.verify(&form.user, form.password).await {
        let again = page(&Page::default(), &form.user, WRONG);
        return Ok((StatusCode::UNAUTHORIZED, again).into_response());
    }
    let (expiry, idle) = match form.remember {
        Some(_) => (Expiry::Idle(REMEMBERED), REMEMBERED),
        None => (Expiry::BrowserClose, IDLE),
    };
    // A new id; what is in the cart stays there.
    session.login(&form.user)?;
    session.set_expiry(expiry)?;
    session.insert(Device::KEY, Device::new(&headers, idle))?;
    flash::say(&session, format!("Welcome, {}.", form.user))?;
    Ok(Redirect::to("/").into_response())
}

/// Asks the store for one thing: to delete the session.
pub(crate) async fn sign_out(session: LazySession) -> Result<Redirect, Error> {
    session.flush()?;
    Ok(Redirect::to("/sign-in"))
}

fn page(page: &Page, user: &str, wrong: &str) -> Response {
    let user = Text(user);
    let users = Users::ALL
        .map(|(name, password)| format!("<li><b>{name}</b>, password <b>{password}</b></li>\n"));
    let users = users.concat();
    let main = format!(
        "{wrong}<form method=post action=/sign-in class=card>\n\
        <label>Name <input name=user value=\"{user}\" autocomplete=username autocapitalize=none required></label>\n\
        <label>Password <input name=password type=password autocomplete=current-password required></label>\n\
        <label class=check><input name=remember type=checkbox> Remember me for two weeks</label>\n\
        <button>Sign in</button>\n\
        </form>\n\
        <p>This is a demo. Its users are:</p>\n<ul>\n{users}</ul>\n"
    );
    page.html("Sign in", &main).into_response()
}

const WRONG: &str = "<p class=wrong role=alert>Wrong name or password.</p>\n";
