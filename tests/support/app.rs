//! An application that does with its session what a client tells it to.

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, Query, Request},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tower_keep::{Error, Expiry, LazySession, Session, SessionLayer};

/// The application behind a session layer.
///
/// | route | does |
/// |---|---|
/// | `GET /ignored` | nothing with the session |
/// | `GET /loaded` | extracts the session and does not look into it |
/// | `GET /optional` | answers `some` or `none` for `Option<Session>` |
/// | `GET /get/{key}` | answers the JSON of a key, or `-` |
/// | `GET /contains/{key}` | answers `true` or `false` |
/// | `GET /dump` | answers all of the data as `{"key":value,…}` |
/// | `GET /whoami` | answers the user, or `-` |
/// | `GET /record` | answers the record id in hex, or `-` |
/// | `POST /put/{key}/{value}` | inserts a string |
/// | `POST /count/{key}` | adds one with `update` and answers the number |
/// | `POST /append/{key}/{value}` | adds a string to a list with `update` |
/// | `POST /remove/{key}` | removes it |
/// | `POST /clear`, `/cycle`, `/flush`, `/save` | call the method of that name |
/// | `POST /login/{user}` | logs in |
/// | `POST /logout` | `LazySession::flush`, without a load |
/// | `POST /expire/{rule}` | `set_expiry`: seconds, `browser` or `reset` |
///
/// `?then=STATUS` makes any of them answer with that status after its work, `?then=panic` panic,
/// and `?then=slow` yield to the runtime a hundred times.
pub fn app(layer: SessionLayer) -> Router {
    router().layer(layer)
}

/// The same routes without a layer.
pub fn router() -> Router {
    Router::new()
        .route("/ignored", get(async || "ignored"))
        .route("/loaded", get(async |_: Session| "loaded"))
        .route("/optional", get(optional))
        .route("/get/{key}", get(read))
        .route("/contains/{key}", get(contains))
        .route("/dump", get(dump))
        .route("/whoami", get(whoami))
        .route("/record", get(record))
        .route("/put/{key}/{value}", post(put))
        .route("/count/{key}", post(count))
        .route("/append/{key}/{value}", post(append))
        .route("/remove/{key}", post(remove))
        .route("/clear", post(async |s: Session| s.clear()))
        .route("/cycle", post(async |s: Session| s.cycle_id()))
        .route("/flush", post(async |s: Session| s.flush()))
        .route("/save", post(async |s: Session| s.save().await))
        .route("/login/{user}", post(login))
        .route("/logout", post(async |s: LazySession| s.flush()))
        .route("/expire/{rule}", post(expire))
        .layer(from_fn(then))
}

async fn optional(session: Option<Session>) -> &'static str {
    match session {
        Some(_) => "some",
        None => "none",
    }
}

async fn read(session: Session, Path(key): Path<String>) -> Result<String, Error> {
    let value: Option<Value> = session.get(&key)?;
    Ok(value.map_or_else(|| "-".into(), |value| value.to_string()))
}

async fn contains(session: Session, Path(key): Path<String>) -> String {
    session.contains_key(&key).to_string()
}

async fn dump(session: Session) -> String {
    let entries: Vec<String> = session
        .iter()
        .map(|entry| format!("{:?}:{}", entry.key(), entry.json()))
        .collect();
    format!("{{{}}}", entries.join(","))
}

async fn whoami(session: Session) -> String {
    session
        .user()
        .map_or_else(|| "-".into(), |user| user.to_string())
}

async fn record(session: Session) -> String {
    session
        .record_id()
        .map_or_else(|| "-".into(), |id| id.to_hex())
}

async fn put(session: Session, Path((key, value)): Path<(String, String)>) -> Result<(), Error> {
    session.insert(&key, value)
}

async fn count(session: Session, Path(key): Path<String>) -> Result<String, Error> {
    let number = session.update(&key, |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(number.to_string())
}

async fn append(session: Session, Path((key, value)): Path<(String, String)>) -> Result<(), Error> {
    session.update(&key, move |list: Option<Vec<String>>| {
        let mut list = list.unwrap_or_default();
        list.push(value.clone());
        list
    })?;
    Ok(())
}

async fn remove(session: Session, Path(key): Path<String>) -> Result<(), Error> {
    session.remove::<Value>(&key)?;
    Ok(())
}

async fn login(session: Session, Path(user): Path<String>) -> Result<(), Error> {
    session.login(user)
}

async fn expire(session: Session, Path(rule): Path<String>) -> Result<(), Error> {
    match &*rule {
        "browser" => session.set_expiry(Expiry::BrowserClose),
        "reset" => session.reset_expiry(),
        secs => session.set_expiry(Expiry::Idle(Duration::from_secs(secs.parse().unwrap()))),
    }
}

#[derive(Deserialize)]
struct Then {
    then: Option<String>,
}

/// Lets the handler do its work, and then something else happen to the request.
async fn then(Query(Then { then }): Query<Then>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match then.as_deref() {
        None => response,
        Some("panic") => panic!("as the client wishes"),
        Some("slow") => {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            response
        }
        Some(status) => StatusCode::from_bytes(status.as_bytes())
            .unwrap()
            .into_response(),
    }
}
