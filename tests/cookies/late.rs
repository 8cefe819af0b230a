//! Changes around the answer: a save before it, and what comes too late for a cookie.

use std::sync::Arc;

use axum::routing::post;
use tokio::sync::mpsc;
use tower_keep::{Error, ErrorKind, Session, SessionLayer};

use crate::{
    both_kinds,
    support::{Browser, router},
    world::{DAY, Kind, World},
};

both_kinds!(
    what_was_saved_reaches_the_browser_even_if_the_handler_then_fails,
    a_reload_before_the_answer_discards_what_was_not_saved,
    after_the_answer_a_change_is_an_error_and_not_lost_in_silence,
    after_the_answer_a_reload_tells_of_a_logout,
    after_the_answer_a_reload_tells_of_the_absolute_deadline,
    after_the_answer_a_logout_is_final_or_an_error,
);

async fn what_was_saved_reaches_the_browser_even_if_the_handler_then_fails(kind: Kind) {
    let save = async |session: Session| -> Result<(), Error> {
        session.insert("order", "placed")?;
        session.save().await?;
        session.insert("order", "paid")
    };
    let world = World::new(kind);
    let routes = router().route(
        "/order",
        post(save).layer(axum::middleware::map_response(
            async |_: axum::response::Response| http::StatusCode::INTERNAL_SERVER_ERROR,
        )),
    );
    let mut browser = Browser::new(&routes.layer(world.layer()));
    for _ in 0..2 {
        let answer = browser.post("/order").await;
        assert_eq!(answer.status, http::StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(browser.get("/get/order").await.body, "\"placed\"");
        browser.post("/put/order/none").await.assert_ok();
    }
}

async fn a_reload_before_the_answer_discards_what_was_not_saved(kind: Kind) {
    let reload = async |session: Session| -> Result<String, Error> {
        session.insert("a", 1)?;
        session.save().await?;
        session.insert("a", 2)?;
        session.reload().await?;
        Ok(session.get::<u32>("a")?.unwrap_or_default().to_string())
    };
    let world = World::new(kind);
    let routes = router().route("/reload", post(reload));
    let mut browser = Browser::new(&routes.layer(world.layer()));
    for _ in 0..2 {
        assert_eq!(browser.post("/reload").await.assert_ok().body, "1");
        assert_eq!(browser.get("/get/a").await.body, "1");
        browser.post("/clear").await.assert_ok();
    }
}

/// A route that hands its session out, to be used after the answer.
fn handing_out(layer: SessionLayer) -> (Browser, mpsc::UnboundedReceiver<Session>) {
    let (give, given) = mpsc::unbounded_channel();
    let give = Arc::new(give);
    let route = move |session: Session| {
        let give = Arc::clone(&give);
        async move { give.send(session).unwrap() }
    };
    let routes = router().route("/stream", post(route));
    (Browser::new(&routes.layer(layer)), given)
}

async fn after_the_answer_a_change_is_an_error_and_not_lost_in_silence(kind: Kind) {
    let (mut browser, mut given) = handing_out(World::new(kind).layer());
    browser.post("/put/color/red").await.assert_ok();
    browser.post("/stream").await.assert_ok();
    let session = given.recv().await.unwrap();
    let change = |session: &Session| session.insert("color", "blue").unwrap_err().kind();
    assert_eq!(change(&session), ErrorKind::Committed);
    session.reload().await.unwrap();
    assert_eq!(
        session.get::<String>("color").unwrap().as_deref(),
        Some("red")
    );
    assert_eq!(change(&session), ErrorKind::Committed);
    assert_eq!(
        session.login("ada").unwrap_err().kind(),
        ErrorKind::Committed
    );
    session.save().await.unwrap();
    assert_eq!(browser.get("/get/color").await.body, "\"red\"");
}

async fn after_the_answer_a_reload_tells_of_a_logout(kind: Kind) {
    let (mut browser, mut given) = handing_out(World::new(kind).layer());
    browser.post("/login/ada").await.assert_ok();
    browser.post("/stream").await.assert_ok();
    let session = given.recv().await.unwrap();
    session.reload().await.unwrap();
    assert_eq!(session.user().unwrap().as_str(), "ada");
    browser.post("/logout").await.assert_ok();
    session.reload().await.unwrap();
    assert_eq!(session.user(), None);
}

async fn after_the_answer_a_reload_tells_of_the_absolute_deadline(kind: Kind) {
    let world = World::new(kind);
    let (mut browser, mut given) = handing_out(world.layer_without_revocations());
    browser.post("/login/ada").await.assert_ok();
    browser.post("/stream").await.assert_ok();
    let session = given.recv().await.unwrap();
    world.pass(30 * DAY - 1);
    session.reload().await.unwrap();
    assert!(session.user().is_some());
    world.pass(1);
    session.reload().await.unwrap();
    assert_eq!(session.user(), None);
}

async fn after_the_answer_a_logout_is_final_or_an_error(kind: Kind) {
    let world = World::new(kind);
    let without = world.layer_without_revocations();
    for (layer, is_final) in [(world.layer(), true), (without, false)] {
        let (mut browser, mut given) = handing_out(layer);
        browser.post("/login/ada").await.assert_ok();
        browser.post("/stream").await.assert_ok();
        let session = given.recv().await.unwrap();
        session.reload().await.unwrap();
        match session.flush() {
            Ok(()) => session.save().await.unwrap(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Committed),
        }
        assert_eq!(!browser.is_alive().await, is_final);
    }
}
