//! Sealed sessions that another implementation has made: `generate.py`, which writes `cookies.json`.
//!
//! They pin the formats. What fails here is a format that has changed, or a document that tells it wrongly.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, extract::State, routing::get};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use http::{
    Request,
    header::{COOKIE, SET_COOKIE},
};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower::ServiceExt;
use tower_keep::{
    Clock, CookieStore, Created, EncryptedStore, Error, Expiry, Keyring, MemoryStore, Payload,
    RandomError, RandomSource, Record, RecordId, Session, SessionLayer, SessionOptions,
    SessionStore, StoreErrorKind, StoredSession, Timestamp, UserId, Version, WriteToken,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    cookies: Vec<CookieVector>,
    resealed: Vec<CookieVector>,
    records: Vec<RecordVector>,
}

/// A session, and the cookies that carry it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CookieVector {
    title: String,
    kind: Kind,
    secret: String,
    retired: Option<String>,
    namespace: String,
    options: SessionOptions,
    created_at: i64,
    /// When the request comes, if not at its creation.
    now: Option<i64>,
    expires_at: i64,
    session_id: String,
    record_id: String,
    nonce: String,
    user: Option<String>,
    expiry: Option<Rule>,
    data: Map<String, Value>,
    /// What the request presents, if not what `set_cookie` has set.
    cookie: Option<Vec<String>>,
    set_cookie: Vec<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Signed,
    Encrypted,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Idle(u64),
    At(i64),
    BrowserClose,
}

/// A record, and its payload as an `EncryptedStore` keeps it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordVector {
    title: String,
    secret: String,
    record_id: String,
    revision: u64,
    token: String,
    created_at: i64,
    expires_at: i64,
    absolute_deadline: i64,
    user: Option<String>,
    data: Map<String, Value>,
    payload: String,
    nonce: String,
    sealed: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("cookies.json")).unwrap()
}

/// Stands still.
#[derive(Clone, Copy, Debug)]
struct FixedClock(i64);

impl Clock for FixedClock {
    fn now(&self) -> SystemTime {
        Timestamp::from_millis(self.0).into()
    }
}

/// Gives these bytes, in this order, and no others.
#[derive(Clone, Debug)]
struct FixedRandom(Arc<Mutex<Vec<u8>>>);

impl FixedRandom {
    fn of_hex(parts: &[&str]) -> Self {
        let bytes = parts.iter().flat_map(|part| unhex(part)).collect();
        Self(Arc::new(Mutex::new(bytes)))
    }

    fn is_used_up(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl RandomSource for FixedRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        let mut bytes = self.0.lock().unwrap();
        if bytes.len() < buffer.len() {
            return Err(RandomError::new("more than the vector has"));
        }
        buffer.copy_from_slice(&bytes[..buffer.len()]);
        bytes.drain(..buffer.len());
        Ok(())
    }
}

impl CookieVector {
    fn now(&self) -> i64 {
        self.now.unwrap_or(self.created_at)
    }

    fn layer(&self) -> SessionLayer {
        let mut keyring = Keyring::new(&self.secret).unwrap();
        if let Some(retired) = &self.retired {
            keyring = keyring.with_retired(retired).unwrap();
        }
        let cookies = match self.kind {
            Kind::Signed => CookieStore::signed(&keyring),
            Kind::Encrypted => CookieStore::encrypted(&keyring),
        };
        SessionLayer::new(cookies.with_namespace(&self.namespace))
            .with_options(self.options.clone())
            .with_clock(FixedClock(self.now()))
    }

    /// The `Cookie` field of a client that has taken the cookies.
    fn presented(&self) -> String {
        let set = self.cookie.as_ref().unwrap_or(&self.set_cookie);
        let pairs: Vec<_> = set.iter().filter_map(|set| set.split(';').next()).collect();
        pairs.join("; ")
    }

    fn name(&self) -> &str {
        self.set_cookie[0].split('=').next().unwrap()
    }

    /// What is sealed, where it is in one cookie: behind the number of cookies.
    fn sealed(&self) -> Option<Vec<u8>> {
        let presented = self.presented();
        let (_, value) = presented.split_once("=1")?;
        Some(BASE64URL_NOPAD.decode(value.as_bytes()).unwrap())
    }

    fn presenting(&self, sealed: &[u8]) -> String {
        format!("{}=1{}", self.name(), BASE64URL_NOPAD.encode(sealed))
    }

    /// What a handler sees of the session.
    fn seen(&self) -> Value {
        json!({ "record": self.record_id, "user": self.user, "data": self.data })
    }

    /// What a handler sees if that is in the `Cookie` field.
    async fn seen_with(&self, layer: SessionLayer, cookie: &str) -> Value {
        let answer = self.send(layer, "/see", Some(cookie)).await;
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    async fn set_cookies(&self, layer: SessionLayer, path: &str, cookie: Option<&str>) -> Value {
        let answer = self.send(layer, path, cookie).await;
        let set = answer.headers().get_all(SET_COOKIE).iter();
        set.map(|set| set.to_str().unwrap()).collect()
    }

    async fn send(
        &self,
        layer: SessionLayer,
        path: &str,
        cookie: Option<&str>,
    ) -> http::Response<Body> {
        let app = Router::new()
            .route("/see", get(see))
            .route("/make", get(make))
            .with_state(Arc::new(self.clone()))
            .layer(layer);
        let request = Request::get(path);
        let request = match cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        };
        let answer = app.oneshot(request.body(Body::empty()).unwrap());
        let answer = answer.await.unwrap();
        assert!(answer.status().is_success(), "{}", self.title);
        answer
    }
}

