//! How sessions end by themselves.

use std::time::Duration;

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use tower_keep::{Clock, Error, Expiry, Session, SessionLayer, testing::ManualClock};

use crate::support::{Browser, Gate, Site, app, post_meanwhile, router};

/// The layer's idle time in these tests, in seconds.
const IDLE: u64 = 1000;

/// The layer's absolute time in these tests, in seconds.
const ABSOLUTE: u64 = 3500;

fn layer(site: &Site) -> SessionLayer {
    site.layer()
        .with_idle_timeout(Duration::from_secs(IDLE))
        .with_absolute_timeout(Duration::from_secs(ABSOLUTE))
}

/// A browser with a session that holds a cart.
async fn shopper(site: &Site) -> Browser {
    let mut browser = Browser::new(&app(layer(site)));
    browser.post("/put/cart/book").await.assert_ok();
    browser
}

#[tokio::test]
async fn a_session_lives_to_its_idle_timeout_and_not_beyond() {
    for (secs, dead) in [(IDLE - 1, false), (IDLE, true), (IDLE + 1, true)] {
        let site = Site::new();
        let mut browser = shopper(&site).await;
        site.pass(secs);
        let optional = browser.get("/optional").await.assert_ok();
        assert_eq!(optional.body == "none", dead, "{secs}");
        assert_eq!(optional.set_cookies().is_empty(), dead, "{secs}");
    }
}

#[tokio::test]
async fn a_read_just_before_the_end_postpones_it_for_the_server_and_the_browser() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    let id = browser.id().unwrap().to_owned();
    for _ in 0..2 {
        site.pass(IDLE - 1);
        let read = browser.get("/get/cart").await.assert_ok();
        assert_eq!(read.body, r#""book""#);
        read.the_cookie();
        assert_eq!(browser.id(), Some(&*id), "an old id in a newer cookie");
        assert_eq!(browser.max_age(), Some(Duration::from_secs(IDLE)));
    }
    site.pass(IDLE + 1);
    assert!(browser.is_anonymous().await);
}

#[tokio::test]
async fn a_request_that_does_not_ask_for_the_session_postpones_nothing() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    site.pass(IDLE - 1);
    let ignored = browser.get("/ignored").await.assert_ok();
    assert_eq!(ignored.set_cookies(), [""; 0]);
    site.pass(2);
    assert!(browser.is_anonymous().await);
}

#[tokio::test]
async fn no_activity_carries_a_session_over_its_absolute_timeout() {
    use http::Method;
    for (method, path) in [
        (Method::GET, "/get/cart"),
        (Method::POST, "/count/visits"),
        (Method::POST, "/cycle"),
        (Method::POST, "/expire/100000"),
    ] {
        let site = Site::new();
        let mut browser = shopper(&site).await;
        for _ in 0..6 {
            site.pass(ABSOLUTE / 7);
            browser.send(method.clone(), path).await.assert_ok();
        }
        site.pass(ABSOLUTE / 7 - 1);
        assert!(!browser.is_anonymous().await, "{path}");
        site.pass(2);
        assert!(browser.is_anonymous().await, "{path}");
    }
}

#[tokio::test]
async fn a_login_starts_the_absolute_time_anew() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    for _ in 0..4 {
        site.pass(800);
        browser.get("/get/cart").await.assert_ok();
    }
    browser.post("/login/ada").await.assert_ok();
    for _ in 0..4 {
        site.pass(800);
        let cart = browser.get("/get/cart").await.assert_ok();
        assert_eq!(cart.body, r#""book""#);
    }
    site.pass(ABSOLUTE - 4 * 800 - 1);
    assert!(!browser.is_anonymous().await);
    site.pass(2);
    assert!(browser.is_anonymous().await);
}

