//! The cookies that answers set and remove.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, SystemTime},
};

use axum::{middleware::map_response, response::Response};
use cookie::Cookie;
use http::{HeaderValue, Method, StatusCode, header::SET_COOKIE};
use tower::Layer;
use tower_keep::{
    RandomError, RandomSource, SameSite, SessionId, SessionLayer, SystemRandom, testing::Counts,
};

use crate::{
    counted::{Counted, NAME, NONE, cookie},
    slow::Door,
    support::{Browser, TestStore, app, layer_over, router},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The parts of a cookie behind its value, in alphabetical order.
fn attributes(set: &str) -> Vec<&str> {
    let mut attributes: Vec<_> = set.split("; ").skip(1).collect();
    attributes.sort_unstable();
    attributes
}

/// The first write.
#[tokio::test]
async fn the_first_write_sets_exactly_one_cookie_with_every_protection() {
    let counted = Counted::new();
    for mut browser in counted.browsers().await {
        let answer = browser.post("/put/color/red").await.assert_ok();
        let set = answer.the_cookie();
        let (name, rest) = set.split_once('=').unwrap();
        assert_eq!(name, "__Host-id");
        let (id, _) = rest.split_once(';').unwrap();
        assert!(SessionId::parse(id.as_bytes()).is_some(), "{set}");
        let all = [
            "HttpOnly",
            "Max-Age=1209600",
            "Path=/",
            "SameSite=Lax",
            "Secure",
        ];
        assert_eq!(attributes(&set), all);
        assert_eq!(counted.store.take(), Counts { create: 1, ..NONE });
        assert_eq!(browser.id(), Some(id), "a browser keeps it");

        let again = browser.post("/put/size/small").await.assert_ok();
        assert_eq!(again.set_cookies(), [""; 0], "the second write sets none");
        counted.store.take();
    }
}

type Edit = fn(SessionLayer) -> SessionLayer;

/// What is impossible, and a word of the mend.
const IMPOSSIBLE: [(Edit, &str); 21] = [
    (
        |l| l.with_same_site(SameSite::None).with_insecure_http(),
        "use SameSite=Lax, or serve HTTPS",
    ),
    (
        |l| l.with_insecure_http().with_same_site(SameSite::None),
        "remove `with_insecure_http`",
    ),
    (
        |l| l.with_partitioned().with_insecure_http(),
        "remove `with_partitioned` or",
    ),
    (|l| l.with_cookie_name(""), "1 to 64 letters"),
    (|l| l.with_cookie_name("shop id"), "1 to 64 letters"),
    (|l| l.with_cookie_name("shop=id"), "1 to 64 letters"),
    (|l| l.with_cookie_name("shop;id"), "1 to 64 letters"),
    (|l| l.with_cookie_name("shop\r\nid"), "1 to 64 letters"),
    (|l| l.with_cookie_name("caf\u{e9}"), "1 to 64 letters"),
    (|l| l.with_cookie_name("__Host-shop"), "without a prefix"),
    (|l| l.with_cookie_name("__secure-shop"), "without a prefix"),
    (|l| l.with_domain(""), "a host name such as"),
    (|l| l.with_domain(".example.org"), "without a leading dot"),
    (
        |l| l.with_domain("example.org; Path=/x"),
        "a host name such as",
    ),
    (|l| l.with_path("shop"), "starts with `/`"),
    (|l| l.with_path("/; Domain=example.org"), "without `;`"),
    (
        |l| l.with_idle_timeout(Duration::ZERO),
        "at least one millisecond",
    ),
    (
        |l| l.with_absolute_timeout(Duration::ZERO),
        "at least one millisecond",
    ),
    (
        |l| l.with_store_timeout(Duration::ZERO),
        "at least one millisecond",
    ),
    (|l| l.with_record_bytes_max(0), "at least 1 byte"),
    (
        |l| l.with_idle_timeout(DAY).with_touch_after(DAY),
        "less than the idle timeout",
    ),
];

#[tokio::test]
async fn impossible_options_panic_when_the_layer_is_built_and_tell_the_mend() {
    for (index, (edit, mend)) in IMPOSSIBLE.into_iter().enumerate() {
        let build = || drop(edit(layer_over(TestStore::new())).layer(()));
        let panic = catch_unwind(AssertUnwindSafe(build)).expect_err(mend);
        let text = panic.downcast::<String>().unwrap();
        assert!(text.starts_with("SessionLayer: "), "{index}: {text}");
        assert!(text.contains(mend), "{index}: {text}");
    }
}

#[tokio::test]
async fn possible_options_next_to_the_impossible_ones_build() {
    let possible: [Edit; 6] = [
        |l| l.with_same_site(SameSite::None),
        |l| l.with_insecure_http().with_same_site(SameSite::Strict),
        |l| l.with_partitioned(),
        |l| l.with_cookie_name("shop!#$%&'*+-.^_`|~"),
        |l| l.with_idle_timeout(Duration::from_millis(1)),
        |l| l.with_touch_after(Duration::ZERO),
    ];
    for edit in possible {
        drop(edit(layer_over(TestStore::new())).layer(()));
    }
}

#[test]
fn a_hundred_thousand_ids_are_distinct_and_43_characters() {
    let mut seen = HashSet::new();
    for _ in 0..100_000 {
        let id = SessionId::generate(&SystemRandom).unwrap().expose_secret();
        assert_eq!(id.len(), 43);
        assert!(seen.insert(id));
    }
}

#[tokio::test]
async fn the_ids_of_a_thousand_clients_are_distinct_and_43_characters() {
    let counted = Counted::new();
    let mut seen = HashSet::new();
    for _ in 0..1000 {
        assert!(seen.insert(counted.live("red").await));
    }
    assert!(seen.iter().all(|id| id.len() == 43));
    assert_eq!(counted.store.inner().count().await, 1000);
}

#[derive(Debug)]
struct NoRandom;

impl RandomSource for NoRandom {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError::new("no entropy"))
    }
}

