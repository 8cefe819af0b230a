//! Records that can not be read, and values that can not be written.

use std::collections::HashMap;

use axum::{Router, extract::Path, routing::post};
use tower_keep::{Error, ErrorKind, MemoryStore, Outage, Session, SessionLayer};

use crate::support::{Answer, Browser, Site, app, one_in_elsewhere, router, some_of};

/// A browser whose session has two entries, and what of it is stored.
async fn shopper(site: &Site) -> (Browser, Vec<u8>) {
    let mut browser = site.browser();
    browser.post("/put/cart/book").await.assert_ok();
    browser.post("/count/visits").await.assert_ok();
    let record = site.record_of(&browser).await.unwrap();
    (browser, record.payload.as_bytes().to_vec())
}

/// Reads, writes and rotates under a damaged record: anonymous, and the row stays as it is.
async fn is_anonymous_and_left_alone(payload: Vec<u8>, what: &str) {
    let site = Site::new();
    let (mut browser, _) = shopper(&site).await;
    let damaged = site.overwrite(&browser, payload).await;
    let before = browser.clone();
    assert!(before.is_anonymous().await, "{what}");
    for path in ["/remove/cart", "/clear", "/cycle", "/expire/60"] {
        let answer = before.clone().post(path).await.assert_ok();
        assert_eq!(answer.set_cookies(), [""; 0], "{what}: {path}");
    }
    for path in ["/put/new/data", "/login/ada"] {
        let mut browser = before.clone();
        browser.post(path).await.assert_ok().the_cookie();
        assert_ne!(browser.id(), before.id(), "{what}: {path}");
    }
    browser.post("/put/new/data").await.assert_ok();
    assert_eq!(browser.get("/dump").await.body, r#"{"new":"data"}"#);
    assert_eq!(site.record_of(&before).await, Some(damaged), "{what}");
}

#[tokio::test]
async fn a_record_truncated_at_any_byte_is_anonymous_and_not_overwritten() {
    let (_, payload) = shopper(&Site::new()).await;
    assert!(payload.len() > 40);
    for cut in some_of(0..payload.len(), one_in_elsewhere(5)) {
        is_anonymous_and_left_alone(payload[..cut].to_vec(), &format!("cut at {cut}")).await;
    }
}

#[tokio::test]
async fn a_record_with_something_behind_its_end_is_anonymous_and_not_overwritten() {
    let (_, payload) = shopper(&Site::new()).await;
    let longer = [&payload[..], b"\0"].concat();
    is_anonymous_and_left_alone(longer, "one byte more").await;
}

#[tokio::test]
async fn a_record_that_is_something_else_is_anonymous_and_not_overwritten() {
    let (_, payload) = shopper(&Site::new()).await;
    let first = payload[0];
    for (what, garbage) in [
        ("zeros", vec![0; 64]),
        ("a huge count", [&[first][..], &[0xff; 63]].concat()),
        (
            "a megabyte of a huge count",
            [&[first][..], &[0xff; 1 << 20]].concat(),
        ),
        ("text of another zero", b"\0{\"cart\":\"book\"}".to_vec()),
        ("only the version", vec![first]),
        ("overlapping ends", {
            let mut bytes = payload.clone();
            // The end of the first key.
            bytes[14] = 0xff;
            bytes
        }),
    ] {
        is_anonymous_and_left_alone(garbage, what).await;
    }
}

#[tokio::test]
async fn no_flipped_bit_of_a_record_makes_a_request_panic_or_a_read_write() {
    let (_, payload) = shopper(&Site::new()).await;
    for place in some_of(0..payload.len(), one_in_elsewhere(5)) {
        for bit in [0, 3, 7] {
            let site = Site::new();
            let (browser, _) = shopper(&site).await;
            let mut flipped = payload.clone();
            flipped[place] ^= 1 << bit;
            let damaged = site.overwrite(&browser, flipped).await;
            for path in ["/dump", "/get/cart", "/get/visits", "/whoami"] {
                let answer = browser.clone().get(path).await;
                let status = answer.status.as_u16();
                assert!([200, 500, 503].contains(&status), "{place} {bit}: {status}");
                assert_eq!(answer.set_cookies(), [""; 0]);
                assert_eq!(site.record_of(&browser).await.as_ref(), Some(&damaged));
            }
            let answer = browser.clone().post("/count/visits").await;
            let status = answer.status.as_u16();
            assert!([200, 500, 503].contains(&status), "{place} {bit}: {status}");
            assert!(site.keeps_what_it_hands_out(&answer).await);
        }
    }
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_a_503_and_not_overwritten() {
    for version in [2, 3, 255] {
        let site = Site::new();
        let (browser, mut payload) = shopper(&site).await;
        let readable = payload.clone();
        payload[0] = version;
        for payload in [payload, vec![version], vec![version; 1000]] {
            let newer = site.overwrite(&browser, payload).await;
            let anonymous = app(site.layer().with_outage(Outage::Anonymous));
            let anonymous = Browser::new(&anonymous).with_id_of(&browser);
            for path in ["/loaded", "/optional", "/dump"] {
                refused(&browser.clone().get(path).await);
                // The store is not out.
                refused(&anonymous.clone().get(path).await);
            }
            for path in ["/put/new/data", "/login/ada", "/cycle", "/flush", "/clear"] {
                refused(&browser.clone().post(path).await);
            }
            assert_eq!(site.record_of(&browser).await, Some(newer));
            assert_eq!(site.memory.count().await, 1);
        }
        site.overwrite(&browser, readable).await;
        let dump = browser.clone().get("/dump").await.assert_ok();
        assert_eq!(dump.body, r#"{"cart":"book","visits":1}"#);
    }
}

#[track_caller]
fn refused(answer: &Answer) {
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, "the session is unavailable, try again");
    assert_eq!(answer.set_cookies(), [""; 0]);
}

#[tokio::test]
async fn a_record_that_can_not_be_read_can_still_be_logged_out_of() {
    for payload in [vec![2; 64], vec![0; 64], Vec::new()] {
        let site = Site::new();
        let (mut browser, _) = shopper(&site).await;
        site.overwrite(&browser, payload).await;
        let answer = browser.post("/logout").await.assert_ok();
        assert!(answer.the_cookie().contains("Max-Age=0"));
        assert_eq!(site.memory.count().await, 0);
    }
}

/// A request that has loaded its session, which is then overwritten before it commits.
async fn meets_another_record_at_its_commit(payload: Vec<u8>, path: &str) {
    let site = std::sync::Arc::new(Site::new());
    let (before, _) = shopper(&site).await;
    let (disk, victim) = (std::sync::Arc::clone(&site), before.clone());
    let change = async move |session: Session, Path(verb): Path<String>| -> Result<(), Error> {
        disk.overwrite(&victim, payload.clone()).await;
        match &*verb {
            "insert" => session.insert("new", "data"),
            "login" => session.login("ada"),
            _ => session.cycle_id(),
        }
    };
    let routes = Router::new().route("/meanwhile/{verb}", post(change));
    let mut browser = site.browser_with(routes).with_id_of(&before);
    let answer = browser.post(path).await;
    assert_eq!(answer.status, 503, "{path}");
    assert_eq!(answer.set_cookies(), [""; 0]);
    let record = site.record_of(&before).await.unwrap();
    assert_eq!(record.version.revision, 3, "{path}: the one on the disk");
    assert_eq!(site.memory.count().await, 1);
}

#[tokio::test]
async fn a_record_that_becomes_unreadable_during_a_request_is_a_503_and_not_overwritten() {
    for payload in [vec![0; 64], vec![2; 64], Vec::new()] {
        for verb in ["insert", "login", "cycle"] {
            let path = format!("/meanwhile/{verb}");
            meets_another_record_at_its_commit(payload.clone(), &path).await;
        }
    }
}

fn small(site: &Site) -> SessionLayer {
    site.layer().with_record_bytes_max(1000)
}

#[tokio::test]
async fn a_record_over_a_limit_that_was_lowered_is_not_made_larger() {
    let site = Site::new();
    let mut browser = site.browser();
    let large = "x".repeat(2000);
    browser
        .post(&format!("/put/large/{large}"))
        .await
        .assert_ok();
    browser.post("/put/cart/book").await.assert_ok();
    let before = site.record_of(&browser).await;
    let mut browser = Browser::new(&app(small(&site))).with_id_of(&browser);
    for path in ["/put/new/data", "/put/cart/books", "/append/list/a"] {
        let refused = browser.post(path).await;
        assert_eq!(refused.status, 413, "{path}");
        assert_eq!(refused.set_cookies(), [""; 0]);
        assert_eq!(site.record_of(&browser).await, before);
    }
    assert_eq!(browser.get("/get/cart").await.body, r#""book""#);
    browser.post("/remove/large").await.assert_ok();
    browser.post("/put/new/data").await.assert_ok();
    assert_eq!(
        browser.get("/dump").await.body,
        r#"{"cart":"book","new":"data"}"#
    );
}

#[tokio::test]
async fn a_session_may_be_as_large_as_its_limit_and_not_a_byte_larger() {
    // 14 bytes in all and 8 an entry, 3 for the key and 2 for the quotes.
    let fits = 1000 - 14 - 8 - 3 - 2;
    for (length, status) in [(fits, 200), (fits + 1, 413)] {
        let site = Site::new();
        let mut browser = Browser::new(&app(small(&site)));
        let value = "x".repeat(length);
        let answer = browser.post(&format!("/put/key/{value}")).await;
        assert_eq!(answer.status, status, "{length}");
        assert_eq!(answer.set_cookies().is_empty(), status == 413);
        assert_eq!(site.memory.count().await == 0, status == 413);
    }
}

#[tokio::test]
async fn what_would_outgrow_the_limit_fails_at_its_line_and_leaves_the_session_as_it_was() {
    let site = Site::new();
    let grow = async |session: Session| -> Result<String, Error> {
        let large = "x".repeat(2000);
        let value = large.clone();
        for refused in [
            session.insert("cart", &large),
            session.insert(&large, 1),
            session.extend([("a", "1"), ("cart", &large)]),
            session
                .update("cart", move |_: Option<String>| value.clone())
                .map(drop),
            session.get_or_insert_with("b", || large.clone()).map(drop),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(!format!("{error} {error:?}").contains("xxx"));
        }
        assert_eq!(session.keys(), ["cart"]);
        Ok(session.get::<String>("cart")?.unwrap_or_default())
    };
    let app = router().route("/grow", post(grow)).layer(small(&site));
    let mut browser = Browser::new(&app);
    browser.post("/put/cart/book").await.assert_ok();
    let before = site.record_of(&browser).await;
    assert_eq!(browser.post("/grow").await.assert_ok().body, "book");
    assert_eq!(site.record_of(&browser).await, before, "nothing is written");
    browser.post("/put/small/1").await.assert_ok();
}

#[tokio::test]
async fn a_value_that_does_not_serialize_fails_at_its_line_and_leaves_the_session_as_it_was() {
    let site = Site::new();
    let fail = async |session: Session| -> Result<String, Error> {
        let unwritable = || HashMap::from([((1, 2), "secret")]);
        for refused in [
            session.insert("cart", unwritable()),
            session.extend([("a", unwritable()), ("cart", unwritable())]),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encode);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
        assert_eq!(session.keys(), ["cart"]);
        Ok(session.get::<String>("cart")?.unwrap_or_default())
    };
    let pass_on = async |session: Session| -> Result<(), Error> {
        session.insert("first", 1)?;
        session.insert("second", HashMap::from([((1, 2), 3)]))
    };
    let routes = Router::new()
        .route("/fail", post(fail))
        .route("/pass-on", post(pass_on));
    let mut browser = site.browser_with(routes);
    browser.post("/put/cart/book").await.assert_ok();
    let before = site.record_of(&browser).await;
    assert_eq!(browser.post("/fail").await.assert_ok().body, "book");
    assert_eq!(browser.post("/pass-on").await.status, 500);
    assert_eq!(site.record_of(&browser).await, before);
}

#[tokio::test]
async fn changes_of_two_requests_that_together_outgrow_the_limit_are_a_413_and_the_first_stays() {
    let site = Site::new();
    let mut first = Browser::new(&app(small(&site)));
    first.post("/put/cart/book").await.assert_ok();
    let other = first.clone();
    let grow = async move |session: Session| -> Result<(), Error> {
        let path = format!("/put/other/{}", "x".repeat(600));
        other.clone().post(&path).await.assert_ok();
        session.insert("mine", "y".repeat(600))
    };
    let app = router().route("/grow", post(grow)).layer(small(&site));
    let mut browser = Browser::new(&app).with_id_of(&first);
    let refused = browser.post("/grow").await;
    assert_eq!(refused.status, 413);
    assert_eq!(refused.set_cookies(), [""; 0]);
    assert_eq!(browser.get("/contains/other").await.body, "true");
    assert_eq!(browser.get("/contains/mine").await.body, "false");
}

#[tokio::test]
async fn a_session_larger_than_the_store_takes_is_a_413_and_the_old_state_stays() {
    let site = Site::with_memory(MemoryStore::new().with_bytes_max(70_000).into());
    let layer = || site.layer().with_record_bytes_max(1_000_000);
    let grow = async |session: Session| session.insert("large", "x".repeat(100_000));
    let app = router().route("/grow", post(grow)).layer(layer());
    let mut browser = Browser::new(&app);
    let refused = browser.post("/grow").await;
    assert_eq!(refused.status, 413);
    assert_eq!(refused.set_cookies(), [""; 0]);
    browser.post("/put/cart/book").await.assert_ok();
    let before = site.record_of(&browser).await;
    let refused = browser.post("/grow").await;
    assert_eq!(refused.status, 413);
    assert_eq!(refused.set_cookies(), [""; 0]);
    assert_eq!(site.record_of(&browser).await, before);
    assert_eq!(browser.get("/dump").await.body, r#"{"cart":"book"}"#);
}
