//! The devices on which a user is signed in: a list, a button to end each, one to end all others.

use std::{
    cmp::Reverse,
    time::{Duration, SystemTime},
};

use axum::{
    Form,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, StatusCode, header::USER_AGENT};
use serde::{Deserialize, Serialize};
use tower_keep::{Error, RecordId, Session, StoredSession, Timestamp};

use super::{
    App,
    device_name::device_name,
    flash,
    page::{Page, Text},
};

/// What a session keeps for the list, from its sign-in on. The rest is in every record: when it began, which is its last
/// sign-in, and when it ends.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Device {
    user_agent: String,
    /// How long the session lives unused.
    idle: Duration,
}

impl Device {
    /// Under which key a session keeps it.
    pub(crate) const KEY: &str = "device";

    pub(crate) fn new(headers: &HeaderMap, idle: Duration) -> Self {
        let header = headers.get(USER_AGENT);
        // Of ASCII alone, or nothing.
        let text = header
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let user_agent = text.chars().take(USER_AGENT_LEN_MAX).collect();
        Self { user_agent, idle }
    }
}

pub(crate) async fn list(session: Session, State(app): State<App>) -> Result<Response, Error> {
    let Some(user) = session.user() else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    let main = match app.user_sessions {
        None => NO_LIST.to_owned(),
        Some(store) => {
            let mut sessions = store.sessions_of(&user).await?;
            sessions.sort_by_key(|stored| Reverse(stored.record.created_at));
            let now = Timestamp::from(SystemTime::now());
            let this = session.record_id();
            let items: String = sessions.iter().map(|s| item(s, this, now)).collect();
            let end_others = match sessions.len() {
                0 | 1 => "",
                _ => END_OTHERS_FORM,
            };
            format!("<ul class=devices>\n{items}</ul>\n{end_others}")
        }
    };
    Ok(Page::of(&session)?
        .html("Your devices", &main)
        .into_response())
}

#[derive(Deserialize)]
pub(crate) struct End {
    device: String,
}

/// Ends one session of the user who asks.
pub(crate) async fn end(
    session: Session,
    State(app): State<App>,
    Form(form): Form<End>,
) -> Result<Response, Error> {
    let (Some(user), Some(store)) = (session.user(), app.user_sessions) else {
        return Ok(Redirect::to("/devices").into_response());
    };
    // The id is no secret, so that to know it proves nothing: it is looked for among the user's own.
    let own = store.sessions_of(&user).await?;
    let named = own.iter().find(|stored| stored.id.to_hex() == form.device);
    let Some(StoredSession { id, .. }) = named else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    if session.record_id() == Some(*id) {
        session.flush()?; // as a sign-out, which also removes the cookie
    } else {
        store.delete(id).await?;
        flash::say(&session, "One device is signed out.".to_owned())?;
    }
    Ok(Redirect::to("/devices").into_response())
}

/// Ends all sessions of the user but the one that asks.
pub(crate) async fn end_others(
    session: Session,
    State(app): State<App>,
) -> Result<Redirect, Error> {
    if let (Some(user), Some(store)) = (session.user(), app.user_sessions) {
        let this = session.record_id();
        let ended = store.delete_all_of(&user, this.as_ref()).await?;
        flash::say(&session, format!("Signed out elsewhere: {}.", ended.len()))?;
    }
    Ok(Redirect::to("/devices"))
}

fn item(stored: &StoredSession, this: Option<RecordId>, now: Timestamp) -> String {
    // What can not be read, such as data of an older version, can still be ended.
    let device: Option<Device> = stored.get(Device::KEY).unwrap_or_default();
    let Device { user_agent, idle } = device.unwrap_or_default();
    let name = match user_agent.as_str() {
        "" => "An unknown device".to_owned(),
        user_agent => device_name(user_agent),
    };
    let since = rounded_up(now.duration_since(stored.record.created_at));
    let unused = idle.saturating_sub(stored.record.expires_at.duration_since(now));
    let seen = rounded_up(unused);
    let end = match this == Some(stored.id) {
        true => "<em>this device</em>".to_owned(),
        false => end_form(&stored.id),
    };
    format!(
        "<li class=card><div><b>{}</b>\n<p>signed in {since} ago, seen in the last {seen}</p>\n\
        <p class=quiet>{}</p></div>{end}</li>\n",
        Text(&name),
        Text(&user_agent)
    )
}

fn end_form(id: &RecordId) -> String {
    let id = id.to_hex();
    format!(
        "<form method=post action=/devices/end><button name=device value={id}>End</button></form>"
    )
}

/// As much of a duration as people want to know, and not less than it is.
fn rounded_up(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let (unit, name) = if seconds <= HOUR {
        (MINUTE, "min")
    } else if seconds <= DAY {
        (HOUR, "h")
    } else {
        (DAY, "d")
    };
    format!("{} {name}", seconds.div_ceil(unit))
}

/// Longer than those of browsers, and too short to fill a session of 64 KiB.
const USER_AGENT_LEN_MAX: usize = 256;

const NO_LIST: &str = "\
<p>The store of this demo finds a session by its cookie alone, not by its user: memcached keeps no index. So there is \
no list here, and nothing to end others with. Every other store has one.</p>
";

const END_OTHERS_FORM: &str = "\
<form method=post action=/devices/end-others><button>End all others</button></form>
";

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
