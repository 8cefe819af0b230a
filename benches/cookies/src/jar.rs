//! What an application without a session crate would write: a JSON map in a jar of the crate cookie.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    response::{AppendHeaders, IntoResponse, Response},
    routing::get,
};
use cookie::{Cookie, CookieJar, Key, SameSite, time::Duration};
use http::{
    HeaderMap,
    header::{COOKIE, SET_COOKIE},
};
use serde_json::{Map, Value};
use tower_keep_harness::preferences;

#[derive(Clone, Copy, Debug)]
pub enum Jar {
    Signed,
    Private,
}

pub fn router(jar: Jar) -> Router {
    let sessions = Sessions {
        jar,
        key: Key::generate(),
    };
    Router::new()
        .route("/read", get(read))
        .route("/increment", get(increment))
        .route("/fill/{keys}", get(fill))
        .with_state(Arc::new(sessions))
}

struct Sessions {
    jar: Jar,
    key: Key,
}

impl Sessions {
    fn open(&self, headers: &HeaderMap) -> Map<String, Value> {
        let mut jar = CookieJar::new();
        for field in headers.get_all(COOKIE) {
            let field = field.to_str().unwrap_or_default();
            // As the crates that pair axum with these jars do: JSON is no cookie value without it.
            for cookie in Cookie::split_parse_encoded(field).flatten() {
                jar.add_original(cookie.into_owned());
            }
        }
        let opened = match self.jar {
            Jar::Signed => jar.signed(&self.key).get(NAME),
            Jar::Private => jar.private(&self.key).get(NAME),
        };
        let data = opened.map(|cookie| serde_json::from_str(cookie.value()));
        data.and_then(Result::ok).unwrap_or_default()
    }

    fn seal(&self, data: &Map<String, Value>) -> AppendHeaders<Vec<(http::HeaderName, String)>> {
        let json = serde_json::to_string(data).expect("JSON");
        let cookie = Cookie::build((NAME, json))
            .path("/")
            .http_only(true)
            .secure(true)
            .same_site(SameSite::Lax)
            .max_age(Duration::days(14));
        let mut jar = CookieJar::new();
        match self.jar {
            Jar::Signed => jar.signed_mut(&self.key).add(cookie),
            Jar::Private => jar.private_mut(&self.key).add(cookie),
        }
        let set = jar.delta().map(|cookie| cookie.encoded().to_string());
        AppendHeaders(set.map(|set| (SET_COOKIE, set)).collect())
    }
}

async fn read(State(sessions): State<Arc<Sessions>>, headers: HeaderMap) -> String {
    visits(&sessions.open(&headers)).to_string()
}

async fn increment(State(sessions): State<Arc<Sessions>>, headers: HeaderMap) -> Response {
    let mut data = sessions.open(&headers);
    let visits = visits(&data) + 1;
    data.insert("visits".to_owned(), visits.into());
    (sessions.seal(&data), visits.to_string()).into_response()
}

async fn fill(State(sessions): State<Arc<Sessions>>, Path(keys): Path<usize>) -> Response {
    let mut data = Map::from_iter([("visits".to_owned(), 0.into())]);
    data.extend(preferences(keys).map(|(key, value)| (key, value.into())));
    sessions.seal(&data).into_response()
}

fn visits(data: &Map<String, Value>) -> u64 {
    data.get("visits").and_then(Value::as_u64).unwrap_or(0)
}

const NAME: &str = "__Host-id";
