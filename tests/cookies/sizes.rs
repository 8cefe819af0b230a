//! Sessions that need several cookies, and those that are too large for any.

use axum::{Router, extract::Path, routing::post};
use http::StatusCode;
use tower_keep::{Error, ErrorKind, Session, SessionLayer};

use crate::{
    both_kinds,
    support::{Browser, router},
    world::{Kind, NAME, World},
};

both_kinds!(
    a_large_session_takes_several_cookies_which_a_browser_keeps,
    a_session_that_shrinks_leaves_no_cookies_behind,
    a_logout_removes_all_cookies,
    with_a_cookie_missing_or_of_another_session_there_is_no_session,
    a_planted_cookie_under_the_name_of_a_part_does_not_hide_the_session,
    what_does_not_fit_is_an_error_where_it_is_put_in_and_the_session_stays,
    a_session_that_no_longer_fits_is_an_error_where_it_is_sealed_and_stays,
    whatever_fits_is_kept_by_a_browser_whatever_the_options_and_the_user,
);

/// Puts that many bytes under a key.
fn routes() -> Router {
    let grow = async |session: Session, Path((key, len)): Path<(String, usize)>| {
        session.insert(&key, "x".repeat(len))
    };
    let fill = async |session: Session| -> Result<String, Error> {
        let mut len = 0;
        for step in [4096, 1024, 256, 64, 16, 4, 1] {
            loop {
                match session.insert("filler", "x".repeat(len + step)) {
                    Ok(()) => len += step,
                    Err(error) if error.kind() == ErrorKind::TooLarge => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(len.to_string())
    };
    router()
        .route("/grow/{key}/{len}", post(grow))
        .route("/fill", post(fill))
}

fn browser_at(layer: SessionLayer) -> Browser {
    Browser::new(&routes().layer(layer))
}

async fn read_len(browser: &Browser, key: &str) -> usize {
    let read = browser.clone().get(&format!("/get/{key}")).await;
    read.assert_ok().body.len().saturating_sub(2)
}

async fn a_large_session_takes_several_cookies_which_a_browser_keeps(kind: Kind) {
    let mut browser = browser_at(World::new(kind).layer());
    for (len, cookies) in [(100, 1), (4000, 2), (7000, 3), (10_000, 4)] {
        let answer = browser.post(&format!("/grow/a/{len}")).await.assert_ok();
        let set = answer.set_cookies();
        assert_eq!(set.len(), cookies);
        assert_eq!(browser.cookie_count(), cookies);
        assert!(set.iter().all(|cookie| cookie.len() <= 4096));
        assert_eq!(read_len(&browser, "a").await, len);
        for (index, cookie) in set.iter().enumerate().skip(1) {
            assert!(cookie.starts_with(&format!("{NAME}-{index}=")), "{cookie}");
            assert!(cookie.contains("; HttpOnly; SameSite=Lax; Secure; Path=/"));
        }
    }
}

async fn a_session_that_shrinks_leaves_no_cookies_behind(kind: Kind) {
    let mut browser = browser_at(World::new(kind).layer());
    browser.post("/grow/a/10000").await.assert_ok();
    for (len, cookies) in [(7000, 3), (10, 1)] {
        let answer = browser.post(&format!("/grow/a/{len}")).await.assert_ok();
        assert_eq!(browser.cookie_count(), cookies);
        let removed = |set: &&String| set.contains("Max-Age=0");
        let removals: Vec<_> = answer.set_cookies();
        let removals = removals.iter().filter(removed).count();
        assert_eq!(removals, if len == 10 { 2 } else { 1 });
        assert_eq!(read_len(&browser, "a").await, len);
    }
    let answer = browser.post("/put/b/1").await.assert_ok();
    answer.the_cookie();
}

async fn a_logout_removes_all_cookies(kind: Kind) {
    for path in ["/logout", "/flush"] {
        let mut browser = browser_at(World::new(kind).layer());
        browser.post("/grow/a/10000").await.assert_ok();
        browser.post(path).await.assert_ok();
        assert_eq!(browser.cookie_count(), 0);
    }
}

async fn with_a_cookie_missing_or_of_another_session_there_is_no_session(kind: Kind) {
    let world = World::new(kind);
    let (mut one, mut other) = (browser_at(world.layer()), browser_at(world.layer()));
    one.post("/grow/a/7000").await.assert_ok();
    other.post("/grow/a/7000").await.assert_ok();
    let names: Vec<_> = ["", "-1", "-2"].map(|end| format!("{NAME}{end}")).into();
    let pair = |browser: &Browser, name: &str| format!("{name}={}", browser.cookie(name).unwrap());
    for name in &names {
        let rest = names.iter().filter(|kept| *kept != name);
        let rest: Vec<_> = rest.map(|name| pair(&one, name)).collect();
        let missing = rest.join("; ");
        assert_eq!(one.read_with("/optional", missing.as_bytes()).await, "none");
        let foreign = format!("{missing}; {}", pair(&other, name));
        assert_eq!(one.read_with("/optional", foreign.as_bytes()).await, "none");
    }
    let reversed: Vec<_> = names.iter().rev().map(|name| pair(&one, name)).collect();
    let reversed = reversed.join("; ");
    assert_eq!(
        one.read_with("/optional", reversed.as_bytes()).await,
        "some"
    );
}

async fn a_planted_cookie_under_the_name_of_a_part_does_not_hide_the_session(kind: Kind) {
    let world = World::new(kind);
    let (mut browser, mut attacker) = (browser_at(world.layer()), browser_at(world.layer()));
    browser.post("/grow/a/7000").await.assert_ok();
    attacker.post("/grow/a/7000").await.assert_ok();
    let ours = browser.cookie_header().unwrap();
    let part = attacker.cookie("__Host-id-1").unwrap();
    for planted in [format!("{NAME}-1={part}"), format!("{NAME}-2=x")] {
        for cookie in [format!("{planted}; {ours}"), format!("{ours}; {planted}")] {
            assert_eq!(
                browser.read_with("/optional", cookie.as_bytes()).await,
                "some"
            );
        }
    }
}

async fn what_does_not_fit_is_an_error_where_it_is_put_in_and_the_session_stays(kind: Kind) {
    let mut browser = browser_at(World::new(kind).layer());
    browser.post("/put/color/red").await.assert_ok();
    browser.post("/grow/a/8000").await.assert_ok();
    let answer = browser.post("/grow/b/8000").await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.body, "the session is full");
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(browser.get("/get/color").await.body, "\"red\"");
    assert_eq!(read_len(&browser, "a").await, 8000);
    assert_eq!(browser.get("/get/b").await.body, "-");
}

async fn a_session_that_no_longer_fits_is_an_error_where_it_is_sealed_and_stays(kind: Kind) {
    let world = World::new(kind);
    let layer = |path: &str| world.layer().with_path(path);
    let mut browser = browser_at(layer("/shop"));
    browser.post("/put/color/red").await.assert_ok();
    browser.post("/fill").await.assert_ok();
    let cookies = browser.cookie_header().unwrap();
    let longer = browser_at(layer(&format!("/{}", "p".repeat(300))));
    let send = async |method: http::Method, path: &str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("cookie", http::HeaderValue::from_str(&cookies).unwrap());
        longer.send_with(method, path, headers).await
    };
    world.pass(3 * crate::world::DAY);
    let read = send(http::Method::GET, "/get/color").await.assert_ok();
    assert_eq!((&*read.body, read.set_cookies()), ("\"red\"", vec![]));
    for path in ["/cycle", "/login/ada", "/put/color/blue"] {
        let refused = send(http::Method::POST, path).await;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert_eq!(refused.set_cookies(), [""; 0]);
    }
    assert_eq!(world.marks().await, 0, "the session stays");
    let smaller = send(http::Method::POST, "/remove/filler").await.assert_ok();
    assert!(smaller.set_cookies()[0].starts_with("__Secure-id=1"));
}

async fn whatever_fits_is_kept_by_a_browser_whatever_the_options_and_the_user(kind: Kind) {
    let world = World::new(kind);
    let path = format!("/{}", "p".repeat(200));
    let longest = "n".repeat(64);
    let layers = [
        world.layer(),
        world.layer().with_cookie_name(&longest),
        world
            .layer()
            .with_cookie_name(&longest)
            .with_path(&path)
            .with_domain("shop.example.org")
            .with_same_site(tower_keep::SameSite::Strict)
            .with_partitioned(),
        world
            .layer()
            .with_insecure_http()
            .with_insecure_script_access(),
    ];
    for layer in layers {
        let mut browser = browser_at(layer);
        browser.post("/put/color/red").await.assert_ok();
        let filled = browser.post("/fill").await.assert_ok();
        let len: usize = filled.body.parse().unwrap();
        assert!(len > 10_000, "{len}");
        assert_eq!(browser.cookie_count(), 4);
        // With the longest user there is.
        let user = "u".repeat(255);
        let answer = browser.post(&format!("/login/{user}")).await.assert_ok();
        let sent: Vec<_> = answer.set_cookies();
        assert!(sent.iter().all(|cookie| cookie.len() <= 4096));
        assert_eq!(browser.cookie_count(), 4);
        assert_eq!(browser.get("/whoami").await.body, user);
        assert_eq!(read_len(&browser, "filler").await, len);
    }
}

#[test]
#[should_panic(expected = "the cookie's path and domain leave no room")]
fn a_path_that_leaves_no_room_is_a_panic_when_the_layer_is_built() {
    let layer = World::new(Kind::Signed).layer();
    let layer = layer.with_path(&format!("/{}", "p".repeat(3800)));
    drop(routes().layer(layer));
}
