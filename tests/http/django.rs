//! What the tests of Django's session framework promise, as far as it can be seen in cookies and
//! headers.

use std::time::Duration;

use axum::{
    Router,
    routing::{get, post},
};
use http::Method;
use tower_keep::{LazySession, SameSite, Session, SessionLayer, testing::Counts};

use crate::{
    counted::{Counted, NAME, NONE, cookie, loads, unknown_id},
    slow::Door,
    support::{Browser, router},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The cookie of a first write with these options.
async fn first_cookie(options: impl FnOnce(SessionLayer) -> SessionLayer) -> String {
    let answer = Counted::with(options).browser().post("/put/a/b").await;
    answer.assert_ok().the_cookie()
}

fn has(set: &str, attribute: &str) -> bool {
    set.split("; ").skip(1).any(|part| part == attribute)
}

#[tokio::test]
async fn secure_is_on_and_with_insecure_http_off_and_the_prefix_with_it() {
    let on = first_cookie(|layer| layer).await;
    assert!(has(&on, "Secure") && on.starts_with("__Host-id="), "{on}");
    let off = first_cookie(|layer| layer.with_insecure_http()).await;
    assert!(!has(&off, "Secure") && off.starts_with("id="), "{off}");
    assert!(has(&off, "HttpOnly") && has(&off, "SameSite=Lax"), "{off}");
}

#[tokio::test]
async fn http_only_is_on_and_with_insecure_script_access_off() {
    let on = first_cookie(|layer| layer).await;
    assert!(has(&on, "HttpOnly"), "{on}");
    let off = first_cookie(|layer| layer.with_insecure_script_access()).await;
    assert!(!has(&off, "HttpOnly") && has(&off, "Secure"), "{off}");
}

#[tokio::test]
async fn same_site_is_written_as_it_is_chosen() {
    for (chosen, written) in [
        (None, "SameSite=Lax"),
        (Some(SameSite::Lax), "SameSite=Lax"),
        (Some(SameSite::Strict), "SameSite=Strict"),
        (Some(SameSite::None), "SameSite=None"),
    ] {
        let set = first_cookie(|layer| match chosen {
            None => layer,
            Some(chosen) => layer.with_same_site(chosen),
        });
        let set = set.await;
        assert!(has(&set, written) && has(&set, "Secure"), "{set}");
        assert_eq!(set.matches("SameSite").count(), 1, "{set}");
    }
}

#[tokio::test]
async fn a_cookie_with_a_domain_and_a_path_is_set_and_removed_with_both() {
    let options = |layer: SessionLayer| layer.with_domain("example.org").with_path("/shop");
    let counted = Counted::with(options);
    let mut browser = counted.browser();
    let set = browser.post("/put/a/b").await.assert_ok().the_cookie();
    let removal = browser.post("/flush").await.assert_ok().the_cookie();
    for cookie in [&set, &removal] {
        assert!(cookie.starts_with("__Secure-id="), "{cookie}");
        assert!(has(cookie, "Domain=example.org"), "{cookie}");
        assert!(has(cookie, "Path=/shop"), "{cookie}");
    }
    assert!(has(&removal, "Max-Age=0") && !has(&set, "Max-Age=0"));
    assert_eq!(browser.cookie_header(), None);
}

#[tokio::test]
async fn a_flush_without_a_cookie_sets_none_and_asks_no_store() {
    let counted = Counted::new();
    for mut browser in counted.browsers().await {
        for path in ["/flush", "/logout"] {
            let answer = browser.post(path).await.assert_ok();
            assert_eq!(answer.set_cookies(), [""; 0]);
            assert_eq!(counted.store.take(), NONE);
        }
    }
}

#[tokio::test]
async fn an_empty_session_is_never_stored() {
    let emptied = async |session: Session| -> Result<(), tower_keep::Error> {
        session.insert("color", "red")?;
        session.remove::<String>("color")?;
        session.insert("size", "small")?;
        session.clear()?;
        session.save().await
    };
    let routes = Router::new().route("/emptied", post(emptied));
    let counted = Counted::of(router().merge(routes), |layer| layer);
    for (headers, calls) in [(cookie(""), NONE), (cookie(&unknown_id()), loads(1))] {
        for path in [
            "/clear",
            "/cycle",
            "/save",
            "/expire/60",
            "/expire/browser",
            "/expire/reset",
            "/remove/color",
            "/emptied",
        ] {
            let browser = counted.browser();
            let answer = browser.send_with(Method::POST, path, headers.clone()).await;
            assert_eq!(answer.assert_ok().set_cookies(), [""; 0], "{path}");
            assert_eq!(counted.store.take(), calls, "{path}");
        }
    }
    assert_eq!(counted.store.inner().count().await, 0);
}

#[tokio::test]
async fn a_key_that_is_invalid_too_short_or_1240_characters_long_is_replaced_on_save() {
    let counted = Counted::new();
    for key in ["!".repeat(43), "A1b2C3".into(), "X".repeat(1240)] {
        let mut browser = counted.browser();
        browser.set_cookie(NAME, &key);
        assert_eq!(browser.get("/dump").await.assert_ok().body, "{}");
        assert_eq!(counted.store.take(), NONE);
        browser.post("/put/color/red").await.assert_ok();
        assert_eq!(counted.store.take(), Counts { create: 1, ..NONE });
        let id = browser.id().unwrap();
        assert!(id != key && counted.holds(id).await);
        assert_eq!(browser.get("/get/color").await.body, "\"red\"");
        counted.store.take();
    }
}

#[tokio::test]
async fn loading_an_unknown_key_creates_nothing() {
    let counted = Counted::new();
    let key = unknown_id();
    for mut browser in counted.browsers().await {
        browser.set_cookie(NAME, &key);
        for path in ["/loaded", "/optional", "/dump"] {
            let answer = browser.get(path).await.assert_ok();
            assert_eq!(answer.set_cookies(), [""; 0]);
            assert_eq!(counted.store.take(), loads(1));
        }
    }
    assert!(!counted.holds(&key).await && counted.store.inner().count().await == 0);
}

#[tokio::test]
async fn path_separators_in_a_key_reach_no_store() {
    let counted = Counted::new();
    for key in ["a/b/c", "a\\b\\c", "../../etc/passwd", "/", "..\\..\\x"] {
        let fill = |shape: &str| shape.chars().cycle().take(43).collect::<String>();
        for key in [key.to_owned(), fill(key)] {
            let headers = cookie(&key);
            let browser = counted.browser();
            let answer = browser.send_with(Method::GET, "/dump", headers).await;
            assert_eq!(answer.assert_ok().body, "{}");
            assert_eq!(counted.store.take(), NONE, "{key}");
        }
    }
}

#[tokio::test]
async fn nothing_is_saved_when_the_answer_is_a_server_error() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    for mut browser in counted.browsers().await {
        for status in ["500", "502", "503", "599"] {
            let path = format!("/put/color/blue?then={status}");
            let answer = browser.stranger().post(&path).await;
            assert_eq!(answer.status.as_str(), status);
            assert_eq!(answer.set_cookies(), [""; 0]);
            assert_eq!(counted.store.take(), NONE);

            browser.set_cookie(NAME, &live);
            for path in [path, format!("/cycle?then={status}")] {
                let answer = browser.post(&path).await;
                assert_eq!(answer.status.as_str(), status);
                assert_eq!(answer.set_cookies(), [""; 0]);
                assert_eq!(counted.store.take(), loads(1));
            }
            assert_eq!(browser.get("/get/color").await.body, "\"red\"");
            counted.store.take();
        }
    }
    assert_eq!(counted.store.inner().count().await, 1);
}

