//! The devices on which a user is logged in: a list, a button to end each, one to end all others.

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
use tower_keep::{
    Error, RecordId, Session, SessionStore, SqliteStore, StoredSession, Timestamp, UserId,
    UserSessions,
};

use crate::App;

/// What a session keeps for the list, from its login on. The rest is in every record: when it
/// began, which is its last login, and when it ends.
#[derive(Serialize, Deserialize)]
pub(crate) struct Device {
    user_agent: Option<String>,
    /// How long the session lives unused.
    idle: Duration,
}

impl Device {
    /// Under which key a session keeps it.
    pub(crate) const KEY: &str = "device";

    pub(crate) fn new(headers: &HeaderMap, idle: Duration) -> Self {
        let header = headers.get(USER_AGENT);
        // Of ASCII alone, or `None`: it may be cut anywhere.
        let text = header.and_then(|value| value.to_str().ok());
        let user_agent = text.map(|text| text.chars().take(USER_AGENT_LEN_MAX).collect());
        Self { user_agent, idle }
    }
}

/// The list as HTML, the latest login first. `this` is the session that asks.
pub(crate) async fn list(
    store: &SqliteStore,
    user: &UserId,
    this: Option<RecordId>,
) -> Result<String, Error> {
    let mut sessions = store.sessions_of(user).await?;
    sessions.sort_by_key(|stored| Reverse(stored.record.created_at));
    let now = Timestamp::from(SystemTime::now());
    let items = sessions.iter().map(|stored| item(stored, this, now));
    let items: String = items.collect();
    Ok(format!("<ul>\n{items}</ul>\n{END_OTHERS_FORM}"))
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
    let Some(user) = session.user() else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    // The id is no secret, so that to know it proves nothing: it is looked for among the user's own.
    let own = app.store.sessions_of(&user).await?;
    let named = own.iter().find(|stored| stored.id.to_hex() == form.device);
    let Some(StoredSession { id, .. }) = named else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    if session.record_id() == Some(*id) {
        session.flush()?; // as a logout, which also removes the cookie
    } else {
        app.store.delete(id).await?;
    }
    Ok(Redirect::to("/").into_response())
}

/// Ends all sessions of the user but the one that asks.
pub(crate) async fn end_others(
    session: Session,
    State(app): State<App>,
) -> Result<Response, Error> {
    let Some(user) = session.user() else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    let this = session.record_id();
    app.store.delete_all_of(&user, this.as_ref()).await?;
    Ok(Redirect::to("/").into_response())
}

pub(crate) fn item(stored: &StoredSession, this: Option<RecordId>, now: Timestamp) -> String {
    // What can not be read, such as data of an older version, can still be ended.
    let device: Option<Device> = stored.get(Device::KEY).unwrap_or_default();
    let (user_agent, idle) = device.map_or((None, None), |d| (d.user_agent, Some(d.idle)));
    let name = escape(user_agent.as_deref().unwrap_or("an unknown device"));

    let record = &stored.record;
    let login = rounded_up(now.duration_since(record.created_at));
    let left = record.expires_at.duration_since(now);
    let used = idle.map_or(String::new(), |idle| {
        // The deadline is the last use and `idle`, give or take the layer's `touch_after`; or it is
        // the absolute one, and the last use was later than this makes it.
        format!(
            "used in the last {}, ",
            rounded_up(idle.saturating_sub(left))
        )
    });
    let left = rounded_up(left);

    let end = match this == Some(stored.id) {
        true => "this device".to_owned(),
        false => end_form(&stored.id),
    };
    format!("<li>{name}: login {login} ago, {used}lives for {left} unless used, {end}</li>\n")
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

/// Makes text out of what would be HTML, between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// Longer than those of browsers, and too short to fill a session of 64 KiB.
pub(crate) const USER_AGENT_LEN_MAX: usize = 256;

const END_OTHERS_FORM: &str = "\
<form method=post action=/devices/end-others><button>End all others</button></form>
";

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
