//! No log, no error and no `Debug` tells a secret. A crate of its own, because commits run in tasks
//! of their own, and only a subscriber of the whole process hears all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod log;
#[cfg(unix)]
mod servers;

use std::{error::Error as StdError, sync::Arc};

use axum::{
    Router,
    extract::{Path, Request},
    middleware::map_response,
    response::Response,
    routing::{get, post},
};
use tower::{Layer, Service};
use tower_keep::{
    Conflict, CookieStore, Created, EncryptedStore, Error, IntoBackend, Keyring, LazySession,
    Outage, Page, RandomError, RandomSource, Rotated, ScanSessions, Session, SessionId,
    SessionLayer, SessionOptions, SystemRandom, Updated, UserId,
    testing::{CountingStore, Fault, Operation},
};

use crate::{
    log::Log,
    support::{Browser, Site, TestStore, app, router},
};

/// A value that is put into sessions.
const VALUE: &str = "canary-value-7731";

/// A user that is logged in.
const USER: &str = "canary.user@example.org";

#[tokio::test(start_paused = true)]
async fn no_log_and_no_error_of_any_request_tells_an_id_a_value_or_a_user() {
    let log = Log::start();
    let site = Site::new();
    let mut secrets = Secrets::default();
    ordinary_requests(&site, &mut secrets).await;
    strange_cookies(&site, &mut secrets).await;
    damaged_records(&site, &mut secrets).await;
    requests_that_meet(&site, &mut secrets).await;
    outages(&site, &mut secrets).await;
    broken_random_sources(&site).await;
    refused_values(&site, &mut secrets).await;
    sessions_in_cookies(&site, &mut secrets).await;

    let text = log.text();
    for heard in [
        "the session store failed",
        "did not answer in time",
        "was ended while a request was at work",
        "presents two live sessions",
        "is damaged and not used",
        "is taken already",
        "serving an empty session during an outage",
        "no entropy",
        "kind: Conflict",
        "kind: Unsupported",
        "kind: TooLarge",
        "kind: Encode",
        "kind: Decode",
        "RecordId(",
    ] {
        assert!(text.contains(heard), "{heard:?} was to be provoked");
    }
    assert!(secrets.0.len() > 30);
    secrets.are_not_in(&text);
}

#[tokio::test]
async fn debug_of_no_public_type_tells_an_id_a_value_or_a_user() {
    let site = Site::new();
    let mut secrets = Secrets::default();
    let shown = async |session: Session, lazy: LazySession| {
        let entries: Vec<_> = session.iter().collect();
        let parts = (
            &session,
            &lazy,
            entries,
            session.user(),
            session.record_id(),
        );
        format!("{parts:?} {parts:#?} {:?}", session.expiry())
    };
    let routes = router().route("/shown", get(shown));
    let mut browser = Browser::new(&routes.layer(site.layer()));
    fill(&mut browser).await;
    secrets.learn(&browser);
    let mut text = browser.get("/shown").await.assert_ok().body;
    assert!(text.contains("Session {") && text.contains("LazySession"));

    let page = site.memory.scan(None, 1).await.unwrap();
    let stored = page.sessions[0].clone();
    let record = stored.record.clone();
    let id = SessionId::parse(browser.id().unwrap().as_bytes()).unwrap();
    let user = UserId::new(USER).unwrap();
    text += &format!("{page:?} {stored:?} {record:?} {record:#?} {id:?} {user:?}");
    let page = Page {
        sessions: vec![],
        ..site.memory.scan(None, 1).await.unwrap()
    };
    assert!(page.next.is_some(), "whose cursor holds an id");
    text += &format!("{page:?} {:?} {:?}", record.payload, record.version);
    text += &format!(
        "{:?} {:?}",
        Updated::Conflict(record.clone()),
        Created::Done
    );
    text += &format!("{:?}", Rotated::Conflict(record));
    text += &format!(
        "{:?} {:?}",
        site.store,
        CountingStore::new(site.memory.clone())
    );
    text += &format!(
        "{:?} {:?}",
        site.layer(),
        site.memory.clone().into_backend()
    );
    text += &format!(
        "{:?} {:?} {:?}",
        site.clock,
        SessionOptions::default(),
        SystemRandom
    );

    let mut service = site.layer().layer(app(site.layer()));
    let request = Request::builder()
        .uri("/dump")
        .header("cookie", browser.cookie_header().unwrap())
        .body(axum::body::Body::empty())
        .unwrap();
    text += &format!("{:?}", request.extensions());
    let future = service.call(request);
    text += &format!("{service:?} {future:?}");
    drop(future);
    assert!(text.contains("SessionService") && text.contains("ResponseFuture"));
    secrets.are_not_in(&text);
}

