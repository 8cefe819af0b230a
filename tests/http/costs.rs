//! What a request costs in calls to the store.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, header::COOKIE};
use tower_keep::testing::{CountingStore, Counts, ManualClock};

use crate::support::{Browser, TestStore, app, layer_over};

/// A client with a session that holds `cart` and `n`, whose calls are counted from here on.
async fn scene() -> (Arc<CountingStore<TestStore>>, ManualClock, Browser) {
    let clock = ManualClock::new();
    let memory = TestStore::new().with_clock(clock.clone());
    let store = Arc::new(CountingStore::new(memory));
    let layer = layer_over(Arc::clone(&store))
        .with_clock(clock.clone())
        .with_idle_timeout(Duration::from_secs(1000));
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/cart/full").await.assert_ok();
    browser.post("/count/n").await.assert_ok();
    store.take();
    (store, clock, browser)
}

/// load, create, update, rotate, touch, delete.
fn counts([load, create, update, rotate, touch, delete]: [u64; 6]) -> Counts {
    Counts {
        load,
        create,
        update,
        rotate,
        touch,
        delete,
        ..Counts::default()
    }
}

#[tokio::test]
async fn a_request_with_a_session_costs_what_the_table_says() {
    for (method, path, expected) in [
        (Method::GET, "/ignored", [0, 0, 0, 0, 0, 0]),
        (Method::GET, "/loaded", [1, 0, 0, 0, 0, 0]),
        (Method::GET, "/optional", [1, 0, 0, 0, 0, 0]),
        (Method::GET, "/get/cart", [1, 0, 0, 0, 0, 0]),
        (Method::GET, "/contains/cart", [1, 0, 0, 0, 0, 0]),
        (Method::GET, "/dump", [1, 0, 0, 0, 0, 0]),
        (Method::GET, "/whoami", [1, 0, 0, 0, 0, 0]),
        (Method::POST, "/put/cart/empty", [1, 0, 1, 0, 0, 0]),
        (Method::POST, "/put/cart/full", [1, 0, 0, 0, 0, 0]),
        (Method::POST, "/count/n", [1, 0, 1, 0, 0, 0]),
        (Method::POST, "/remove/cart", [1, 0, 1, 0, 0, 0]),
        (Method::POST, "/remove/nothing", [1, 0, 0, 0, 0, 0]),
        (Method::POST, "/clear", [1, 0, 1, 0, 0, 0]),
        (Method::POST, "/expire/60", [1, 0, 1, 0, 0, 0]),
        (Method::POST, "/expire/reset", [1, 0, 0, 0, 0, 0]),
        (Method::POST, "/save", [1, 0, 0, 0, 0, 0]),
        (Method::POST, "/cycle", [1, 0, 0, 1, 0, 0]),
        (Method::POST, "/login/alice", [1, 0, 0, 1, 0, 0]),
        (Method::POST, "/flush", [1, 0, 0, 0, 0, 1]),
        (Method::POST, "/logout", [0, 0, 0, 0, 0, 1]),
        (Method::POST, "/put/cart/empty?then=404", [1, 0, 1, 0, 0, 0]),
        (Method::POST, "/put/cart/empty?then=500", [1, 0, 0, 0, 0, 0]),
        (Method::POST, "/cycle?then=500", [1, 0, 0, 0, 0, 0]),
        (Method::POST, "/logout?then=500", [0, 0, 0, 0, 0, 1]),
    ] {
        let (store, _, mut browser) = scene().await;
        browser.send(method, path).await;
        assert_eq!(store.take(), counts(expected), "{path}");
    }
}

#[tokio::test]
async fn a_request_without_a_session_costs_what_the_table_says() {
    for (method, path, expected) in [
        (Method::GET, "/ignored", [0, 0, 0, 0, 0, 0]),
        (Method::GET, "/get/cart", [0, 0, 0, 0, 0, 0]),
        (Method::GET, "/optional", [0, 0, 0, 0, 0, 0]),
        (Method::POST, "/put/cart/full", [0, 1, 0, 0, 0, 0]),
        (Method::POST, "/count/n", [0, 1, 0, 0, 0, 0]),
        (Method::POST, "/login/alice", [0, 1, 0, 0, 0, 0]),
        (Method::POST, "/remove/cart", [0, 0, 0, 0, 0, 0]),
        (Method::POST, "/clear", [0, 0, 0, 0, 0, 0]),
        (Method::POST, "/cycle", [0, 0, 0, 0, 0, 0]),
        (Method::POST, "/save", [0, 0, 0, 0, 0, 0]),
        (Method::POST, "/flush", [0, 0, 0, 0, 0, 0]),
        (Method::POST, "/logout", [0, 0, 0, 0, 0, 0]),
        (Method::POST, "/expire/60", [0, 0, 0, 0, 0, 0]),
    ] {
        let (store, _, browser) = scene().await;
        browser.stranger().send(method, path).await;
        assert_eq!(store.take(), counts(expected), "{path}");
    }
}

#[tokio::test]
async fn a_request_with_a_cookie_that_is_no_live_session_costs_what_the_table_says() {
    let unknown = "A".repeat(43);
    let many: Vec<String> = (0..9)
        .map(|n| format!("__Host-id={n}{}", "A".repeat(42)))
        .collect();
    for (cookie, path, expected) in [
        (format!("__Host-id={unknown}"), "/ignored", [0; 6]),
        (format!("__Host-id={unknown}"), "/get/a", [1, 0, 0, 0, 0, 0]),
        (format!("id={unknown}"), "/get/a", [0; 6]),
        ("__Host-id=malformed".into(), "/get/a", [0; 6]),
        (many.join("; "), "/get/a", [4, 0, 0, 0, 0, 0]),
    ] {
        let (store, _, browser) = scene().await;
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&cookie).unwrap())]);
        browser.send_with(Method::GET, path, headers).await;
        assert_eq!(store.take(), counts(expected), "{cookie}: {path}");
    }
}

#[tokio::test]
async fn ten_reads_within_a_tenth_of_the_idle_time_load_ten_times_and_the_next_one_touches() {
    let (store, clock, mut browser) = scene().await;
    for _ in 0..10 {
        clock.advance(Duration::from_secs(9));
        let answer = browser.get("/get/cart").await.assert_ok();
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    assert_eq!(store.take(), counts([10, 0, 0, 0, 0, 0]));

    clock.advance(Duration::from_secs(10));
    browser.get("/get/cart").await.assert_ok().the_cookie();
    assert_eq!(store.take(), counts([1, 0, 0, 0, 1, 0]));

    // From there the interval begins anew; a change brings the touch with it.
    browser.get("/get/cart").await.assert_ok();
    assert_eq!(store.take(), counts([1, 0, 0, 0, 0, 0]));
    clock.advance(Duration::from_secs(100));
    browser.post("/count/n").await.assert_ok().the_cookie();
    assert_eq!(store.take(), counts([1, 0, 1, 0, 0, 0]));
}