#[tokio::test]
async fn below_500_what_was_changed_is_saved() {
    let counted = Counted::new();
    for status in ["302", "400", "404", "499"] {
        let mut browser = counted.browser();
        let path = format!("/put/color/red?then={status}");
        browser.post(&path).await.the_cookie();
        assert_eq!(browser.get("/get/color").await.body, "\"red\"");
    }
}

/// Django's truth table: the layer's own rule, the session's rules one after the other, and
/// whether the cookie then ends with the browser.
#[tokio::test]
async fn whether_the_cookie_ends_with_the_browser_follows_from_layer_and_session() {
    for (by_layer, rules, closes) in [
        (false, &[][..], false),
        (false, &["60"], false),
        (false, &["browser"], true),
        (false, &["browser", "reset"], false),
        (false, &["browser", "60"], false),
        (true, &[], true),
        (true, &["60"], false),
        (true, &["browser"], true),
        (true, &["60", "reset"], true),
        (true, &["60", "browser"], true),
    ] {
        let counted = Counted::with(|layer| match by_layer {
            true => layer.with_browser_close().with_idle_timeout(HOUR),
            false => layer.with_idle_timeout(HOUR),
        });
        let mut browser = counted.browser();
        browser.post("/put/color/red").await.assert_ok();
        for rule in rules {
            let path = format!("/expire/{rule}");
            browser.post(&path).await.assert_ok().the_cookie();
        }
        let idle = match rules.last() {
            Some(&"60") => Duration::from_secs(60),
            _ => HOUR,
        };
        let age = (!closes).then_some(idle);
        let shown = format!("layer {by_layer}, {rules:?}");
        assert_eq!(browser.max_age(), age, "{shown}");

        // It lasts: for a renewed cookie, and for one with another id.
        counted.clock.advance(idle / 2);
        let renewed = browser.get("/get/color").await.assert_ok();
        assert_eq!(renewed.set_cookies().is_empty(), closes, "{shown}");
        assert_eq!(browser.max_age(), age, "{shown}, renewed");
        browser.post("/cycle").await.assert_ok().the_cookie();
        assert_eq!(browser.max_age(), age, "{shown}, rotated");

        browser.restart();
        assert_eq!(browser.id().is_none(), closes, "{shown}");
    }
}