#[tokio::test]
async fn debug_of_cookies_and_their_keys_tells_no_secret() {
    let secret = Keyring::generate_secret().unwrap();
    let keyring = Keyring::new(&secret).unwrap();
    let [signed, encrypted] = [CookieStore::signed, CookieStore::encrypted].map(|of| of(&keyring));
    let sealed = EncryptedStore::new(TestStore::new(), &keyring);
    let layer = SessionLayer::new(signed.clone());
    let text = format!("{keyring:?} {signed:?} {encrypted:?} {sealed:?} {layer:?}");
    assert!(text.contains("Keyring(0 retired)") && text.contains("Signature(Keys(1))"));
    let refused = format!("{:?}", Keyring::new(&secret[..31]).unwrap_err());
    for part in secret.as_bytes().windows(8) {
        let part = str::from_utf8(part).unwrap();
        assert!(!text.contains(part) && !refused.contains(part));
    }
}

/// The same as for other stores, as far as it differs: tokens, and a store of what was ended.
async fn sessions_in_cookies(site: &Site, secrets: &mut Secrets) {
    let keyring = Keyring::new(Keyring::generate_secret().unwrap()).unwrap();
    for kind in [CookieStore::signed, CookieStore::encrypted] {
        let cookies = kind(&keyring).with_revocations(Arc::clone(&site.store));
        let layer = || SessionLayer::new(cookies.clone()).with_clock(site.clock.clone());
        let mut browser = Browser::new(&confessing(router(), layer()));
        fill(&mut browser).await;
        secrets.learn(&browser);
        let mut other = browser.stranger();
        fill(&mut other).await;
        secrets.learn(&other);
        let pair = [&browser, &other].map(|browser| browser.cookie_header().unwrap());
        let both = pair.join("; ");
        let both = browser.get_with_cookie("/dump", both.as_bytes()).await;
        secrets.are_not_in(&both.assert_ok().body);
        for fault in [Fault::Fail, Fault::Hang, Fault::LoseReply] {
            site.store.inject(fault);
            for path in ["/count/n", "/cycle", "/logout"] {
                browser.post(path).await;
                secrets.learn(&browser);
            }
            if fault != Fault::Hang {
                let user = UserId::new(USER).unwrap();
                confess(&cookies.delete_all_of(&user, None).await.unwrap_err());
            }
            site.store.heal();
            let anonymous = layer().with_outage(Outage::Anonymous);
            Browser::new(&app(anonymous)).get("/dump").await;
        }
        let captured = browser.clone();
        for mut browser in [browser, captured] {
            browser.post("/put/key/x").await;
            browser.post("/logout").await.assert_ok();
        }
    }
}

/// Everything that a session goes through when all is well, in this process and over HTTP.
async fn ordinary_requests(site: &Site, secrets: &mut Secrets) {
    for mut browser in [site.browser(), Browser::over_http(&app(site.layer())).await] {
        fill(&mut browser).await;
        secrets.learn(&browser);
        site.pass(2 * 24 * 60 * 60);
        for path in ["/dump", "/whoami", "/record", "/get/key", "/optional"] {
            browser.get(path).await.assert_ok();
            secrets.learn(&browser);
        }
        for path in [
            "/cycle",
            "/save",
            "/expire/browser",
            "/remove/key",
            "/clear",
        ] {
            browser.post(path).await.assert_ok();
            secrets.learn(&browser);
        }
        fill(&mut browser).await;
        secrets.learn(&browser);
        for then in ["404", "500", "panic"] {
            let path = format!("/login/other?then={then}");
            match then {
                "panic" => browser.post_and_panic(&path).await,
                _ => drop(browser.post(&path).await),
            }
            secrets.learn(&browser);
        }
        browser.post("/logout").await.assert_ok();
    }
}

async fn strange_cookies(site: &Site, secrets: &mut Secrets) {
    let (one, two) = (known(site, secrets).await, known(site, secrets).await);
    let both = format!(
        "{}; {}",
        one.cookie_header().unwrap(),
        two.cookie_header().unwrap()
    );
    let answer = one.get_with_cookie("/optional", both.as_bytes()).await;
    assert_eq!(answer.assert_ok().body, "none");
    let value = one.id().unwrap();
    for broken in [
        format!("id={value}"),
        format!("__Host-id={value}="),
        format!("__Host-id=\"{value}\""),
        format!("__Host-id={value}x"),
    ] {
        let answer = one.get_with_cookie("/dump", broken.as_bytes()).await;
        secrets.are_not_in(&answer.assert_ok().body);
    }
}

async fn damaged_records(site: &Site, secrets: &mut Secrets) {
    for payload in [[0; 64], [2; 64]] {
        let browser = known(site, secrets).await;
        site.overwrite(&browser, payload.to_vec()).await;
        let app = confessing(router(), site.layer());
        let mut browser = Browser::new(&app).with_id_of(&browser);
        browser.get("/dump").await;
        browser.post("/put/new/data").await;
        secrets.learn(&browser);
    }
}

/// A request that another one overtakes: by a write, and by a logout.
async fn requests_that_meet(site: &Site, secrets: &mut Secrets) {
    for conflict in [Conflict::Merge, Conflict::Reject] {
        for overtaken_by in ["/put/other/data", "/logout"] {
            let known = known(site, secrets).await;
            let other = known.clone();
            let slow = async move |session: Session| -> Result<(), Error> {
                other.clone().post(overtaken_by).await.assert_ok();
                session.insert("slow", VALUE)
            };
            let routes = router().route("/slow", post(slow));
            let layer = site.layer().with_conflict(conflict);
            let mut browser = Browser::new(&confessing(routes, layer)).with_id_of(&known);
            browser.post("/slow").await;
            secrets.learn(&browser);
        }
    }
}

