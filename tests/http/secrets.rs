//! What somebody who reads the whole store can do with it: nothing.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use tower_keep::{ScanSessions, StoredSession};

use crate::support::{Browser, Site};

/// Everything that a store keeps of its sessions: ids, and records with all of their fields.
async fn dump(site: &Site) -> Vec<Vec<u8>> {
    let row =
        |session: StoredSession| [session.id.as_bytes(), &*session.record.to_bytes()].concat();
    let page = site.memory.scan(None, 1000).await.unwrap();
    page.sessions.into_iter().map(row).collect()
}

async fn sessions(site: &Site) -> [Browser; 3] {
    let mut visitor = site.browser();
    visitor.post("/put/cart/book").await.assert_ok();
    let mut ada = site.browser();
    ada.post("/login/ada").await.assert_ok();
    ada.post("/cycle").await.assert_ok();
    let mut grace = site.browser();
    grace.post("/login/grace").await.assert_ok();
    grace.post("/count/visits").await.assert_ok();
    [visitor, ada, grace]
}

#[tokio::test]
async fn nothing_that_a_store_keeps_works_as_a_cookie() {
    let site = Site::new();
    let browsers = sessions(&site).await;
    let thief = site.browser();
    let mut tried = 0;
    for row in dump(&site).await {
        let texts = row.windows(32).map(|bytes| BASE64URL_NOPAD.encode(bytes));
        let written = row.windows(43).filter_map(|text| str::from_utf8(text).ok());
        let hex = HEXLOWER.encode(&row[..32]);
        for value in texts.chain(written.map(str::to_owned)).chain([hex]) {
            let cookie = format!("__Host-id={value}");
            let answer = thief.get_with_cookie("/optional", cookie.as_bytes()).await;
            assert_eq!(answer.assert_ok().body, "none");
            tried += 1;
        }
    }
    assert!(tried > 3 * 50, "{tried}");
    for mut browser in browsers {
        let cookie = browser.cookie_header().unwrap();
        let answer = thief.get_with_cookie("/optional", cookie.as_bytes()).await;
        assert_eq!(answer.assert_ok().body, "some", "the way it is tried works");
        browser.get("/loaded").await.assert_ok();
    }
}

#[tokio::test]
async fn no_id_of_a_client_is_in_what_a_store_keeps() {
    let site = Site::new();
    let browsers = sessions(&site).await;
    let dump = dump(&site).await;
    assert_eq!(dump.len(), browsers.len());
    for browser in browsers {
        let written = browser.id().unwrap().as_bytes();
        let secret = BASE64URL_NOPAD.decode(written).unwrap();
        for row in &dump {
            assert!(!row.windows(43).any(|text| text == written));
            assert!(!row.windows(32).any(|bytes| bytes == secret));
            // Nor a half of it.
            assert!(!row.windows(16).any(|bytes| bytes == &secret[..16]));
            assert!(!row.windows(16).any(|bytes| bytes == &secret[16..]));
        }
    }
}
