//! The floor: the commands that have to be, sent by nothing but the driver.
//!
//! A read is one GET. An increment is one GET and one script, which compares and sets. A value is a header of
//! [`HEADER_LEN`] bytes, a number and the profile.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{AppendHeaders, IntoResponse},
    routing::get,
};
use redis::{RedisError, aio::MultiplexedConnection};

use crate::profile::PROFILE;

pub async fn router(redis_url: &str) -> Router {
    let client = redis::Client::open(redis_url).expect("an address");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("Redis");
    let script: String = redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(COMPARE_AND_SET)
        .query_async(&mut connection)
        .await
        .expect("a script");
    let raw = Raw {
        connection,
        script: script.into(),
    };
    Router::new()
        .route("/login", get(login))
        .route("/untouched", get(async || "untouched"))
        .route("/read", get(read))
        .route("/increment", get(increment))
        .with_state(raw)
}

#[derive(Clone)]
struct Raw {
    connection: MultiplexedConnection,
    script: Arc<str>,
}

async fn login(State(mut raw): State<Raw>) -> Result<impl IntoResponse, Failure> {
    static LOGINS: AtomicU64 = AtomicU64::new(0);
    let login = LOGINS.fetch_add(1, Ordering::Relaxed);
    // As long as the ids of others.
    let id = format!("{:022}{login:021}", process::id());
    () = redis::cmd("SET")
        .arg(&id)
        .arg(value_of(0))
        .arg("PX")
        .arg(LIFETIME_MILLIS)
        .query_async(&mut raw.connection)
        .await?;
    Ok(AppendHeaders([(header::SET_COOKIE, format!("id={id}"))]))
}

async fn read(State(mut raw): State<Raw>, request: Request) -> Result<String, Failure> {
    let value = raw.value(id_of(&request)?).await?;
    Ok(visits_of(&value)?.to_string())
}

async fn increment(State(mut raw): State<Raw>, request: Request) -> Result<String, Failure> {
    let id = id_of(&request)?;
    let seen = raw.value(id).await?;
    let visits = visits_of(&seen)? + 1;
    let done: bool = redis::cmd("EVALSHA")
        .arg(&*raw.script)
        .arg(1)
        .arg(id)
        .arg(&seen[..HEADER_LEN])
        .arg(value_of(visits))
        .arg(LIFETIME_MILLIS)
        .query_async(&mut raw.connection)
        .await?;
    done.then(|| visits.to_string()).ok_or(Failure)
}

impl Raw {
    async fn value(&mut self, id: &str) -> Result<Vec<u8>, RedisError> {
        redis::cmd("GET")
            .arg(id)
            .query_async(&mut self.connection)
            .await
    }
}

fn id_of(request: &Request) -> Result<&str, Failure> {
    let cookie = request.headers().get(header::COOKIE).ok_or(Failure)?;
    let cookie = cookie.to_str().map_err(|_| Failure)?;
    cookie.strip_prefix("id=").ok_or(Failure)
}

fn value_of(visits: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_LEN + 8 + PROFILE.len());
    // The number of visits is a version, too.
    value.extend([0; HEADER_LEN - 8]);
    value.extend(visits.to_le_bytes());
    value.extend(visits.to_le_bytes());
    value.extend(PROFILE.as_bytes());
    value
}

fn visits_of(value: &[u8]) -> Result<u64, Failure> {
    let visits = value.get(HEADER_LEN..).and_then(<[u8]>::first_chunk);
    visits.copied().map(u64::from_le_bytes).ok_or(Failure)
}

/// No session, a conflict, or an error of Redis: none is expected.
struct Failure;

impl From<RedisError> for Failure {
    fn from(_: RedisError) -> Self {
        Self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

/// A revision of 8 bytes and a token of 16.
const HEADER_LEN: usize = 24;

const LIFETIME_MILLIS: u64 = 14 * 24 * 3600 * 1000;

/// The range is of [`HEADER_LEN`] bytes.
const COMPARE_AND_SET: &str = "\
    if redis.call('GETRANGE', KEYS[1], 0, 23) ~= ARGV[1] then return 0 end \
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) \
    return 1";
