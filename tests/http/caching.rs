//! What caches on the way are told.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, VARY},
};
use tower_keep::{
    LazySession, Session,
    testing::{Fault, FaultyStore},
};

use crate::{
    counted::{Counted, NONE, browser_at, cookie, loads, unknown_id},
    support::{Answer, Browser, TestStore, app, layer_over, router},
};

const WISHED_VARY: HeaderName = HeaderName::from_static("x-wished-vary");
const WISHED_CACHE_CONTROL: HeaderName = HeaderName::from_static("x-wished-cache-control");

/// Makes the handler say about caching what the client wishes.
async fn as_wished(request: Request, next: Next) -> Response {
    let wishes = request.headers().clone();
    let mut response = next.run(request).await;
    for (wish, name) in [(WISHED_VARY, VARY), (WISHED_CACHE_CONTROL, CACHE_CONTROL)] {
        for value in wishes.get_all(wish) {
            response.headers_mut().append(&name, value.clone());
        }
    }
    response
}

fn counted() -> Counted {
    Counted::of(router().layer(from_fn(as_wished)), |layer| layer)
}

fn wish(mut headers: HeaderMap, name: &HeaderName, values: &[&'static str]) -> HeaderMap {
    for value in values {
        headers.append(name, HeaderValue::from_static(value));
    }
    headers
}

/// Each way to look into a session without changing it.
const READS: [fn(&Session); 13] = [
    |_| {},
    |s| {
        let _ = s.contains_key("color");
    },
    |s| {
        let _ = s.get::<String>("color").unwrap();
    },
    |s| {
        let _ = s.keys();
    },
    |s| {
        let _ = s.iter().count();
    },
    |s| {
        let _ = s.len();
    },
    |s| {
        let _ = s.is_empty();
    },
    |s| {
        let _ = s.user();
    },
    |s| {
        let _ = s.record_id();
    },
    |s| {
        let _ = s.expiry();
    },
    |s| {
        let _ = s.expires_in();
    },
    |s| {
        let _ = s.created_at();
    },
    |s| {
        let _ = s.test_cookie_worked();
    },
];

/// Any read.
#[tokio::test]
async fn whatever_is_read_of_a_session_the_answer_varies_by_cookie_once() {
    for (index, read) in READS.into_iter().enumerate() {
        let handler = async move |session: Session| read(&session);
        let counted = Counted::of(Router::new().route("/", get(handler)), |layer| layer);
        let live = counted.live("red").await;
        for (headers, calls) in [
            (HeaderMap::new(), NONE),
            (cookie(&unknown_id()), loads(1)),
            (cookie(&live), loads(1)),
        ] {
            let answer = counted.browser().send_with(Method::GET, "/", headers).await;
            let answer = answer.assert_ok();
            assert_eq!(answer.header("vary"), Some("Cookie"), "read {index}");
            assert_eq!(answer.header("cache-control"), None, "read {index}");
            assert_eq!(answer.set_cookies(), [""; 0], "read {index}");
            assert_eq!(counted.store.take(), calls, "read {index}");
        }
    }
}

#[tokio::test]
async fn a_handle_that_is_taken_and_never_loaded_does_not_vary_the_answer() {
    let handler = async |_: LazySession| "untouched";
    let counted = Counted::of(Router::new().route("/", get(handler)), |layer| layer);
    let live = cookie(&counted.live("red").await);
    let answer = counted.browser().send_with(Method::GET, "/", live).await;
    assert_eq!(answer.assert_ok().header("vary"), None);
    assert_eq!(counted.store.take(), NONE);
}

#[tokio::test]
async fn every_answer_that_a_session_had_part_in_varies_by_cookie() {
    let counted = counted();
    for mut browser in counted.browsers().await {
        for (method, path) in [
            (Method::GET, "/contains/color"),
            (Method::POST, "/put/color/red"),
            (Method::GET, "/optional"),
            (Method::POST, "/remove/missing"),
            (Method::POST, "/put/color/blue?then=404"),
            (Method::POST, "/put/color/blue?then=500"),
            (Method::POST, "/save"),
            (Method::POST, "/cycle"),
            (Method::POST, "/login/anna"),
            (Method::POST, "/logout"),
            (Method::POST, "/flush"),
        ] {
            let answer = browser.send(method, path).await;
            assert_eq!(answer.header("vary"), Some("Cookie"), "{path}");
        }
        assert_eq!(browser.get("/ignored").await.header("vary"), None);
    }
}

#[tokio::test]
async fn an_answer_without_its_session_because_of_an_outage_varies_by_cookie_too() {
    let store = Arc::new(FaultyStore::new(TestStore::new()));
    let mut browser = Browser::new(&app(layer_over(Arc::clone(&store))));
    browser.post("/put/color/red").await.assert_ok();
    store.inject(Fault::Fail);
    for answer in [
        browser.get("/get/color").await,
        browser.stranger().post("/put/color/red").await,
    ] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("vary"), Some("Cookie"));
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
}

#[tokio::test]
async fn what_the_handler_says_of_vary_is_kept_and_cookie_is_in_it_once() {
    let counted = counted();
    let address = counted.serve().await;
    let live = counted.live("red").await;
    for browser in [counted.browser(), browser_at(address)] {
        for (wished, expected) in [
            (&["Accept"][..], "Accept, Cookie"),
            (&["Accept", "Origin"], "Accept, Origin, Cookie"),
            (&["Accept, Origin"], "Accept, Origin, Cookie"),
            (&["accept, cookie"], "accept, cookie"),
            (&["COOKIE"], "COOKIE"),
            (&["*"], "*"),
            (&["Cookie2"], "Cookie2, Cookie"),
            (&["X-Cookie"], "X-Cookie, Cookie"),
        ] {
            let headers = wish(cookie(&live), &WISHED_VARY, wished);
            let read = browser.send_with(Method::GET, "/contains/color", headers);
            let read = read.await.assert_ok();
            assert_eq!(read.header("vary"), Some(expected));

            let headers = wish(cookie(&live), &WISHED_VARY, wished);
            let ignored = browser.send_with(Method::GET, "/ignored", headers).await;
            let kept: Vec<_> = ignored.headers.get_all(VARY).iter().collect();
            assert_eq!(kept, wished, "untouched");
        }
    }
}