#[tokio::test]
async fn a_rotation_that_meets_a_browser_close_rule_sets_a_cookie_that_ends_with_the_browser() {
    for (first, second) in [("browser", None), ("60", Some(Duration::from_secs(60)))] {
        let door = Door::default();
        let counted = door.before_app();
        let mut browser = counted.browser();
        browser.set_cookie(NAME, &counted.live("red").await);
        let slow = door.request(&browser, "cycle").await;
        let path = format!("/expire/{first}");
        browser.post(&path).await.assert_ok().the_cookie();
        assert_eq!(browser.max_age(), second);
        let rotated = door.open(slow).await.assert_ok().the_cookie();
        let age = second.map(|age| format!("Max-Age={}", age.as_secs()));
        let set = rotated.split("; ").find(|part| part.starts_with("Max-Age"));
        assert_eq!(set, age.as_deref(), "{rotated}");
    }
}

#[tokio::test]
async fn a_fresh_session_is_neither_accessed_nor_modified() {
    let handler = async |_: LazySession| "fresh";
    let counted = Counted::of(Router::new().route("/", get(handler)), |layer| layer);
    for mut browser in counted.browsers().await {
        let answer = browser.get("/").await.assert_ok();
        assert_eq!(answer.header("vary"), None);
        assert_eq!(answer.header("cache-control"), None);
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    assert_eq!(counted.store.take(), NONE);
}

/// Changes nothing of a session that is loaded, whatever it looks like.
async fn leaves_unmodified(change: fn(&Session) -> Result<(), tower_keep::Error>) {
    let handler = async move |session: Session| change(&session);
    let counted = Counted::of(Router::new().route("/", get(handler)), |layer| layer);
    let live = counted.live("red").await;
    let browser = counted.browser();
    let answer = browser.send_with(Method::GET, "/", cookie(&live)).await;
    let answer = answer.assert_ok();
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(answer.header("vary"), Some("Cookie"));
    assert_eq!(counted.store.take(), loads(1));
}

#[tokio::test]
async fn removing_a_missing_key_leaves_the_session_unmodified() {
    leaves_unmodified(|session| {
        assert_eq!(session.remove::<String>("missing")?, None);
        session.delete_test_cookie()
    })
    .await;
}

#[tokio::test]
async fn a_default_for_a_key_that_is_there_leaves_the_session_unmodified() {
    leaves_unmodified(|session| {
        let color = session.get_or_insert_with("color", || "blue".to_owned())?;
        assert_eq!(color, "red");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_same_value_again_leaves_the_session_unmodified() {
    leaves_unmodified(|session| {
        session.insert("color", "blue")?;
        session.insert("color", "red")?;
        session.insert("size", "small")?;
        session.remove::<String>("size")?;
        session.update("color", |color: Option<String>| color.unwrap_or_default())?;
        session.reset_expiry()
    })
    .await;
}

#[tokio::test]
async fn a_clear_as_the_first_thing_empties_the_session_and_keeps_its_id_and_record() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let mut browser = counted.browser();
    browser.set_cookie(NAME, &live);
    let record = browser.get("/record").await.body;
    counted.store.take();
    let answer = browser.post("/clear").await.assert_ok();
    assert_eq!(answer.set_cookies(), [""; 0]);
    let calls = Counts {
        load: 1,
        update: 1,
        ..NONE
    };
    assert_eq!(counted.store.take(), calls);
    assert_eq!(browser.get("/dump").await.body, "{}");
    assert_eq!(browser.get("/record").await.body, record);
    assert_eq!(browser.id(), Some(&*live));
}

#[tokio::test]
async fn a_cycle_as_the_first_thing_keeps_the_data_under_another_id() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let mut browser = counted.browser();
    browser.set_cookie(NAME, &live);
    browser.post("/cycle").await.assert_ok().the_cookie();
    let calls = Counts {
        load: 1,
        rotate: 1,
        ..NONE
    };
    assert_eq!(counted.store.take(), calls);
    assert_ne!(browser.id(), Some(&*live));
    assert!(!counted.holds(&live).await);
    assert_eq!(browser.get("/dump").await.body, "{\"color\":\"red\"}");
}

#[tokio::test]
async fn the_test_cookie_works_for_a_client_that_keeps_cookies_and_can_be_deleted() {
    let routes = Router::new()
        .route("/set", post(async |s: Session| s.set_test_cookie()))
        .route(
            "/worked",
            get(async |s: Session| s.test_cookie_worked().to_string()),
        )
        .route("/delete", post(async |s: Session| s.delete_test_cookie()));
    let counted = Counted::of(routes, |layer| layer);
    for mut browser in counted.browsers().await {
        let deaf: Browser = browser.stranger();
        assert_eq!(browser.get("/worked").await.body, "false");
        browser.post("/set").await.assert_ok().the_cookie();
        assert_eq!(browser.get("/worked").await.body, "true");
        browser.post("/delete").await.assert_ok();
        assert_eq!(browser.get("/worked").await.body, "false");
        assert!(browser.id().is_some());

        deaf.clone().post("/set").await.assert_ok().the_cookie();
        assert_eq!(deaf.clone().get("/worked").await.body, "false");
    }
}
