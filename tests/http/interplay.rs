//! Flushes, saves and reloads of one request that come between each other.

use std::sync::Arc;

use axum::{Router, extract::Path, routing::post};
use tower_keep::{Error, ErrorKind, Session};

use crate::support::{
    Browser, Gate, TestStore, WatchedStore, layer_over, post_meanwhile, router, yields,
};

/// More steps than a save or a reload over the store of these tests takes.
const STEPS: usize = 12;

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// A browser at an application with one more route, over a store that works in small steps.
fn scene(routes: Router) -> (WatchedStore<TestStore>, Browser) {
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 3);
    let app = router().merge(routes).layer(layer_over(store.clone()));
    (store, Browser::new(&app))
}

/// Changes the session, saves it, and flushes it so many steps after the save has begun.
async fn flush_during_save(
    session: Session,
    Path((change, steps)): Path<(String, usize)>,
) -> Result<(), Error> {
    session.insert("canary", "saved")?;
    if change == "rotate" {
        session.cycle_id()?;
    }
    let flush = async {
        yields(steps).await;
        session.flush()
    };
    let (saved, flushed) = tokio::join!(session.save(), flush);
    saved.and(flushed)
}

/// The flush comes at every step of the save, and at last when the save is through.
async fn ended_by_a_flush_during_its_save(change: &str) {
    for steps in 0..STEPS {
        let routes = Router::new().route("/{change}/{steps}", post(flush_during_save));
        let (store, mut browser) = scene(routes);
        if change != "create" {
            browser.post("/login/alice").await.assert_ok();
        }
        let mut before = browser.clone();
        let path = format!("/{change}/{steps}");
        let removal = browser.post(&path).await.assert_ok().the_cookie();
        assert!(removal.contains("Max-Age=0"), "{path}: {removal}");
        assert_eq!(browser.id(), None, "{path}");
        assert_eq!(store.live().await, [], "{path}");
        assert_eq!(before.get("/whoami").await.body, "-", "{path}");
    }
}

#[tokio::test]
async fn a_flush_while_a_new_session_is_saved_ends_what_the_save_creates() {
    ended_by_a_flush_during_its_save("create").await;
}

#[tokio::test]
async fn a_flush_while_a_change_is_saved_ends_what_the_save_updates() {
    ended_by_a_flush_during_its_save("update").await;
}

#[tokio::test]
async fn a_flush_while_a_new_id_is_saved_ends_what_the_save_rotates() {
    ended_by_a_flush_during_its_save("rotate").await;
}

