//! What a request presents, and what of it is a session.

use axum::{
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::COOKIE};

use crate::{
    both_kinds,
    support::{Browser, app},
    world::{Kind, NAME, World},
};

both_kinds!(
    the_first_write_sets_exactly_one_cookie_with_every_protection,
    a_handler_that_ignores_the_session_costs_nothing,
    what_is_no_token_is_nobody_and_neither_looked_up_nor_reflected,
    a_write_under_somebody_elses_token_starts_a_session_of_its_own,
    the_token_is_found_among_others_and_in_any_field,
    beside_tokens_that_are_none_the_live_one_is_found_in_any_order,
    of_two_states_of_one_session_the_later_is_used_in_any_order,
    values_that_are_no_tokens_do_not_hide_the_session,
    of_two_live_sessions_neither_is_used_in_any_order,
    names_that_only_look_like_ours_are_not_ours,
    a_mebibyte_of_cookies_is_answered,
    a_token_anywhere_but_in_a_cookie_is_nobodys,
    a_cookie_of_our_name_that_the_handler_sets_makes_room,
    whatever_is_read_or_set_caches_are_told,
    a_read_and_a_value_written_again_set_no_cookie,
);

async fn the_first_write_sets_exactly_one_cookie_with_every_protection(kind: Kind) {
    let mut browser = World::new(kind).browser();
    let set = browser
        .post("/put/color/red")
        .await
        .assert_ok()
        .the_cookie();
    assert!(set.starts_with("__Host-id=1"), "{set}");
    let mut attributes: Vec<_> = set.split("; ").skip(1).collect();
    attributes.sort_unstable();
    assert_eq!(
        attributes,
        [
            "HttpOnly",
            "Max-Age=1209600",
            "Path=/",
            "SameSite=Lax",
            "Secure"
        ]
    );
    assert_eq!(browser.get("/get/color").await.body, "\"red\"");
}

async fn a_handler_that_ignores_the_session_costs_nothing(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/login/ada").await.assert_ok();
    world.calls();
    for mut browser in [browser.stranger(), browser] {
        let answer = browser.get("/ignored").await.assert_ok();
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(answer.header("vary"), None);
        assert_eq!(answer.header("cache-control"), None);
    }
    assert_eq!(world.calls(), 0);
}

