//! Servers that have forgotten scripts or sessions, or whose memory is full.

use tower_keep::{Created, Rotated, SessionStore, StoreErrorKind, Updated, UserSessions};
use tower_keep_servers::Server;

use crate::{
    redis_places::{Place, Which, id_of, on_each_topology, order},
    sql_places::{HOUR, new_id, next, now, record},
    support::{Browser, app, layer_over},
};

on_each_topology!(
    all_operations_go_on_when_the_server_has_forgotten_all_scripts,
    sessions_flushed_by_the_server_are_anonymous_and_new_ones_work,
    a_full_memory_refuses_changes_and_serves_reads_and_logouts,
);

async fn order_all(place: &Place, words: &[&str]) {
    for server in place.primaries() {
        order(server, words).await;
    }
}

async fn all_operations_go_on_when_the_server_has_forgotten_all_scripts(which: Which) {
    let place = Place::own(which).await;
    let store = place.store();
    let forget = async || order_all(&place, &["SCRIPT", "FLUSH"]).await;
    let first = record(now(), HOUR, Some("ada"));
    let (id, other) = (new_id(), new_id());
    let (second, third) = (next(&first), next(&next(&first)));
    forget().await;
    assert_eq!(store.create(&id, &first).await.unwrap(), Created::Done);
    forget().await;
    assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&first));
    let updated = store.update(&id, &second, first.version).await.unwrap();
    assert_eq!(updated, Updated::Done);
    forget().await;
    let later = second.expires_at.saturating_add(HOUR / 2);
    assert!(store.touch(&id, later, second.version).await.unwrap());
    forget().await;
    let rotated = store.rotate(&id, &other, &third, second.version).await;
    assert_eq!(rotated.unwrap(), Rotated::Done);
    forget().await;
    let user = first.user.as_ref().unwrap();
    assert_eq!(store.sessions_of(user).await.unwrap().len(), 1);
    assert!(store.delete(&other).await.unwrap());
    forget().await;
    assert!(!store.delete(&other).await.unwrap());

    let mut browser = Browser::new(&app(layer_over(store)));
    for path in ["/put/a/b", "/login/ada", "/count/n", "/cycle", "/logout"] {
        forget().await;
        browser.post(path).await.assert_ok();
    }
    assert!(browser.id().is_none());
}

async fn sessions_flushed_by_the_server_are_anonymous_and_new_ones_work(which: Which) {
    let place = Place::own(which).await;
    let app = app(layer_over(place.store()));
    for lost in ["/dump", "/put/cart/new", "/login/bob", "/cycle", "/logout"] {
        let mut browser = Browser::new(&app);
        browser.post("/login/ada").await.assert_ok();
        browser.post("/put/cart/old").await.assert_ok();
        let old = browser.id().unwrap().to_owned();
        order_all(&place, &["FLUSHALL"]).await;
        for _ in 0..2 {
            let read = browser.clone().get("/dump").await.assert_ok();
            assert_eq!(read.body, "{}");
            assert_eq!(read.set_cookies(), [""; 0]);
        }
        match lost {
            "/dump" => drop(browser.get(lost).await.assert_ok()),
            _ => drop(browser.post(lost).await.assert_ok()),
        }
        browser.post("/count/n").await.assert_ok();
        assert_ne!(browser.id(), Some(&*old), "{lost}");
        assert_eq!(browser.get("/get/n").await.body, "1", "{lost}");
        let cart = browser.get("/get/cart").await.body;
        let expected = if lost == "/put/cart/new" {
            "\"new\""
        } else {
            "-"
        };
        assert_eq!(cart, expected, "{lost}");
    }
}

async fn a_full_memory_refuses_changes_and_serves_reads_and_logouts(which: Which) {
    let place = Place::own(which).await;
    let store = place.store();
    let app = app(layer_over(store.clone()));
    let set = async |servers: &[Server], bytes| {
        for server in servers {
            order(server, &["CONFIG", "SET", "maxmemory", bytes]).await;
        }
    };
    let mut browser = Browser::new(&app);
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/cart/full").await.assert_ok();
    let mut leaver = Browser::new(&app);
    leaver.post("/login/bob").await.assert_ok();
    let id = id_of(&browser);
    let stored = store.load(&id).await.unwrap().unwrap();

    order_all(&place, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    set(place.primaries(), "1").await;
    for path in ["/put/cart/empty", "/count/n", "/cycle", "/login/eve"] {
        let mut client = browser.clone();
        let answer = client.post(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.set_cookies(), [""; 0], "{path}");
        let read = client.get("/dump").await.assert_ok();
        assert_eq!(read.body, r#"{"cart":"full"}"#, "{path}");
        assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&stored));
    }
    let mut stranger = Browser::new(&app);
    let answer = stranger.post("/put/a/b").await;
    assert_eq!(
        (answer.status.as_u16(), answer.set_cookies().len()),
        (503, 0)
    );
    let newer = next(&stored);
    let error = store.update(&id, &newer, stored.version).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");

    let left = leaver.clone();
    leaver.post("/logout").await.assert_ok().the_cookie();
    assert_eq!(left.clone().get("/whoami").await.assert_ok().body, "-");
    let user = stored.user.as_ref().unwrap();
    assert_eq!(store.sessions_of(user).await.unwrap().len(), 1);

    set(place.primaries(), "0").await;
    assert_eq!(left.clone().get("/whoami").await.assert_ok().body, "-");
    browser.post("/count/n").await.assert_ok();
    browser.post("/cycle").await.assert_ok().the_cookie();
    assert_eq!(
        browser.get("/dump").await.assert_ok().body,
        r#"{"cart":"full","n":1}"#
    );
    stranger.post("/put/a/b").await.assert_ok().the_cookie();
    assert_eq!(store.delete_all_of(user, None).await.unwrap().len(), 1);
}