#[tokio::test]
async fn a_change_while_a_save_is_under_way_is_refused_and_one_after_it_is_stored() {
    let handler = async |session: Session| {
        session.insert("early", 1).unwrap();
        let change = async { kind(session.insert("meanwhile", 2)) };
        let (saved, changed) = tokio::join!(session.save(), change);
        saved.unwrap();
        assert_eq!(changed, Some(ErrorKind::Committed));
        session.insert("late", 3).unwrap();
    };
    let (_, mut browser) = scene(Router::new().route("/", post(handler)));
    browser.post("/").await.assert_ok().the_cookie();
    assert_eq!(browser.get("/dump").await.body, r#"{"early":1,"late":3}"#);
}

#[tokio::test]
async fn a_change_while_a_reload_is_under_way_is_refused_and_one_after_it_is_stored() {
    let handler = async |session: Session| {
        session.insert("unsaved", 1).unwrap();
        let changes = async {
            [
                kind(session.insert("meanwhile", 2)),
                kind(session.update("meanwhile", |n: Option<u64>| n.unwrap_or(2))),
                kind(session.remove::<String>("kept")),
                kind(session.clear()),
                kind(session.login("mallory")),
                kind(session.cycle_id()),
            ]
        };
        let (reloaded, changed) = tokio::join!(session.reload(), changes);
        reloaded.unwrap();
        assert_eq!(changed, [Some(ErrorKind::Committed); 6]);
        session.insert("late", 3).unwrap();
    };
    let (_, mut browser) = scene(Router::new().route("/", post(handler)));
    browser.post("/put/kept/data").await.assert_ok();
    let answer = browser.post("/").await.assert_ok();
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(
        browser.get("/dump").await.body,
        r#"{"kept":"data","late":3}"#
    );
    assert_eq!(browser.get("/whoami").await.body, "-");
}

/// Flushes the session so many steps after its reload has begun; then the reload is through.
async fn flush_during_reload(session: Session, Path(steps): Path<usize>) -> Result<String, Error> {
    let flush = async {
        yields(steps).await;
        session.flush()
    };
    let (reloaded, flushed) = tokio::join!(session.reload(), flush);
    reloaded.and(flushed)?;
    Ok(format!("{} {:?}", session.len(), session.user()))
}

#[tokio::test]
async fn a_flush_while_a_reload_is_under_way_is_final() {
    for steps in 0..STEPS {
        let routes = Router::new().route("/{steps}", post(flush_during_reload));
        let (store, mut browser) = scene(routes);
        browser.post("/login/alice").await.assert_ok();
        browser.post("/put/canary/stored").await.assert_ok();
        let mut before = browser.clone();
        let answer = browser.post(&format!("/{steps}")).await.assert_ok();
        assert_eq!(answer.body, "0 None", "{steps} steps");
        let removal = answer.the_cookie();
        assert!(removal.starts_with("__Host-id=;"), "{steps}: {removal}");
        assert_eq!(browser.id(), None, "{steps} steps");
        assert_eq!(store.live().await, [], "{steps} steps");
        assert_eq!(before.get("/dump").await.body, "{}", "{steps} steps");
    }
}

/// A save of `/late` comes behind `meanwhile`, which ends the session or gives it another id; then
/// the handler does one thing more.
async fn after_gone(meanwhile: &str, then: fn(&Session)) -> (TestStore, Browser) {
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move |session: Session| async move {
        session.insert("step", 1).unwrap();
        held.pass().await;
        assert_eq!(kind(session.save().await), Some(ErrorKind::Gone));
        then(&session);
    };
    let store = TestStore::new();
    let app = router().route("/late", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(store.clone())));
    browser.post("/put/cart/full").await.assert_ok();
    let late = post_meanwhile(&browser, "/late");
    gate.arrived(1).await;
    browser.post(meanwhile).await.assert_ok();
    gate.open(1);
    let (late, answer) = late.await.unwrap();
    // Both requests are of one client: a cookie of the late answer takes the place of the other.
    if !answer.assert_ok().set_cookies().is_empty() {
        browser = late;
    }
    (store, browser)
}

fn every_change_is_gone(session: &Session) {
    let changes = [
        kind(session.insert("step", 2)),
        kind(session.update("step", |n: Option<u64>| n.unwrap_or(2))),
        kind(session.remove::<u64>("step")),
        kind(session.clear()),
        kind(session.cycle_id()),
        kind(session.login("mallory")),
    ];
    assert_eq!(changes, [Some(ErrorKind::Gone); 6]);
}

#[tokio::test]
async fn a_change_after_a_save_that_was_gone_is_gone_and_leaves_the_cookie_of_a_login_alone() {
    let (store, mut browser) = after_gone("/login/ada", every_change_is_gone).await;
    assert_eq!(browser.get("/whoami").await.body, "ada");
    assert_eq!(browser.get("/dump").await.body, r#"{"cart":"full"}"#);
    assert_eq!(store.count().await, 1);
}

#[tokio::test]
async fn a_change_after_a_save_that_was_gone_is_gone_and_brings_nothing_back_after_a_logout() {
    let (store, mut browser) = after_gone("/logout", every_change_is_gone).await;
    assert_eq!(browser.get("/dump").await.body, "{}");
    assert_eq!(store.count().await, 0);
}

#[tokio::test]
async fn after_a_save_that_was_gone_a_flush_begins_no_new_session() {
    let anew = |session: &Session| {
        session.flush().unwrap();
        let late = session.insert("new", "data").unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Gone);
    };
    let (store, mut browser) = after_gone("/logout", anew).await;
    assert_eq!(browser.get("/dump").await.body, "{}");
    assert_eq!(store.count().await, 0);
}