#[tokio::test]
async fn a_failing_random_source_is_an_error_and_no_session_and_the_old_id_lives() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let app = app(counted.layer.clone().with_random_source(NoRandom));
    let mut browser = Browser::new(&app);
    let create = browser.post("/put/color/blue").await;
    browser.set_cookie(NAME, &live);
    for answer in [
        create,
        browser.post("/cycle").await,
        browser.post("/login/anna").await,
    ] {
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    let calls = counted.store.take();
    assert_eq!((calls.create, calls.rotate, calls.update), (0, 0, 0));
    assert_eq!(counted.store.inner().count().await, 1);
    assert_eq!(browser.get("/get/color").await.body, "\"red\"");
    assert_eq!(browser.get("/whoami").await.body, "-");
}

/// Options that change how a cookie has to be removed, and its name with each.
const DRESSES: [(&str, Edit); 6] = [
    ("__Host-id", |layer| layer),
    ("__Secure-id", |layer| layer.with_domain("example.org")),
    ("__Secure-id", |layer| {
        layer.with_domain("example.org").with_path("/shop")
    }),
    ("id", |layer| layer.with_insecure_http().with_path("/shop")),
    ("__Host-id", |layer| {
        layer.with_same_site(SameSite::None).with_partitioned()
    }),
    ("__Host-shop", |layer| {
        layer.with_cookie_name("shop").with_insecure_script_access()
    }),
];

/// Logout.
#[tokio::test]
async fn a_logout_removes_the_cookie_so_that_a_browser_drops_it() {
    for (name, edit) in DRESSES {
        let counted = Counted::with(edit);
        for path in ["/flush", "/logout", "/flush?then=404", "/logout?then=500"] {
            let mut browser = counted.browser();
            let set = browser.post("/put/color/red").await.the_cookie();
            let id = browser.cookie(name).expect(&set).to_owned();

            let answer = browser.post(path).await;
            let removal = answer.the_cookie();
            assert!(removal.starts_with(&format!("{name}=; ")), "{removal}");
            assert_eq!(browser.cookie_header(), None, "{removal}");
            assert!(!counted.holds(&id).await);

            let parsed = Cookie::parse(&*removal).unwrap();
            let expires = parsed.expires_datetime().unwrap();
            assert!(SystemTime::from(expires) < SystemTime::now());
            assert!(removal.contains("; Max-Age=0"), "{removal}");
            let lasting = |set| -> Vec<String> {
                let time = |part: &&str| part.starts_with("Max-Age") || part.starts_with("Expires");
                let parts = attributes(set).into_iter().filter(|part| !time(part));
                parts.map(str::to_owned).collect()
            };
            assert_eq!(lasting(&removal), lasting(&set), "the same but for time");
        }
    }
}