async fn see(session: Session) -> String {
    let data: Map<_, _> = session
        .iter()
        .map(|entry| (entry.key().to_owned(), entry.value().unwrap()))
        .collect();
    let user = session.user().map(|user| user.to_string());
    let record = session.record_id().map(|id| id.to_hex());
    json!({ "record": record, "user": user, "data": data }).to_string()
}

async fn make(State(vector): State<Arc<CookieVector>>, session: Session) -> Result<(), Error> {
    if let Some(user) = &vector.user {
        session.login(user)?;
    }
    match vector.expiry {
        None => {}
        Some(Rule::Idle(millis)) => {
            session.set_expiry(Expiry::Idle(Duration::from_millis(millis)))?;
        }
        Some(Rule::At(millis)) => {
            let end = Timestamp::from_millis(millis).into();
            session.set_expiry(Expiry::At(end))?;
        }
        Some(Rule::BrowserClose) => session.set_expiry(Expiry::BrowserClose)?,
    }
    session.extend(vector.data.clone())
}

fn nothing() -> Value {
    json!({ "record": null, "user": null, "data": {} })
}

fn unhex(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

#[tokio::test]
async fn cookies_of_the_other_implementation_open_to_the_data_and_the_user() {
    let vectors = vectors();
    for vector in vectors.cookies.iter().chain(&vectors.resealed) {
        let seen = vector.seen_with(vector.layer(), &vector.presented()).await;
        assert_eq!(seen, vector.seen(), "{}", vector.title);
    }
}

#[tokio::test]
async fn new_sessions_become_the_cookies_of_the_other_implementation() {
    for vector in vectors().cookies {
        let random = FixedRandom::of_hex(&[&vector.session_id, &vector.nonce]);
        let layer = vector.layer().with_random_source(random.clone());
        let set = vector.set_cookies(layer, "/make", None).await;
        assert_eq!(set, json!(vector.set_cookie), "{}", vector.title);
        assert!(random.is_used_up(), "{}", vector.title);
    }
}

#[tokio::test]
async fn what_a_retired_secret_has_sealed_is_sealed_again_as_the_other_implementation_does() {
    for vector in vectors().resealed {
        let random = FixedRandom::of_hex(&[&vector.nonce]);
        let layer = vector.layer().with_random_source(random.clone());
        let presented = vector.presented();
        let set = vector.set_cookies(layer, "/see", Some(&presented)).await;
        assert_eq!(set, json!(vector.set_cookie), "{}", vector.title);
        assert!(random.is_used_up(), "{}", vector.title);
    }
}

#[tokio::test]
async fn the_deadline_in_the_seal_ends_the_session_at_its_millisecond() {
    for vector in vectors().cookies {
        let presented = vector.presented();
        let at = |now| vector.layer().with_clock(FixedClock(now));
        let last = vector.seen_with(at(vector.expires_at - 1), &presented);
        assert_eq!(last.await, vector.seen(), "{}", vector.title);
        let over = vector.seen_with(at(vector.expires_at), &presented);
        assert_eq!(over.await, nothing(), "{}", vector.title);
    }
}

#[tokio::test]
async fn a_cookie_with_any_byte_altered_is_anonymous() {
    for kind in [Kind::Signed, Kind::Encrypted] {
        let vectors = vectors().cookies.into_iter();
        let vector = vectors.clone().find(|vector| vector.kind == kind).unwrap();
        let sealed = vector.sealed().unwrap();
        for place in 0..sealed.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut altered = sealed.clone();
                altered[place] ^= flip;
                let altered = vector.presenting(&altered);
                let seen = vector.seen_with(vector.layer(), &altered).await;
                assert_eq!(seen, nothing(), "{} at {place}", vector.title);
            }
        }
    }
}

#[tokio::test]
async fn each_format_is_anonymous_to_the_other() {
    for vector in vectors().cookies {
        let other = CookieVector {
            kind: match vector.kind {
                Kind::Signed => Kind::Encrypted,
                Kind::Encrypted => Kind::Signed,
            },
            ..vector.clone()
        };
        let presented = vector.presented();
        let seen = vector.seen_with(other.layer(), &presented).await;
        assert_eq!(seen, nothing(), "{}", vector.title);
        let Some(mut sealed) = vector.sealed() else {
            continue;
        };
        sealed[0] = 3 - sealed[0];
        let presented = vector.presenting(&sealed);
        let seen = vector.seen_with(other.layer(), &presented).await;
        assert_eq!(seen, nothing(), "{} with its format altered", vector.title);
    }
}

