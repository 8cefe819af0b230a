//! Code of the application that panics.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::post,
};
use http::StatusCode;
use tower_keep::{Error, Session};

use crate::support::{Browser, Gate, TestStore, layer_over, post_meanwhile, router};

/// Outside of the layer: a panic becomes a 500.
async fn catch(request: Request, next: Next) -> Response {
    let mut answer = pin!(next.run(request));
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(StatusCode::INTERNAL_SERVER_ERROR.into_response()))
    })
    .await
}

async fn panicking_update(session: Session) -> Result<(), Error> {
    session.insert("before", "lost")?;
    session.cycle_id()?;
    session.update("n", |_: Option<u64>| -> u64 { panic!("a bug") })?;
    Ok(())
}

/// Good for the number that it sees first, not for the one that another request stores meanwhile.
async fn panicking_replay(session: Session) -> Result<(), Error> {
    session.insert("before", "lost")?;
    session.update("n", |n: Option<u64>| match n {
        Some(1) => 2,
        _ => panic!("a bug"),
    })?;
    Ok(())
}

fn scene() -> (Gate, TestStore, Browser) {
    let (gate, store) = (Gate::new(), TestStore::new());
    let routes: Router = router()
        .route("/update", post(panicking_update))
        .route("/replay", post(panicking_replay));
    let app = gate
        .behind(routes)
        .layer(layer_over(store.clone()))
        .layer(from_fn(catch));
    let browser = Browser::new(&app);
    (gate, store, browser)
}

#[tokio::test]
async fn an_update_that_panics_is_a_500_and_the_session_stays_as_it_was() {
    let (_, store, mut browser) = scene();
    browser.post("/login/alice").await.assert_ok();
    browser.post("/count/n").await.assert_ok();
    let answer = browser.post("/update").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(browser.get("/dump").await.body, r#"{"n":1}"#);
    assert_eq!(browser.get("/whoami").await.body, "alice");
    assert_eq!(store.count().await, 1);
}

#[tokio::test]
async fn an_update_that_panics_when_it_is_replayed_is_a_500_and_the_other_write_stays() {
    let (gate, store, mut browser) = scene();
    browser.post("/login/alice").await.assert_ok();
    browser.post("/count/n").await.assert_ok();
    for n in 1..4 {
        let late = post_meanwhile(&browser, "/replay?hold");
        gate.arrived(n).await;
        browser.post("/count/n").await.assert_ok();
        gate.open(1);
        let (_, answer) = late.await.unwrap();
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(browser.get("/dump").await.body, r#"{"n":2}"#);
        // Those who come later wait for nothing that the panic has left behind.
        browser.post("/remove/n").await.assert_ok();
        browser.post("/count/n").await.assert_ok();
    }
    assert_eq!(store.count().await, 1);
}

#[tokio::test]
async fn with_a_catcher_inside_of_the_layer_a_login_that_was_saved_reaches_its_client() {
    let handler = async |session: Session| {
        session.login("ada").unwrap();
        session.save().await.unwrap();
        session.insert("lost", 1).unwrap();
        if session.user().is_some() {
            panic!("a bug");
        }
    };
    let store = TestStore::new();
    let route = router().route("/login", post(handler));
    let app = route.layer(from_fn(catch)).layer(layer_over(store.clone()));
    let mut browser = Browser::new(&app);
    browser.post("/put/cart/book").await.assert_ok();
    let mut before = browser.clone();
    let answer = browser.post("/login").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.the_cookie().contains(browser.id().unwrap()));
    assert_eq!(browser.get("/whoami").await.body, "ada");
    assert_eq!(browser.get("/dump").await.body, r#"{"cart":"book"}"#);
    assert_eq!(before.get("/whoami").await.body, "-");
    assert_eq!(store.count().await, 1);
}
