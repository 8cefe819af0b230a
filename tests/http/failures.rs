//! What becomes of a session when the handler or the store fails.

use axum::{Router, routing::post};
use http::StatusCode;
use tower_keep::{
    Error, ErrorKind, LazySession, Outage, Session,
    testing::{Fault, Operation},
};

use crate::support::{Browser, Site, app};

/// Statuses that are an answer like any other.
const ANSWERS: [&str; 10] = [
    "200", "204", "302", "304", "400", "401", "404", "409", "422", "499",
];

/// Statuses that say that the handler did not do what it set out to.
const FAILURES: [&str; 4] = ["500", "502", "503", "599"];

/// A browser that is logged in as `ada` and has a cart.
async fn shopper(site: &Site) -> Browser {
    let mut browser = site.browser();
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/cart/book").await.assert_ok();
    browser
}

#[tokio::test]
async fn a_change_before_an_answer_below_500_is_committed() {
    for status in ANSWERS {
        let site = Site::new();
        let mut browser = site.browser();
        let created = browser.post(&format!("/put/a/1?then={status}")).await;
        assert_eq!(created.status.as_str(), status);
        created.the_cookie();
        let before = browser.clone();
        let changed = browser.post(&format!("/put/b/2?then={status}")).await;
        assert_eq!(changed.status.as_str(), status);
        assert_eq!(browser.get("/dump").await.body, r#"{"a":"1","b":"2"}"#);
        browser.post(&format!("/login/ada?then={status}")).await;
        assert_eq!(browser.get("/whoami").await.body, "ada");
        assert!(before.is_anonymous().await);
    }
}

#[tokio::test]
async fn a_change_before_an_answer_of_500_and_above_is_not_committed() {
    for status in FAILURES {
        let site = Site::new();
        let mut stranger = site.browser();
        let failed = stranger.post(&format!("/put/a/1?then={status}")).await;
        assert_eq!(failed.status.as_str(), status);
        assert_eq!(failed.set_cookies(), [""; 0]);
        assert_eq!(site.memory.count().await, 0);

        let mut browser = shopper(&site).await;
        let before = site.record_of(&browser).await;
        for path in ["/put/a/1", "/remove/cart", "/clear", "/expire/60"] {
            let failed = browser.post(&format!("{path}?then={status}")).await;
            assert_eq!(failed.status.as_str(), status);
            assert_eq!(failed.set_cookies(), [""; 0]);
            assert_eq!(site.record_of(&browser).await, before);
        }
    }
}

#[tokio::test]
async fn a_rotation_before_an_answer_of_500_and_above_leaves_the_old_id_alive() {
    for status in FAILURES {
        for path in ["/cycle", "/login/ada", "/login/grace"] {
            let site = Site::new();
            let mut browser = shopper(&site).await;
            let before = site.record_of(&browser).await;
            let failed = browser.post(&format!("{path}?then={status}")).await;
            assert_eq!(failed.set_cookies(), [""; 0]);
            assert_eq!(site.record_of(&browser).await, before);
            assert_eq!(site.memory.count().await, 1);
            assert_eq!(browser.get("/whoami").await.body, "ada");
        }
    }
}

#[tokio::test]
async fn a_logout_before_an_answer_of_500_and_above_is_a_logout() {
    for status in FAILURES {
        for path in ["/logout", "/flush"] {
            let site = Site::new();
            let mut browser = shopper(&site).await;
            let captured = browser.clone();
            let failed = browser.post(&format!("{path}?then={status}")).await;
            assert_eq!(failed.status.as_str(), status);
            assert!(failed.the_cookie().contains("Max-Age=0"));
            assert!(captured.is_anonymous().await);
            assert_eq!(site.memory.count().await, 0);
        }
    }
}

#[tokio::test]
async fn after_a_flush_and_an_insert_and_a_500_the_old_session_is_dead_and_no_new_one_is_born() {
    let site = Site::new();
    let restart = async |session: Session| -> Result<StatusCode, Error> {
        session.flush()?;
        session.insert("new", 1)?;
        Ok(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let routes = Router::new().route("/restart", post(restart));
    let mut browser = site.browser_with(routes).with_id_of(&shopper(&site).await);
    let captured = browser.clone();
    let failed = browser.post("/restart").await;
    assert_eq!(failed.status, 500);
    assert!(failed.the_cookie().contains("Max-Age=0"));
    assert!(captured.is_anonymous().await);
    assert_eq!(site.memory.count().await, 0);
}

/// What happens when the handler panics after its work, in this process and over real HTTP.
async fn panic_after(path: &str, check: impl AsyncFn(&Site, &Browser)) {
    for over_http in [false, true] {
        let site = Site::new();
        let layer = site.layer();
        let app = app(layer.clone());
        let transport = match over_http {
            false => Browser::new(&app),
            true => Browser::over_http(&app).await,
        };
        let browser = transport.with_id_of(&shopper(&site).await);
        browser.post_and_panic(&format!("{path}?then=panic")).await;
        layer.drain().await;
        check(&site, &browser).await;
    }
}

#[tokio::test]
async fn a_change_before_a_panic_is_not_committed() {
    for path in ["/put/cart/pen", "/remove/cart", "/clear", "/expire/60"] {
        panic_after(path, async |site, browser| {
            let mut browser = browser.clone();
            let dump = browser.get("/dump").await.assert_ok();
            assert_eq!(dump.body, r#"{"cart":"book"}"#);
            assert_eq!(dump.set_cookies(), [""; 0]);
            assert_eq!(site.record_of(&browser).await.unwrap().version.revision, 2);
        })
        .await;
    }
}

#[tokio::test]
async fn a_rotation_before_a_panic_leaves_the_old_id_alive() {
    for path in ["/cycle", "/login/ada", "/login/grace"] {
        panic_after(path, async |site, browser| {
            let mut browser = browser.clone();
            assert_eq!(browser.get("/whoami").await.body, "ada");
            assert_eq!(browser.get("/dump").await.body, r#"{"cart":"book"}"#);
            assert_eq!(site.memory.count().await, 1);
        })
        .await;
    }
}

#[tokio::test]
async fn a_logout_before_a_panic_is_a_logout() {
    for path in ["/logout", "/flush"] {
        panic_after(path, async |site, browser| {
            assert!(browser.is_anonymous().await);
            assert_eq!(site.memory.count().await, 0);
        })
        .await;
    }
}

#[tokio::test]
async fn what_was_saved_before_a_500_stays_saved_and_its_new_id_reaches_the_client() {
    let site = Site::new();
    let fail = async |session: Session| -> Result<StatusCode, Error> {
        session.login("ada")?;
        session.save().await?;
        session.insert("lost", 1)?;
        Ok(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let routes = Router::new().route("/fail", post(fail));
    let mut browser = site.browser_with(routes);
    browser.post("/put/cart/book").await.assert_ok();
    let before = browser.clone();
    let failed = browser.post("/fail").await;
    assert_eq!(failed.status, 500);
    assert!(failed.the_cookie().contains(browser.id().unwrap()));
    assert_ne!(browser.id(), before.id());
    assert_eq!(browser.get("/whoami").await.body, "ada");
    assert_eq!(browser.get("/dump").await.body, r#"{"cart":"book"}"#);
    assert!(before.is_anonymous().await);
}

#[tokio::test]
async fn a_store_that_fails_on_load_is_a_503_and_not_a_logout() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    let before = site.record_of(&browser).await;
    site.store.inject(Fault::Fail);
    for path in ["/loaded", "/optional", "/get/cart", "/whoami", "/dump"] {
        let refused = browser.get(path).await;
        assert_eq!(refused.status, 503, "{path}");
        assert_eq!(refused.set_cookies(), [""; 0]);
        assert_eq!(refused.body, "the session is unavailable, try again");
    }
    for path in [
        "/put/cart/pen",
        "/login/grace",
        "/flush",
        "/cycle",
        "/clear",
    ] {
        let refused = browser.post(path).await;
        assert_eq!(refused.status, 503, "{path}");
        assert_eq!(refused.set_cookies(), [""; 0]);
    }
    browser.get("/ignored").await.assert_ok();
    site.store.heal();
    assert_eq!(site.record_of(&browser).await, before);
    assert_eq!(browser.get("/whoami").await.body, "ada");
    assert_eq!(browser.get("/dump").await.body, r#"{"cart":"book"}"#);
}

#[tokio::test]
async fn clients_without_a_cookie_are_served_while_the_store_is_out() {
    let site = Site::new();
    site.store.inject(Fault::Fail);
    assert!(site.browser().is_anonymous().await);
}

#[tokio::test]
async fn a_store_that_fails_on_save_is_a_503_and_hands_out_no_id() {
    use Operation::{Create, Rotate, Update};
    for fault in [Fault::Fail, Fault::LoseReply] {
        let site = Site::new();
        let mut browser = shopper(&site).await;
        site.store.inject_on(&[Create, Rotate, Update], fault);
        for path in ["/put/cart/pen", "/count/visits"] {
            let refused = browser.post(path).await;
            assert_eq!((refused.status.as_u16(), &*refused.body), (503, ""));
            assert_eq!(refused.set_cookies(), [""; 0]);
        }
        let mut stranger = browser.stranger();
        for path in ["/put/cart/pen", "/login/grace"] {
            let refused = stranger.post(path).await;
            assert_eq!(refused.status, 503);
            assert_eq!(refused.set_cookies(), [""; 0]);
        }
        site.store.heal();
        assert_eq!(browser.get("/whoami").await.body, "ada");
        let cart = browser.get("/get/cart").await.body;
        assert_eq!(cart == r#""book""#, fault == Fault::Fail, "{cart}");
    }
}

#[tokio::test]
async fn a_store_that_fails_on_rotation_leaves_the_old_id_alive() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    let before = site.record_of(&browser).await;
    site.store.inject_on(&[Operation::Rotate], Fault::Fail);
    for path in ["/cycle", "/login/ada", "/login/grace"] {
        let refused = browser.post(path).await;
        assert_eq!(refused.status, 503);
        assert_eq!(refused.set_cookies(), [""; 0]);
        assert_eq!(site.record_of(&browser).await, before);
    }
    site.store.heal();
    assert_eq!(browser.get("/whoami").await.body, "ada");
    assert_eq!(site.memory.count().await, 1);
}

#[tokio::test]
async fn a_store_that_fails_on_logout_is_a_503_and_the_cookie_is_kept_for_another_try() {
    for fault in [Fault::Fail, Fault::LoseReply] {
        for logout in ["/logout", "/flush"] {
            let site = Site::new();
            let mut browser = shopper(&site).await;
            site.store.inject_on(&[Operation::Delete], fault);
            let refused = browser.post(logout).await;
            assert_eq!(refused.status, 503, "{logout}");
            assert_eq!(refused.set_cookies(), [""; 0]);
            let captured = browser.clone();
            site.store.heal();
            assert_eq!(captured.is_anonymous().await, fault == Fault::LoseReply);
            browser.post(logout).await.assert_ok();
            assert!(captured.is_anonymous().await);
            assert_eq!(site.memory.count().await, 0);
        }
    }
}

#[tokio::test]
async fn a_touch_that_fails_does_not_refuse_the_answer() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    let before = site.record_of(&browser).await;
    site.pass(2 * 24 * 60 * 60);
    site.store.inject_on(&[Operation::Touch], Fault::Fail);
    let read = browser.get("/get/cart").await.assert_ok();
    assert_eq!(read.body, r#""book""#);
    assert_eq!(read.set_cookies(), [""; 0]);
    assert_eq!(site.record_of(&browser).await, before);
    site.store.heal();
    browser.get("/get/cart").await.assert_ok().the_cookie();
    assert_ne!(site.record_of(&browser).await, before);
}

#[tokio::test]
async fn an_explicit_save_that_fails_is_an_error_and_can_be_tried_again() {
    let site = Site::new();
    let store = std::sync::Arc::clone(&site.store);
    let twice = async move |session: Session| -> Result<(), Error> {
        session.insert("order", "placed")?;
        store.inject(Fault::Fail);
        let error = session.save().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert_eq!(error.store_error().unwrap().store(), "faulty");
        store.heal();
        session.save().await
    };
    let mut browser = site.browser_with(Router::new().route("/twice", post(twice)));
    browser.post("/twice").await.assert_ok().the_cookie();
    assert_eq!(browser.get("/dump").await.body, r#"{"order":"placed"}"#);
    assert_eq!(site.memory.count().await, 1);
}

#[tokio::test]
async fn a_route_that_serves_anonymously_during_an_outage_can_not_change_anything() {
    let site = Site::new();
    let mut known = shopper(&site).await;
    let before = site.record_of(&known).await;
    let app = app(site.layer().with_outage(Outage::Anonymous));
    let mut browser = Browser::new(&app).with_id_of(&known);
    site.store.inject(Fault::Fail);
    assert!(browser.is_anonymous().await);
    for path in ["/put/cart/pen", "/login/grace", "/cycle", "/clear"] {
        let refused = browser.post(path).await;
        assert_eq!(refused.status, 503, "{path}");
        assert_eq!(refused.set_cookies(), [""; 0]);
    }
    for logout in ["/logout", "/flush"] {
        let refused = browser.post(logout).await;
        assert_eq!(refused.status, 503, "{logout}");
        assert_eq!(refused.set_cookies(), [""; 0]);
    }
    site.store.heal();
    assert_eq!(site.record_of(&known).await, before);
    assert_eq!(known.get("/whoami").await.body, "ada");
}

/// The session that stood in for another gives way to it, and never takes its cookie.
#[tokio::test]
async fn a_reload_behind_an_outage_puts_the_live_session_in_place_of_the_stand_in() {
    let site = Site::new();
    let mut known = shopper(&site).await;
    let store = std::sync::Arc::clone(&site.store);
    let handler = async move |session: Session| -> Result<String, Error> {
        store.inject(Fault::Fail);
        assert!(session.reload().await.is_err(), "the outage lasts");
        let refused = session.insert("new", "data").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly);
        store.heal();
        session.reload().await?;
        session.insert("new", "data")?;
        Ok(session.user().map_or("-".into(), |user| user.to_string()))
    };
    let app = Router::new()
        .route("/", post(handler))
        .layer(site.layer().with_outage(Outage::Anonymous));
    let mut browser = Browser::new(&app).with_id_of(&known);
    site.store.inject(Fault::Fail);
    let answer = browser.post("/").await.assert_ok();
    assert_eq!(answer.body, "ada");
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(
        known.get("/dump").await.body,
        r#"{"cart":"book","new":"data"}"#
    );
    assert_eq!(site.memory.count().await, 1);
}

#[tokio::test]
async fn a_handler_that_answers_in_spite_of_a_failed_load_changes_nothing() {
    let site = Site::new();
    let brave = async |session: LazySession| match session.load().await {
        Ok(_) => "loaded",
        Err(error) if error.kind() == ErrorKind::Store => "guest",
        Err(_) => "?",
    };
    let routes = Router::new().route("/brave", post(brave));
    let known = shopper(&site).await;
    let before = site.record_of(&known).await;
    let mut browser = site.browser_with(routes).with_id_of(&known);
    site.store.inject(Fault::Fail);
    let answer = browser.post("/brave").await.assert_ok();
    assert_eq!(answer.body, "guest");
    assert_eq!(answer.set_cookies(), [""; 0]);
    site.store.heal();
    assert_eq!(browser.post("/brave").await.body, "loaded");
    assert_eq!(site.record_of(&known).await, before);
}