async fn outages(site: &Site, secrets: &mut Secrets) {
    use Operation::{Create, Delete, Load, Rotate, Touch, Update};
    for fault in [Fault::Fail, Fault::LoseReply, Fault::Hang] {
        for operation in [Load, Create, Update, Rotate, Touch, Delete] {
            let known = known(site, secrets).await;
            let mut browser = Browser::new(&confessing(router(), site.layer())).with_id_of(&known);
            site.pass(2 * 24 * 60 * 60);
            site.store.inject_on(&[operation], fault);
            browser.stranger().post(&format!("/put/key/{VALUE}")).await;
            for path in ["/get/key", "/loaded"] {
                browser.get(path).await;
            }
            for path in [
                "/count/visits",
                "/save",
                "/cycle",
                "/login/other",
                "/logout",
            ] {
                browser.post(path).await;
                secrets.learn(&browser);
            }
            let anonymous = app(site.layer().with_outage(Outage::Anonymous));
            Browser::new(&anonymous)
                .with_id_of(&known)
                .get("/dump")
                .await;
            site.store.heal();
        }
    }
}

async fn broken_random_sources(site: &Site) {
    let mut stuck = Browser::new(&confessing(
        router(),
        site.layer().with_random_source(StuckRandom),
    ));
    stuck.post(&format!("/put/key/{VALUE}")).await.assert_ok();
    let refused = stuck.stranger().post(&format!("/put/key/{VALUE}")).await;
    assert_eq!(refused.status, 500);
    let mut broken = Browser::new(&confessing(
        router(),
        site.layer().with_random_source(NoRandom),
    ));
    let refused = broken.post(&format!("/put/key/{VALUE}")).await;
    assert_eq!(refused.status, 500);
}

/// Values and users that a handler may not put in or take out, with the errors it gets.
async fn refused_values(site: &Site, secrets: &mut Secrets) {
    let refuse = async |session: Session, Path(value): Path<String>| {
        let unwritable = std::collections::HashMap::from([((1, 2), value.clone())]);
        for error in [
            session.insert("map", unwritable).unwrap_err(),
            session.insert("large", value.repeat(10_000)).unwrap_err(),
            session.get::<u64>("key").unwrap_err(),
            session
                .update("key", |n: Option<u64>| n.unwrap_or(0))
                .unwrap_err(),
            session.remove::<Vec<u8>>("key").unwrap_err(),
            session.login(format!("{USER}\n")).unwrap_err(),
        ] {
            confess(&error);
        }
    };
    let routes = Router::new().route("/refuse/{value}", post(refuse));
    let known = known(site, secrets).await;
    let mut browser = site.browser_with(routes).with_id_of(&known);
    browser.post(&format!("/refuse/{VALUE}")).await.assert_ok();
}

/// A browser with a session of the secret user that holds the secret value.
async fn known(site: &Site, secrets: &mut Secrets) -> Browser {
    let mut browser = site.browser();
    fill(&mut browser).await;
    secrets.learn(&browser);
    browser
}

async fn fill(browser: &mut Browser) {
    browser.post(&format!("/put/key/{VALUE}")).await.assert_ok();
    browser.post(&format!("/login/{USER}")).await.assert_ok();
}

/// An application that puts every error that it answers with into the log.
fn confessing(routes: Router, layer: SessionLayer) -> Router {
    let confess = async |response: Response| {
        if let Some(error) = response.extensions().get() {
            confess(error);
        }
        response
    };
    routes.layer(layer).layer(map_response(confess))
}

fn confess(error: &Error) {
    tracing::error!("{error} {error:?} {error:#?} {}", error.body_text());
    let mut source = error.source();
    while let Some(error) = source {
        tracing::error!("{error} {error:?}");
        source = error.source();
    }
}

/// What is not to be told: every id in both of its forms, the value and the user.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn learn(&mut self, browser: &Browser) {
        if let Some(written) = browser.id() {
            match SessionId::parse(written.as_bytes()) {
                Some(id) => {
                    self.0.push(written.to_owned());
                    self.0.push(id.record_id().to_hex());
                }
                // A token, of which no part is to be told either.
                None => self.0.push(written[20..60].to_owned()),
            }
        }
    }

    #[track_caller]
    fn are_not_in(&self, text: &str) {
        let text = text.to_ascii_lowercase();
        for secret in self.0.iter().map(String::as_str).chain([VALUE, USER]) {
            let place = text.find(&secret.to_ascii_lowercase());
            assert_eq!(place.map(|place| &text[place.saturating_sub(200)..]), None);
        }
    }
}

/// Always the same id.
#[derive(Debug)]
struct StuckRandom;

impl RandomSource for StuckRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        buffer.fill(7);
        Ok(())
    }
}

#[derive(Debug)]
struct NoRandom;

impl RandomSource for NoRandom {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError::new("no entropy"))
    }
}