#[tokio::test]
async fn behind_two_layers_cookie_is_in_vary_once_and_one_cookie_is_set() {
    let outer = layer_over(TestStore::new()).with_cookie_name("outer");
    let app = app(layer_over(TestStore::new())).layer(outer);
    let answer = Browser::new(&app).post("/put/color/red").await.assert_ok();
    assert_eq!(answer.header("vary"), Some("Cookie"));
    assert!(answer.the_cookie().starts_with("__Host-id="));
}

/// What sets our cookie: a name for it, and its request.
const OCCASIONS: [(&str, Method, &str); 9] = [
    ("create", Method::POST, "/put/color/red"),
    ("create and 404", Method::POST, "/put/color/red?then=404"),
    ("refresh", Method::GET, "/contains/color"),
    ("update and refresh", Method::POST, "/put/color/blue"),
    ("rotate", Method::POST, "/cycle"),
    ("login", Method::POST, "/login/anna"),
    ("remove", Method::POST, "/flush"),
    ("remove unloaded", Method::POST, "/logout"),
    ("remove and 500", Method::POST, "/logout?then=500"),
];

/// An answer with our cookie to this occasion, of a handler that says this of caching.
async fn set(
    counted: &Counted,
    occasion: &(&str, Method, &str),
    wished: &[&'static str],
) -> Answer {
    let (name, method, path) = occasion;
    let headers = match name.starts_with("create") {
        true => HeaderMap::new(),
        false => cookie(&counted.live("red").await),
    };
    counted.clock.advance(TWO_DAYS);
    let headers = wish(headers, &WISHED_CACHE_CONTROL, wished);
    let browser = counted.browser();
    let answer = browser.send_with(method.clone(), path, headers).await;
    assert!(answer.the_cookie().starts_with("__Host-id="), "{name}");
    answer
}

/// More than a tenth of the idle time, so that a session that is read is touched.
const TWO_DAYS: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Our cookie and shared caches.
#[tokio::test]
async fn an_answer_that_sets_our_cookie_is_private_whatever_the_handler_says() {
    let counted = counted();
    for occasion in &OCCASIONS {
        for (wished, expected) in [
            (&[][..], "no-cache, private"),
            (&["public"], "private"),
            (&["public, max-age=60"], "max-age=60, private"),
            (&["public", "s-maxage=600"], "private"),
            (&["PUBLIC, S-MaxAge=600, max-age=60"], "max-age=60, private"),
            (&["s-maxage=\"600\",public"], "private"),
            (&["max-age=60"], "max-age=60, private"),
            (&["no-cache"], "no-cache, private"),
            (&["private, public"], "private"),
            (&["no-store"], "no-store"),
            (&["public, no-store"], "no-store"),
            (&["private=\"x\", public"], "private=\"x\", private"),
        ] {
            let answer = set(&counted, occasion, wished).await;
            let said = answer.header("cache-control");
            assert_eq!(said, Some(expected), "{}: {wished:?}", occasion.0);
            assert_eq!(answer.header("vary"), Some("Cookie"), "{}", occasion.0);
        }
    }
}

#[tokio::test]
async fn a_session_saved_by_hand_before_a_failure_makes_the_answer_private() {
    let saving = async |session: Session| -> Result<StatusCode, tower_keep::Error> {
        session.insert("order", "placed")?;
        session.save().await?;
        Ok(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let router = Router::new().route("/", get(saving));
    let counted = Counted::of(router.layer(from_fn(as_wished)), |layer| layer);
    let headers = wish(HeaderMap::new(), &WISHED_CACHE_CONTROL, &["public"]);
    let answer = counted.browser().send_with(Method::GET, "/", headers).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.the_cookie().starts_with("__Host-id="));
    assert_eq!(answer.header("cache-control"), Some("private"));
}

#[tokio::test]
async fn over_http_an_answer_that_sets_our_cookie_is_private() {
    let counted = counted();
    let browser = browser_at(counted.serve().await);
    let wished = ["public, max-age=60", "s-maxage=600"];
    let headers = wish(HeaderMap::new(), &WISHED_CACHE_CONTROL, &wished);
    let path = "/put/color/red";
    let answer = browser.send_with(Method::POST, path, headers).await;
    answer.the_cookie();
    assert_eq!(answer.header("cache-control"), Some("max-age=60, private"));
}

#[tokio::test]
async fn without_our_cookie_what_the_handler_says_of_caching_stands() {
    let counted = counted();
    let live = counted.live("red").await;
    for path in ["/ignored", "/contains/color", "/get/color?then=404"] {
        for wished in [&[][..], &["public, max-age=60", "s-maxage=600"]] {
            let headers = wish(cookie(&live), &WISHED_CACHE_CONTROL, wished);
            let browser = counted.browser();
            let answer = browser.send_with(Method::GET, path, headers).await;
            assert_eq!(answer.set_cookies(), [""; 0]);
            let kept: Vec<_> = answer.headers.get_all(CACHE_CONTROL).iter().collect();
            assert_eq!(kept, wished, "{path}");
        }
    }
}