#[tokio::test]
async fn under_another_name_or_in_another_namespace_a_cookie_is_anonymous() {
    for vector in vectors().cookies {
        let presented = vector.presented();
        let renamed = presented.replace(vector.name(), &format!("{}2", vector.name()));
        let name = vector.name().rsplit('-').next().unwrap();
        let layer = vector.layer().with_cookie_name(&format!("{name}2"));
        let seen = vector.seen_with(layer, &renamed).await;
        assert_eq!(seen, nothing(), "{} renamed", vector.title);
        let longer = format!("{}s", vector.namespace);
        let shorter: String = vector.namespace.chars().skip(1).collect();
        for namespace in [longer, shorter, "blog".to_owned()] {
            if namespace == vector.namespace {
                continue;
            }
            let other = CookieVector {
                namespace,
                ..vector.clone()
            };
            let seen = vector.seen_with(other.layer(), &presented).await;
            assert_eq!(seen, nothing(), "{} elsewhere", vector.title);
        }
    }
}

#[tokio::test]
async fn a_session_in_several_cookies_is_anonymous_without_any_of_them() {
    let vectors = vectors().cookies.into_iter();
    let several: Vec<_> = vectors.filter(|v| v.set_cookie.len() > 1).collect();
    assert_eq!(several.len(), 3);
    for vector in several {
        let presented = vector.presented();
        let pairs: Vec<_> = presented.split("; ").collect();
        for missing in 0..pairs.len() {
            let mut pairs = pairs.clone();
            pairs.remove(missing);
            let seen = vector.seen_with(vector.layer(), &pairs.join("; ")).await;
            assert_eq!(seen, nothing(), "{} without {missing}", vector.title);
        }
    }
}

impl RecordVector {
    fn id(&self) -> RecordId {
        RecordId::from_bytes(unhex(&self.record_id).try_into().unwrap())
    }

    fn record(&self, payload: &str) -> Record {
        Record {
            version: Version {
                revision: self.revision,
                token: WriteToken::from_bytes(unhex(&self.token).try_into().unwrap()),
            },
            user: self.user.as_deref().and_then(UserId::parse),
            created_at: Timestamp::from_millis(self.created_at),
            expires_at: Timestamp::from_millis(self.expires_at),
            absolute_deadline: Timestamp::from_millis(self.absolute_deadline),
            payload: Payload::from(unhex(payload)),
        }
    }

    fn store(&self) -> EncryptedStore<MemoryStore> {
        let clock = FixedClock(self.expires_at - 1);
        let keyring = Keyring::new(&self.secret).unwrap();
        EncryptedStore::new(MemoryStore::new().with_clock(clock), &keyring)
    }
}

#[tokio::test]
async fn a_record_that_the_other_implementation_has_sealed_is_opened() {
    for vector in vectors().records {
        let (id, store) = (vector.id(), vector.store());
        let sealed = vector.record(&vector.sealed);
        let created = store.store().create(&id, &sealed).await.unwrap();
        assert_eq!(created, Created::Done, "{}", vector.title);
        let record = store.load(&id).await.unwrap().unwrap();
        assert_eq!(record, vector.record(&vector.payload), "{}", vector.title);
        let entries = StoredSession { id, record }.entries().unwrap();
        let data: Map<_, _> = entries
            .map(|entry| (entry.key().to_owned(), entry.value().unwrap()))
            .collect();
        assert_eq!(data, vector.data, "{}", vector.title);
    }
}

#[tokio::test]
async fn a_record_is_sealed_as_the_other_implementation_does() {
    for vector in vectors().records {
        let random = FixedRandom::of_hex(&[&vector.nonce]);
        let (id, store) = (vector.id(), vector.store());
        let store = store.with_random_source(random.clone());
        let clear = vector.record(&vector.payload);
        let created = store.create(&id, &clear).await.unwrap();
        assert_eq!(created, Created::Done, "{}", vector.title);
        let kept = store.store().load(&id).await.unwrap().unwrap();
        assert_eq!(kept, vector.record(&vector.sealed), "{}", vector.title);
        assert!(random.is_used_up(), "{}", vector.title);
    }
}

#[tokio::test]
async fn a_sealed_record_is_damaged_under_another_id_version_user_or_time() {
    type Alter = fn(&mut RecordVector);
    let alterations: [Alter; 8] = [
        |vector| vector.record_id.replace_range(..2, "00"),
        |vector| vector.revision += 1,
        |vector| vector.token.replace_range(..2, "00"),
        |vector| vector.user = Some("eve".to_owned()),
        |vector| vector.created_at += 1,
        |vector| vector.absolute_deadline += 1,
        |vector| vector.sealed.replace_range(..2, "01"),
        |vector| vector.sealed.replace_range(2..4, "00"),
    ];
    for vector in vectors().records {
        for (number, alter) in alterations.into_iter().enumerate() {
            let mut altered = vector.clone();
            alter(&mut altered);
            let (id, store) = (altered.id(), altered.store());
            let record = altered.record(&altered.sealed);
            let what = format!("{}, alteration {number}", vector.title);
            let created = store.store().create(&id, &record).await.unwrap();
            assert_eq!(created, Created::Done, "{what}");
            let error = store.load(&id).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{what}");
        }
    }
}