#[tokio::test]
async fn a_write_to_an_expired_session_starts_a_new_one_without_the_old_data() {
    for path in ["/put/new/data", "/login/grace"] {
        let site = Site::new();
        let mut browser = shopper(&site).await;
        browser.post("/login/ada").await.assert_ok();
        browser.post("/put/cart/book").await.assert_ok();
        let before = browser.clone();
        site.pass(IDLE + 1);
        browser.post(path).await.assert_ok().the_cookie();
        assert_ne!(browser.id(), before.id());
        assert_eq!(browser.get("/get/cart").await.body, "-");
        assert_ne!(browser.get("/whoami").await.body, "ada");
        assert!(before.is_anonymous().await);
        assert_eq!(site.record_of(&before).await, None);
        assert_eq!(site.contents().await.len(), 1);
    }
}

#[tokio::test]
async fn a_session_that_only_the_nodes_clock_calls_expired_is_not_written_again() {
    let site = Site::new();
    let before = shopper(&site).await;
    let ahead = ManualClock::new();
    ahead.advance(Duration::from_secs(IDLE + 60));
    let node = app(layer(&site).with_clock(ahead));
    let mut browser = Browser::new(&node).with_id_of(&before);
    let old = site.record_of(&before).await;
    assert!(browser.is_anonymous().await);
    browser.post("/put/new/data").await.assert_ok();
    assert_ne!(browser.id(), before.id());
    assert_eq!(browser.get("/dump").await.body, r#"{"new":"data"}"#);
    assert_eq!(site.record_of(&before).await, old);
}

#[tokio::test]
async fn a_session_that_expires_during_a_request_is_not_revived_by_its_write() {
    let site = Site::new();
    let clock = site.clock.clone();
    let slow = async move |session: Session| {
        clock.advance(Duration::from_secs(IDLE + 1));
        session.insert("late", 1)
    };
    let app = router().route("/slow", post(slow)).layer(layer(&site));
    let mut browser = Browser::new(&app);
    browser.post("/put/cart/book").await.assert_ok();
    let answer = browser.post("/slow").await.assert_ok();
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert!(browser.is_anonymous().await);
    assert_eq!(site.contents().await, []);
}

#[tokio::test]
async fn a_rule_of_its_own_lasts_for_the_life_of_a_session() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    browser.post("/expire/60").await.assert_ok();
    assert_eq!(browser.max_age(), Some(Duration::from_secs(60)));
    for path in ["/count/visits", "/cycle", "/login/ada", "/count/visits"] {
        site.pass(59);
        browser.post(path).await.assert_ok();
        assert_eq!(browser.max_age(), Some(Duration::from_secs(60)), "{path}");
    }
    for _ in 0..2 {
        site.pass(59);
        browser.get("/loaded").await.assert_ok().the_cookie();
        assert_eq!(browser.max_age(), Some(Duration::from_secs(60)));
    }
    site.pass(61);
    assert!(browser.is_anonymous().await);
}

#[tokio::test]
async fn a_rule_longer_than_the_layers_idle_time_holds_up_to_the_absolute_time() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    browser.post("/expire/100000").await.assert_ok();
    site.pass(ABSOLUTE - 1);
    assert!(!browser.is_anonymous().await);
    site.pass(2);
    assert!(browser.is_anonymous().await);
}

