//! A store that does one write and loses its reply.

use axum::{Router, routing::post};
use tower_keep::{
    Error, Record, Session,
    testing::{Fault, Operation},
};

use crate::support::{Browser, Site};

/// What may become of a call that the layer sees fail.
const LOST: [Fault; 2] = [Fault::LoseReply, Fault::Fail];

/// Changes that give the session a new id.
const ROTATIONS: [&str; 2] = ["/cycle", "/login/ada"];

/// Counts and saves, alone and with a new id.
fn saves() -> Router {
    async fn update(session: Session) -> Result<(), Error> {
        session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
        session.save().await
    }
    async fn rotate(session: Session) -> Result<(), Error> {
        session.cycle_id()?;
        update(session).await
    }
    Router::new()
        .route("/save/update", post(update))
        .route("/save/rotate", post(rotate))
}

/// A browser that is logged in as `ada` and has visited once.
async fn visitor(site: &Site) -> Browser {
    let mut browser = site.browser_with(saves());
    browser.post("/login/ada").await.assert_ok();
    browser.post("/count/visits").await.assert_ok();
    browser
}

async fn revision(site: &Site, browser: &Browser) -> u64 {
    let record: Record = site.record_of(browser).await.unwrap();
    record.version.revision
}

#[tokio::test]
async fn an_update_whose_reply_is_lost_once_is_answered_and_applied_once() {
    for fault in LOST {
        for path in ["/count/visits", "/save/update"] {
            let site = Site::new();
            let mut browser = visitor(&site).await;
            let before = revision(&site, &browser).await;
            site.store.inject_once(Operation::Update, fault);
            let answer = browser.post(path).await.assert_ok();
            let case = format!("{path} {fault:?}");
            assert_eq!(answer.set_cookies(), [""; 0], "{case}");
            assert_eq!(browser.get("/get/visits").await.body, "2", "{case}");
            assert_eq!(revision(&site, &browser).await, before + 1, "{case}");
            assert_eq!(site.memory.count().await, 1, "{case}");
        }
    }
}

#[tokio::test]
async fn a_rotation_whose_reply_is_lost_once_leaves_the_session_under_the_id_the_client_was_given()
{
    for fault in LOST {
        for path in ROTATIONS {
            let site = Site::new();
            let mut browser = visitor(&site).await;
            let before = browser.clone();
            site.store.inject_once(Operation::Rotate, fault);
            let cookie = browser.post(path).await.assert_ok().the_cookie();
            let case = format!("{path} {fault:?}");
            assert_ne!(browser.id(), before.id(), "{case}");
            assert!(cookie.contains(browser.id().unwrap()), "{case}");
            assert_eq!(browser.get("/whoami").await.body, "ada", "{case}");
            assert_eq!(browser.get("/get/visits").await.body, "1", "{case}");
            assert!(before.is_anonymous().await, "{case}");
            assert_eq!(site.memory.count().await, 1, "{case}");
        }
    }
}

#[tokio::test]
async fn a_saved_rotation_whose_reply_is_lost_once_is_applied_once_under_the_id_the_client_was_given()
 {
    for fault in LOST {
        let site = Site::new();
        let mut browser = visitor(&site).await;
        let before = browser.clone();
        site.store.inject_once(Operation::Rotate, fault);
        let answer = browser.post("/save/rotate").await.assert_ok();
        assert!(answer.the_cookie().contains(browser.id().unwrap()));
        assert_eq!(browser.get("/get/visits").await.body, "2", "{fault:?}");
        assert!(before.is_anonymous().await, "{fault:?}");
        assert_eq!(site.memory.count().await, 1, "{fault:?}");
    }
}
