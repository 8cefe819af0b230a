//! What the fuzz targets in `fuzz/` run: a function a target, which panics at a finding.
//!
//! Here and not there, because most of it looks at what is private. It is compiled with
//! `--cfg fuzzing` alone, which `cargo fuzz` sets.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a panic is a finding"
)]

#[cfg(feature = "cookie")]
mod token;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::COOKIE};

#[cfg(feature = "cookie")]
pub use self::token::token;
use crate::{
    data::{Data, Replay, Table},
    id::SessionId,
    record::{Payload, Record},
    session::Presented,
};

/// The scan of a `Cookie` field finds an id that is planted in the middle, whatever is around it,
/// and yields a bounded number of candidates.
pub fn cookie_scan(bytes: &[u8]) {
    let (before, after) = bytes.split_at(bytes.len() / 2);
    let planted = SessionId::parse(PLANTED).expect("an id");
    let pair = [NAME.as_bytes(), b"=", PLANTED].concat();
    let candidates = candidates(&[before, &pair, after].join(&b';'));
    let alone = candidates.len() < CANDIDATES_MAX;
    assert!(candidates.len() <= CANDIDATES_MAX);
    assert!(!alone || candidates.contains(&planted), "the id is hidden");
    for (place, id) in candidates.iter().enumerate() {
        assert!(!candidates[..place].contains(id), "an id twice");
    }
    assert!(self::candidates(bytes).len() <= CANDIDATES_MAX);
}

/// An id that parses is written the same way again.
pub fn session_id(bytes: &[u8]) {
    if let Some(id) = SessionId::parse(bytes) {
        assert_eq!(id.expose_secret().as_bytes(), bytes);
        let again = SessionId::parse(bytes).expect("the same id");
        assert_eq!(again.record_id(), id.record_id());
    }
}

/// A record that parses is written the same way again.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = Record::from_bytes(bytes) {
        assert_eq!(record.to_bytes(), bytes);
        assert!(record.payload.len() <= bytes.len() - Record::HEADER_LEN);
        table(record.payload.as_bytes());
    }
}

/// A payload that parses can be read in every way, is written the same way again, and takes
/// changes, whose replay over the payload itself gives the same.
pub fn table(bytes: &[u8]) {
    let Ok(table) = Table::parse(bytes.into()) else {
        return;
    };
    let entries: Vec<_> = table.iter().collect();
    assert_eq!(entries.len(), table.len());
    assert_eq!(table.encoded_len(), bytes.len());
    for (key, value) in &entries {
        assert_eq!(table.get_bytes(key), Some(*value));
        assert_eq!(table.get(key).expect("a value").as_bytes(), *value);
    }
    let again = Table::encode(table.rule(), &entries).expect("room");
    assert_eq!(again.as_bytes(), bytes);

    let mut data = Data::new(table.clone(), usize::MAX);
    assert_eq!(data.encode().expect("room").as_bytes(), bytes);
    for (place, (key, value)) in entries.iter().enumerate() {
        let (value, replay) = match place % 3 {
            0 => (None, Replay::Value),
            1 => (Some(Payload::from(&b"null"[..])), Replay::Value),
            _ => (Some(longer(value)), update()),
        };
        data.set(key, value, replay).expect("room");
    }
    data.set("a new key", Some(Payload::from(&b"1"[..])), Replay::Value)
        .expect("room");
    let changed = data.encode().expect("room");
    let replayed = data.replayed_over(table).expect("room");
    assert_eq!(replayed.encode().expect("room"), changed);
    Table::parse(changed).expect("what was just written");
}

fn candidates(field: &[u8]) -> Vec<SessionId> {
    presented(field).candidates(NAME).all().collect()
}

fn presented(field: &[u8]) -> Presented {
    let mut headers = HeaderMap::new();
    // What no header value may hold does not come as far as the scan.
    let holds = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
    let field: Vec<u8> = field
        .iter()
        .map(|byte| if holds(byte) { *byte } else { b'\t' })
        .collect();
    headers.append(COOKIE, HeaderValue::from_bytes(&field).expect("a value"));
    Presented::of(&headers)
}

fn update() -> Replay {
    let longer = |old: Option<&Payload>| Ok(longer(old.map_or(&[], Payload::as_bytes)));
    Replay::Updates(Arc::new(longer), Vec::new())
}

fn longer(value: &[u8]) -> Payload {
    [value, b" "].concat().into()
}

const NAME: &str = "__Host-id";
const PLANTED: &[u8] = b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const CANDIDATES_MAX: usize = 4;
