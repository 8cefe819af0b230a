//! A list of a user's devices: what sessions hold, read from the store.

use std::error::Error as _;

use serde_json::Value;
use tower_keep::{ErrorKind, RecordId, ScanSessions, StoredSession, UserId, UserSessions};

use crate::support::{Browser, Site};

/// A browser with a session of that user, and a name in it.
async fn device(site: &Site, user: &str, name: &str) -> Browser {
    let mut browser = site.browser();
    let name = format!("/put/user_agent/{name}");
    browser.post(&format!("/login/{user}")).await.assert_ok();
    browser.post(&name).await.assert_ok();
    browser
}

async fn sessions_of(site: &Site, user: &str) -> Vec<StoredSession> {
    let user = UserId::new(user).unwrap();
    site.store.sessions_of(&user).await.unwrap()
}

async fn one(site: &Site) -> StoredSession {
    let page = site.store.scan(None, 10).await.unwrap();
    let [stored] = &page.sessions[..] else {
        panic!("{page:?}");
    };
    stored.clone()
}

#[tokio::test]
async fn a_user_sees_what_each_of_the_own_sessions_holds_and_which_is_the_present_one() {
    let site = Site::new();
    let mut here = device(&site, "ada", "Firefox").await;
    device(&site, "ada", "Safari").await;
    device(&site, "grace", "Chrome").await;

    let this = here.get("/record").await.assert_ok().body;
    let mut devices: Vec<(String, bool)> = sessions_of(&site, "ada")
        .await
        .iter()
        .map(|stored| {
            let name = stored.get("user_agent").unwrap();
            (name.unwrap(), stored.id.to_hex() == this)
        })
        .collect();
    devices.sort();
    let expected = [("Firefox".to_owned(), true), ("Safari".to_owned(), false)];
    assert_eq!(devices, expected);
}

#[tokio::test]
async fn a_stored_session_reads_as_the_session_itself_does() {
    let site = Site::new();
    let mut browser = device(&site, "ada", "Firefox").await;
    browser.post("/count/visits").await.assert_ok();
    browser.post("/append/cart/book").await.assert_ok();
    browser.post("/put/theme/dark").await.assert_ok();
    browser.post("/remove/theme").await.assert_ok();

    let stored = one(&site).await;
    assert_eq!(stored.get::<u64>("visits").unwrap(), Some(1));
    assert_eq!(
        stored.get::<Vec<String>>("cart").unwrap(),
        Some(vec!["book".to_owned()])
    );
    assert_eq!(stored.get::<String>("theme").unwrap(), None);
    let entries: Vec<String> = stored
        .entries()
        .unwrap()
        .map(|entry| format!("{:?}:{}", entry.key(), entry.json()))
        .collect();
    let dump = format!("{{{}}}", entries.join(","));
    assert_eq!(browser.get("/dump").await.assert_ok().body, dump);
    let keys: Vec<_> = stored.entries().unwrap().collect();
    let keys: Vec<_> = keys.iter().map(|entry| entry.key()).collect();
    assert_eq!(keys, ["cart", "user_agent", "visits"]);
}

#[tokio::test]
async fn a_session_that_holds_nothing_reads_as_empty() {
    let site = Site::new();
    let mut browser = site.browser();
    browser.post("/login/ada").await.assert_ok();
    let stored = one(&site).await;
    assert_eq!(stored.get::<Value>("user_agent").unwrap(), None);
    assert_eq!(stored.entries().unwrap().count(), 0);
}

#[tokio::test]
async fn a_value_of_another_type_is_an_error_that_does_not_quote_it() {
    let site = Site::new();
    device(&site, "ada", "Firefox").await;
    let error = one(&site).await.get::<u64>("user_agent").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    let text = format!("{error} {error:?} {}", error.source().unwrap());
    assert!(!text.contains("Firefox"), "{text}");
}

#[tokio::test]
async fn a_damaged_and_a_newer_payload_are_errors_and_the_other_devices_can_be_read() {
    let site = Site::new();
    let damaged = device(&site, "ada", "Firefox").await;
    let newer = device(&site, "ada", "Safari").await;
    device(&site, "ada", "Chrome").await;
    site.overwrite(&damaged, vec![0; 64]).await;
    site.overwrite(&newer, vec![2; 64]).await;

    let mut found: Vec<String> = sessions_of(&site, "ada")
        .await
        .iter()
        .map(|stored| {
            let of_get = stored.get::<String>("user_agent");
            let of_entries = stored.entries().map(drop).map_err(|error| error.kind());
            assert_eq!(of_entries.err(), of_get.as_ref().err().map(|e| e.kind()));
            match of_get {
                Ok(name) => name.unwrap(),
                Err(error) => format!("{:?}", error.kind()),
            }
        })
        .collect();
    found.sort();
    assert_eq!(found, ["Chrome", "Store", "Unsupported"]);
}

#[tokio::test]
async fn a_payload_cut_anywhere_makes_nothing_panic() {
    let site = Site::new();
    device(&site, "ada", "Firefox").await;
    let whole = one(&site).await;
    let payload = whole.record.payload.as_bytes();
    for cut in 0..payload.len() {
        let mut stored = whole.clone();
        stored.id = RecordId::from_bytes([7; 32]);
        stored.record.payload = payload[..cut].into();
        let kind = stored.get::<Value>("user_agent").unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Store, "{cut}");
    }
}