#[tokio::test]
async fn a_rule_that_is_reset_gives_way_to_the_layers() {
    let site = Site::new();
    let mut browser = shopper(&site).await;
    browser.post("/expire/60").await.assert_ok();
    browser.post("/expire/reset").await.assert_ok();
    assert_eq!(browser.max_age(), Some(Duration::from_secs(IDLE)));
    site.pass(IDLE - 1);
    let read = browser.get("/get/cart").await.assert_ok();
    assert_eq!(read.body, r#""book""#);
    site.pass(IDLE + 1);
    assert!(browser.is_anonymous().await);
}

/// A rule shorter than `with_touch_after` must not make a session die while it is in use.
#[tokio::test]
async fn a_rule_shorter_than_touch_after_is_still_counted_from_the_last_use() {
    let site = Site::new();
    let app = app(layer(&site).with_touch_after(Duration::from_secs(300)));
    let mut browser = Browser::new(&app);
    browser.post("/put/cart/book").await.assert_ok();
    browser.post("/expire/60").await.assert_ok();
    for _ in 0..10 {
        site.pass(30);
        let read = browser.get("/get/cart").await.assert_ok();
        assert_eq!(read.body, r#""book""#);
    }
}

/// A session whose cookie has no age goes through some changes, and is then left alone.
async fn ends_with_the_browser_and_on_the_server(layer: SessionLayer, site: &Site, set: &str) {
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/cart/book").await.assert_ok();
    browser.post(set).await.assert_ok();
    for path in ["/count/visits", "/cycle", "/login/ada", "/count/visits"] {
        site.pass(IDLE / 2);
        let answer = browser.post(path).await.assert_ok();
        // A cookie without an age is sent again only with another id.
        if path == "/count/visits" {
            assert_eq!(answer.set_cookies(), [""; 0], "{path}");
            continue;
        }
        let cookie = answer.the_cookie();
        assert!(!cookie.contains("Max-Age"), "{path}: {cookie}");
        assert!(!cookie.contains("Expires"), "{path}: {cookie}");
    }
    site.pass(IDLE - 1);
    let touched = browser.get("/loaded").await.assert_ok();
    assert_eq!(touched.set_cookies(), [""; 0]);
    let mut closed = browser.clone();
    closed.restart();
    assert_eq!(closed.id(), None);
    site.pass(IDLE + 1);
    assert!(browser.is_anonymous().await);
    assert_eq!(site.record_of(&browser).await, None);
}

#[tokio::test]
async fn a_session_that_is_told_to_end_with_the_browser_also_ends_on_the_server() {
    let site = Site::new();
    let layer = layer(&site);
    ends_with_the_browser_and_on_the_server(layer, &site, "/expire/browser").await;
}

#[tokio::test]
async fn sessions_of_a_layer_that_end_with_the_browser_also_end_on_the_server() {
    let site = Site::new();
    let layer = layer(&site).with_browser_close();
    ends_with_the_browser_and_on_the_server(layer, &site, "/count/visits").await;
}

#[tokio::test]
async fn a_fixed_end_is_kept_however_much_the_session_is_used() {
    let site = Site::new();
    let clock = site.clock.clone();
    let at = async move |session: Session, Path(secs): Path<u64>| {
        session.set_expiry(Expiry::At(clock.now() + Duration::from_secs(secs)))
    };
    let left = async |session: Session| session.expires_in().as_secs().to_string();
    let app = router()
        .route("/at/{secs}", post(at))
        .route("/left", get(left))
        .layer(layer(&site));
    let mut browser = Browser::new(&app);
    browser.post("/put/cart/book").await.assert_ok();
    browser.post("/at/1500").await.assert_ok();
    site.pass(1200);
    browser.post("/count/visits").await.assert_ok();
    browser.post("/cycle").await.assert_ok();
    assert_eq!(browser.get("/left").await.assert_ok().body, "300");
    site.pass(299);
    assert!(!browser.is_anonymous().await);
    site.pass(2);
    assert!(browser.is_anonymous().await);
}

#[tokio::test]
async fn an_end_that_is_not_in_the_future_is_refused_and_changes_nothing() {
    let site = Site::new();
    let clock = site.clock.clone();
    let past = async move |session: Session| session.set_expiry(Expiry::At(clock.now()));
    let routes = Router::new().route("/past", post(past));
    let mut browser = site.browser_with(routes);
    browser.post("/put/cart/book").await.assert_ok();
    let before = site.record_of(&browser).await;
    for path in ["/past", "/expire/0"] {
        let refused = browser.post(path).await;
        assert_eq!(refused.status, 500);
        assert_eq!(refused.set_cookies(), [""; 0]);
        assert_eq!(site.record_of(&browser).await, before);
    }
}

/// A fixed end that passes while the handler is at work leaves nothing behind that has to be ended.
#[tokio::test]
async fn a_session_whose_end_passes_before_its_first_commit_is_never_created() {
    let site = Site::new();
    let clock = site.clock.clone();
    let slow = async move |session: Session| -> Result<(), Error> {
        session.insert("cart", "book")?;
        session.set_expiry(Expiry::At(clock.now() + Duration::from_secs(1)))?;
        clock.advance(Duration::from_secs(2));
        Ok(())
    };
    let mut browser = site.browser_with(Router::new().route("/slow", post(slow)));
    let answer = browser.post("/slow").await;
    assert!(site.keeps_what_it_hands_out(&answer).await);
    assert_eq!(site.memory.count().await, 0);
}

/// A read waits; a rule is set meanwhile; then the read postpones the end by the rule it knows.
async fn outlives_a_touch_that_knows_another(rule: &str) {
    let site = Site::new();
    let clock = site.clock.clone();
    let at = async move |session: Session, Path(secs): Path<u64>| {
        session.set_expiry(Expiry::At(clock.now() + Duration::from_secs(secs)))
    };
    let gate = Gate::new();
    let app = router()
        .route("/at/{secs}", post(at))
        .route("/read", post(async |session: Session| drop(session)));
    let mut browser = Browser::new(&gate.behind(app).layer(layer(&site)));
    browser.post("/put/cart/book").await.assert_ok();
    site.pass(IDLE / 2);
    let late = post_meanwhile(&browser, "/read?hold");
    gate.arrived(1).await;
    browser.post(rule).await.assert_ok();
    let ruled = site.record_of(&browser).await;
    gate.open(1);
    let (_, answer) = late.await.unwrap();
    assert_eq!(answer.assert_ok().set_cookies(), [""; 0], "{rule}");
    assert_eq!(site.record_of(&browser).await, ruled, "{rule}");
    site.pass(61);
    assert!(browser.is_anonymous().await, "{rule}");
}

#[tokio::test]
async fn a_touch_that_comes_behind_a_shorter_rule_does_not_undo_it() {
    outlives_a_touch_that_knows_another("/expire/60").await;
}

#[tokio::test]
async fn a_touch_that_comes_behind_a_fixed_end_does_not_undo_it() {
    outlives_a_touch_that_knows_another("/at/60").await;
}

#[tokio::test]
async fn a_touch_of_a_session_that_ends_with_the_browser_moves_its_end_and_sends_no_cookie() {
    for by_layer in [true, false] {
        let site = Site::new();
        let layer = match by_layer {
            true => layer(&site).with_browser_close(),
            false => layer(&site),
        };
        let mut browser = Browser::new(&app(layer));
        browser.post("/put/cart/book").await.assert_ok();
        if !by_layer {
            browser.post("/expire/browser").await.assert_ok();
        }
        for _ in 0..3 {
            let before = site.record_of(&browser).await.unwrap();
            site.pass(IDLE - 1);
            let read = browser.get("/get/cart").await.assert_ok();
            assert_eq!(read.body, r#""book""#);
            assert_eq!(read.set_cookies(), [""; 0]);
            let after = site.record_of(&browser).await.unwrap();
            assert!(after.expires_at > before.expires_at);
            assert_eq!(after.version, before.version);
        }
        assert_eq!(browser.max_age(), None);
    }
}

/// An age of zero would tell the browser to remove it.
#[tokio::test]
async fn a_session_with_less_than_a_second_left_keeps_its_cookie() {
    for millis in [1, 900, 999] {
        let site = Site::new();
        let idle = Duration::from_millis(millis);
        let mut browser = Browser::new(&app(site.layer().with_idle_timeout(idle)));
        let cookie = browser.post("/put/cart/book").await.assert_ok();
        let cookie = cookie.the_cookie();
        assert!(cookie.contains("Max-Age=1;") || cookie.ends_with("Max-Age=1"));
        assert_eq!(browser.max_age(), Some(Duration::from_secs(1)));
        assert_eq!(browser.get("/get/cart").await.body, r#""book""#);
    }
}