#[tokio::test]
async fn a_slow_request_with_a_dead_or_rotated_id_sets_and_removes_no_cookie() {
    let door = Door::default();
    let counted = door.before_app();
    for end in ["/flush", "/logout", "/cycle", "/login/anna"] {
        for action in ["read", "put", "clear", "cycle", "login", "flush", "logout"] {
            let mut browser = counted.browser();
            browser.set_cookie(NAME, &counted.live("red").await);
            // So long that an answer to the living would renew the cookie.
            counted.clock.advance(2 * DAY);
            let slow = door.request(&browser, action).await;
            let ended = browser.post(end).await.assert_ok().the_cookie();
            let slow = door.open(slow).await;
            let shown = format!("{action} behind {end}");
            assert_eq!(slow.status, StatusCode::OK, "{shown}");
            assert_eq!(slow.set_cookies(), [""; 0], "{shown}");
            let rotated = !ended.starts_with("__Host-id=;");
            assert_eq!(browser.id().is_some(), rotated, "{shown}");
            if let Some(id) = browser.id() {
                assert!(counted.holds(id).await, "{shown}");
                assert_eq!(browser.get("/contains/late").await.body, "false");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_comes_with_a_dead_or_rotated_id_sets_and_removes_no_cookie() {
    let counted = Counted::new();
    for end in ["/flush", "/logout", "/cycle", "/login/anna"] {
        let old = counted.live("red").await;
        let mut browser = counted.browser();
        browser.set_cookie(NAME, &old);
        browser.post(end).await.assert_ok();
        for (method, path) in [
            (Method::GET, "/get/color"),
            (Method::POST, "/remove/color"),
            (Method::POST, "/clear"),
            (Method::POST, "/cycle"),
            (Method::POST, "/save"),
            (Method::POST, "/flush"),
            (Method::POST, "/logout"),
        ] {
            let answer = browser.send_with(method, path, cookie(&old)).await;
            assert_eq!(answer.assert_ok().set_cookies(), [""; 0], "{path}");
        }
        if let Some(id) = browser.id() {
            assert!(counted.holds(id).await, "the old id did nothing to the new");
        }
    }
}

/// A handler, or somebody between it and the layer, sets cookies of our name.
async fn forge(mut response: Response) -> Response {
    for cookie in [
        "first=1",
        "__Host-id=forged; Path=/; Secure",
        "__Host-id=forged-again",
        "\t__Host-id =forged",
        "__Host-id2=2",
        "__host-id=3",
    ] {
        let value = HeaderValue::from_static(cookie);
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

/// A handler that sets a cookie of our name.
#[tokio::test]
async fn a_cookie_of_our_name_set_by_a_handler_gives_way_to_ours_and_others_stay() {
    let counted = Counted::of(router().layer(map_response(forge)), |layer| layer);
    let live = counted.live("red").await;
    counted.clock.advance(2 * DAY);
    let browser = counted.browser();
    for (method, path, headers) in [
        (Method::POST, "/put/color/red", cookie("")),
        (Method::GET, "/get/color", cookie(&live)),
        (Method::POST, "/cycle", cookie(&live)),
        (Method::POST, "/flush", cookie(&counted.live("red").await)),
    ] {
        let answer = browser.send_with(method, path, headers).await.assert_ok();
        let cookies = answer.set_cookies();
        let (ours, others) = cookies.split_last().unwrap();
        assert_eq!(others, ["first=1", "__Host-id2=2", "__host-id=3"], "{path}");
        assert!(ours.starts_with("__Host-id="), "{path}: {ours}");
        assert!(!ours.contains("forged"), "{path}: {ours}");
        assert!(ours.contains("; HttpOnly; SameSite=Lax; Secure; Path=/"));
    }
}