async fn what_is_no_token_is_nobody_and_neither_looked_up_nor_reflected(kind: Kind) {
    let world = World::new(kind);
    let mut live = world.browser();
    live.post("/login/ada").await.assert_ok();
    let token = live.id().unwrap().to_owned();
    world.calls();
    let mut bad: Vec<Vec<u8>> = [
        String::new(),
        "1".into(),
        "A".repeat(43),
        "1".repeat(4096),
        format!("1{}", "A".repeat(200)),
        token[1..].to_owned(),
        format!("0{}", &token[1..]),
        format!("2{}", &token[1..]),
        format!("4{}", &token[1..]),
        format!("5{}", &token[1..]),
        format!("9{}", &token[1..]),
        token[..token.len() - 1].to_owned(),
        format!("{token}A"),
        format!("{token}="),
        format!("{token}=="),
        format!("\"{token}\""),
        format!("{token} A"),
        format!("../{token}"),
        r#"{"user":"ada","admin":true}"#.into(),
        r#"1{"user":"ada","admin":true}"#.into(),
        "1eyJ1c2VyIjoiYWRhIn0".into(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    bad.push([token.as_bytes(), b"\xff"].concat());
    bad.push(vec![0xfe; 300]);
    for bad in bad {
        let cookie = [NAME.as_bytes(), b"=", &bad].concat();
        let browser = world.browser();
        assert_eq!(browser.read_with("/optional", &cookie).await, "none");
        assert_eq!(browser.read_with("/dump", &cookie).await, "{}");
    }
    assert_eq!(world.calls(), 0);
    assert!(live.is_alive().await);
}

async fn a_write_under_somebody_elses_token_starts_a_session_of_its_own(kind: Kind) {
    let world = World::new(kind);
    let mut elsewhere = World::new(kind).browser();
    elsewhere.post("/put/role/admin").await.assert_ok();
    let mut browser = world.browser().with_id_of(&elsewhere);
    browser
        .post("/put/color/red")
        .await
        .assert_ok()
        .the_cookie();
    assert_eq!(browser.get("/dump").await.body, r#"{"color":"red"}"#);
    let record = browser.get("/record").await.body;
    assert_ne!(record, elsewhere.get("/record").await.body);
}

async fn the_token_is_found_among_others_and_in_any_field(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let ours = browser.cookie_header().unwrap();
    let others: String = (0..100).map(|n| format!("c{n}=v{n}; =; ;;x; ")).collect();
    for fields in [
        vec![format!("{others}{ours}")],
        vec![format!("{ours}; {others}")],
        vec![others.clone(), ours.clone(), "a=b".into()],
    ] {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_str(&field).unwrap());
        }
        let answer = browser.send_with(Method::GET, "/get/color", headers).await;
        assert_eq!(answer.assert_ok().body, "\"red\"");
    }
}

async fn beside_tokens_that_are_none_the_live_one_is_found_in_any_order(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let mut stranger = World::new(kind).browser();
    stranger.post("/put/color/blue").await.assert_ok();
    let (ours, theirs) = (
        browser.cookie_header().unwrap(),
        stranger.cookie_header().unwrap(),
    );
    for cookie in [
        format!("{ours}; {theirs}"),
        format!("{theirs}; {ours}"),
        format!("{theirs}; {NAME}=1; {ours}; {NAME}="),
        format!("{ours}; {ours}"),
    ] {
        assert_eq!(
            browser.read_with("/get/color", cookie.as_bytes()).await,
            "\"red\""
        );
    }
}

/// As when an attribute of the cookie was changed, so that the browser keeps the old one beside the new.
async fn of_two_states_of_one_session_the_later_is_used_in_any_order(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let older = browser.cookie_header().unwrap();
    browser.post("/put/color/blue").await.assert_ok();
    let later = browser.cookie_header().unwrap();
    for cookie in [format!("{older}; {later}"), format!("{later}; {older}")] {
        assert_eq!(
            browser.read_with("/get/color", cookie.as_bytes()).await,
            "\"blue\""
        );
    }
}

async fn values_that_are_no_tokens_do_not_hide_the_session(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let ours = browser.cookie_header().unwrap();
    let others = [
        "",
        "a",
        "1",
        "1b",
        "1cccccccccccccccc",
        "2AQAAAAAA",
        "id",
        "4AgAAAAAA",
    ];
    let others: Vec<_> = others
        .iter()
        .map(|value| format!("{NAME}={value}"))
        .collect();
    let others = others.join("; ");
    for cookie in [format!("{others}; {ours}"), format!("{ours}; {others}")] {
        assert_eq!(
            browser.read_with("/get/color", cookie.as_bytes()).await,
            "\"red\""
        );
    }
}

async fn of_two_live_sessions_neither_is_used_in_any_order(kind: Kind) {
    let world = World::new(kind);
    let (mut one, mut other) = (world.browser(), world.browser());
    one.post("/put/color/red").await.assert_ok();
    other.post("/put/color/blue").await.assert_ok();
    let [a, b] = [&one, &other].map(|browser| browser.cookie_header().unwrap());
    for cookie in [format!("{a}; {b}"), format!("{b}; {a}")] {
        assert_eq!(one.read_with("/optional", cookie.as_bytes()).await, "none");
    }
    assert!(one.is_alive().await && other.is_alive().await);
}

async fn names_that_only_look_like_ours_are_not_ours(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let token = browser.id().unwrap();
    for cookie in [
        format!("%5F%5FHost-id={token}"),
        format!("\u{2003}{NAME}={token}"),
        format!("\u{a0}{NAME}={token}"),
        format!("__host-id={token}"),
        format!("={token}"),
        token.to_owned(),
        format!("{NAME}-1={token}"),
    ] {
        assert_eq!(
            browser.read_with("/optional", cookie.as_bytes()).await,
            "none"
        );
    }
}

async fn a_mebibyte_of_cookies_is_answered(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    world.calls();
    let ours = browser.cookie_header().unwrap();
    let filler = format!(
        "{NAME}=4{}; {NAME}-1={}; ",
        "A".repeat(2000),
        "B".repeat(2000)
    );
    let cookie = format!("{ours}; {}", filler.repeat(270));
    assert!(cookie.len() > 1 << 20);
    assert_eq!(
        browser.read_with("/get/color", cookie.as_bytes()).await,
        "\"red\""
    );
    assert_eq!(world.calls(), 1);
}

async fn a_token_anywhere_but_in_a_cookie_is_nobodys(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let token = browser.id().unwrap().to_owned();
    let stranger = browser.stranger();
    for (path, header) in [
        (format!("/optional?{NAME}={token}"), "x-none"),
        (format!("/optional;{NAME}={token}"), "x-none"),
        ("/optional".to_owned(), NAME),
        ("/optional".to_owned(), "authorization"),
        ("/optional".to_owned(), "cookie2"),
    ] {
        let mut headers = HeaderMap::new();
        let name = http::HeaderName::from_bytes(header.to_ascii_lowercase().as_bytes()).unwrap();
        headers.insert(name, HeaderValue::from_str(&token).unwrap());
        let answer = stranger.send_with(Method::GET, &path, headers).await;
        assert!(answer.status == StatusCode::NOT_FOUND || answer.body == "none");
    }
}

async fn a_cookie_of_our_name_that_the_handler_sets_makes_room(kind: Kind) {
    let world = World::new(kind);
    let sets_its_own = |request: Request, next: Next| async move {
        let mut response: Response = next.run(request).await;
        for cookie in ["__Host-id=mine", "other=1", "__Host-id=again; Path=/"] {
            let cookie = HeaderValue::from_static(cookie);
            response.headers_mut().append("set-cookie", cookie);
        }
        response
    };
    let routes = crate::support::router().layer(from_fn(sets_its_own));
    let mut browser = Browser::new(&routes.layer(world.layer()));
    let answer = browser.post("/put/color/red").await.assert_ok();
    let [other, ours] = &answer.set_cookies()[..] else {
        panic!("{:?}", answer.set_cookies());
    };
    assert_eq!(other, "other=1");
    assert!(ours.starts_with("__Host-id=1"));
    assert!(browser.is_alive().await);
}

async fn whatever_is_read_or_set_caches_are_told(kind: Kind) {
    let world = World::new(kind);
    let mut browser = Browser::new(&app(world.layer()));
    let answer = browser.get("/contains/color").await.assert_ok();
    assert_eq!(answer.header("vary"), Some("Cookie"));
    for path in [
        "/put/color/red",
        "/cycle",
        "/login/ada",
        "/put/color/blue",
        "/flush",
    ] {
        let answer = browser.post(path).await.assert_ok();
        assert_eq!(answer.header("vary"), Some("Cookie"), "{path}");
        assert_eq!(
            answer.header("cache-control"),
            Some("no-cache, private"),
            "{path}"
        );
        answer.the_cookie();
    }
}

async fn a_read_and_a_value_written_again_set_no_cookie(kind: Kind) {
    let mut browser = World::new(kind).browser();
    browser.post("/put/color/red").await.assert_ok();
    for _ in 0..3 {
        let read = browser.get("/get/color").await.assert_ok();
        let again = browser.post("/put/color/red").await.assert_ok();
        assert_eq!([read.set_cookies(), again.set_cookies()].concat(), [""; 0]);
    }
}
