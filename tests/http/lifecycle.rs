//! A session from login to logout.

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use tower_keep::{Error, ErrorKind, LazySession, Session, SessionId, UserId, UserSessions};

use crate::support::{
    Browser, Gate, Site, TestStore, WatchedStore, app, layer_over, post_meanwhile, router,
};

#[tokio::test]
async fn a_login_changes_the_id_kills_the_old_one_and_keeps_the_data() {
    let site = Site::new();
    let mut browser = site.browser();
    browser.post("/put/cart/book").await.assert_ok();
    let before = browser.clone();
    let login = browser.post("/login/ada").await.assert_ok();
    assert!(login.the_cookie().contains(browser.id().unwrap()));
    assert_ne!(browser.id(), before.id());
    assert_eq!(browser.get("/whoami").await.body, "ada");
    assert_eq!(browser.get("/get/cart").await.body, r#""book""#);
    assert!(before.is_anonymous().await);
    assert_eq!(site.record_of(&before).await, None);
    assert_eq!(site.memory.count().await, 1);
}

#[tokio::test]
async fn a_login_without_a_session_starts_one() {
    let site = Site::new();
    let mut browser = site.browser();
    browser.post("/login/ada").await.assert_ok().the_cookie();
    assert_eq!(browser.get("/whoami").await.body, "ada");
    assert_eq!(site.memory.count().await, 1);
}

#[tokio::test]
async fn an_id_that_an_attacker_planted_is_not_the_victims_after_login() {
    let site = Site::new();
    let mut attacker = site.browser();
    attacker.post("/put/cart/bait").await.assert_ok();
    let mut victim = attacker.stranger().with_id_of(&attacker);
    victim.post("/login/ada").await.assert_ok();
    assert!(attacker.is_anonymous().await);
    attacker.post("/put/cart/again").await.assert_ok();
    assert_ne!(attacker.id(), victim.id());
    assert_eq!(attacker.get("/whoami").await.body, "-");
}

#[tokio::test]
async fn a_second_login_of_the_same_user_changes_the_id_again_and_keeps_the_data() {
    let site = Site::new();
    let mut browser = site.browser();
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/cart/book").await.assert_ok();
    let before = browser.clone();
    browser.post("/login/ada").await.assert_ok().the_cookie();
    assert_ne!(browser.id(), before.id());
    assert!(before.is_anonymous().await);
    assert_eq!(browser.get("/dump").await.body, r#"{"cart":"book"}"#);
    assert_eq!(browser.get("/whoami").await.body, "ada");
}

#[tokio::test]
async fn the_data_of_another_user_is_not_carried_over() {
    let site = Site::new();
    let mut browser = site.browser();
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/diary/secret").await.assert_ok();
    browser.post("/expire/browser").await.assert_ok();
    let before = browser.clone();
    browser.post("/login/grace").await.assert_ok();
    assert_eq!(browser.get("/whoami").await.body, "grace");
    assert_eq!(browser.get("/dump").await.body, "{}");
    assert!(browser.max_age().is_some(), "nor is the expiry rule");
    assert!(before.is_anonymous().await);
    let record = site.record_of(&browser).await.unwrap();
    let payload = String::from_utf8_lossy(record.payload.as_bytes()).into_owned();
    assert!(!payload.contains("secret") && !payload.contains("diary"));
}

#[tokio::test]
async fn of_one_request_only_what_was_put_in_after_a_change_of_user_stays() {
    let site = Site::new();
    let change = async |session: Session| -> Result<(), Error> {
        session.insert("before", 1)?;
        session.login("grace")?;
        session.insert("after", 2)
    };
    let mut browser = site.browser_with(Router::new().route("/change", post(change)));
    browser.post("/login/ada").await.assert_ok();
    browser.post("/change").await.assert_ok();
    assert_eq!(browser.get("/dump").await.body, r#"{"after":2}"#);
    assert_eq!(browser.get("/whoami").await.body, "grace");
}

/// While `grace` logs in on the session of `ada`, another request of hers stores something in it.
async fn dump_of_grace_after_ada_has_written_meanwhile(ada_has: &[&str]) -> String {
    let site = Site::new();
    let mut ada = site.browser();
    ada.post("/login/ada").await.assert_ok();
    for path in ada_has {
        ada.post(path).await.assert_ok();
    }
    let slow = ada.clone();
    let change = async move |session: Session| -> Result<(), Error> {
        slow.clone().post("/put/diary/secret").await.assert_ok();
        session.login("grace")
    };
    let routes = Router::new().route("/change", post(change));
    let mut grace = site.browser_with(routes).with_id_of(&ada);
    grace.post("/change").await.assert_ok();
    assert_eq!(grace.get("/whoami").await.body, "grace");
    grace.get("/dump").await.body
}

#[tokio::test]
async fn what_a_user_stores_while_another_logs_in_is_not_carried_over() {
    let dump = dump_of_grace_after_ada_has_written_meanwhile(&["/put/cart/book"]).await;
    assert_eq!(dump, "{}");
}

#[tokio::test]
async fn what_a_user_without_data_stores_while_another_logs_in_is_not_carried_over() {
    let dump = dump_of_grace_after_ada_has_written_meanwhile(&[]).await;
    assert_eq!(dump, "{}");
}

#[tokio::test]
async fn what_a_visitor_stores_while_he_logs_in_is_carried_over() {
    let site = Site::new();
    let mut visitor = site.browser();
    visitor.post("/put/cart/book").await.assert_ok();
    let slow = visitor.clone();
    let login = async move |session: Session| -> Result<(), Error> {
        slow.clone().post("/put/coupon/ten").await.assert_ok();
        session.login("ada")
    };
    let routes = Router::new().route("/slow-login", post(login));
    let mut ada = site.browser_with(routes).with_id_of(&visitor);
    ada.post("/slow-login").await.assert_ok();
    let dump = ada.get("/dump").await.body;
    assert_eq!(dump, r#"{"cart":"book","coupon":"ten"}"#);
    assert!(visitor.is_anonymous().await);
}

#[tokio::test]
async fn a_captured_cookie_is_worth_nothing_after_a_logout_on_any_node() {
    for logout in ["/logout", "/flush"] {
        let site = Site::new();
        let nodes = [
            site.browser(),
            site.browser(),
            Browser::over_http(&app(site.layer())).await,
        ];
        let mut browser = nodes[0].stranger();
        browser.post("/login/ada").await.assert_ok();
        browser.post("/put/cart/book").await.assert_ok();
        let captured = browser.clone();
        let answer = browser.post(logout).await.assert_ok();
        assert!(answer.the_cookie().contains("Max-Age=0"), "{logout}");
        assert_eq!(browser.id(), None, "a browser drops it");
        assert_eq!(site.memory.count().await, 0);
        for node in nodes {
            let mut thief = node.with_id_of(&captured);
            assert!(thief.is_anonymous().await);
            thief.post("/put/cart/loot").await.assert_ok();
            assert_ne!(thief.id(), captured.id());
            assert_eq!(thief.get("/whoami").await.body, "-");
            assert_eq!(site.record_of(&captured).await, None, "nothing revives it");
        }
    }
}

#[tokio::test]
async fn a_logout_without_a_session_succeeds_and_creates_nothing() {
    let site = Site::new();
    let mut unknown = site.browser();
    unknown.set_cookie("__Host-id", &"A".repeat(43));
    let mut ended = site.browser();
    ended.post("/login/ada").await.assert_ok();
    let mut late = ended.clone();
    ended.post("/logout").await.assert_ok();
    for browser in [&mut site.browser(), &mut unknown, &mut ended, &mut late] {
        for logout in ["/logout", "/flush"] {
            let answer = browser.post(logout).await.assert_ok();
            assert_eq!(answer.set_cookies(), [""; 0]);
            assert_eq!(site.memory.count().await, 0);
        }
    }
}

#[tokio::test]
async fn a_logout_ends_only_its_own_session() {
    let site = Site::new();
    let (mut one, mut other) = (site.browser(), site.browser());
    for browser in [&mut one, &mut other] {
        browser.post("/login/ada").await.assert_ok();
    }
    one.post("/logout").await.assert_ok();
    assert_eq!(other.get("/whoami").await.body, "ada");
}

#[tokio::test]
async fn logging_out_everywhere_else_ends_all_sessions_of_the_user_but_the_kept_one() {
    let site = Site::new();
    let mut of_ada = vec![site.browser(); 4];
    for browser in &mut of_ada {
        browser.post("/login/ada").await.assert_ok();
        browser.post("/put/cart/book").await.assert_ok();
    }
    let (mut grace, mut visitor) = (site.browser(), site.browser());
    grace.post("/login/grace").await.assert_ok();
    visitor.post("/put/cart/pen").await.assert_ok();

    let ada = UserId::new("ada").unwrap();
    let store = site.memory.clone();
    let logout_elsewhere = async move |session: Session| {
        let (user, keep) = (session.user().unwrap(), session.record_id());
        let ended = store.delete_all_of(&user, keep.as_ref()).await;
        ended.unwrap().len().to_string()
    };
    let routes = Router::new().route("/elsewhere", post(logout_elsewhere));
    let mut here = site.browser_with(routes).with_id_of(&of_ada[2]);
    assert_eq!(here.post("/elsewhere").await.assert_ok().body, "3");

    assert_eq!(here.get("/whoami").await.body, "ada");
    assert_eq!(here.get("/get/cart").await.body, r#""book""#);
    for gone in [0, 1, 3] {
        assert!(of_ada[gone].is_anonymous().await, "{gone}");
        of_ada[gone].post("/put/cart/again").await.assert_ok();
        assert_eq!(of_ada[gone].get("/whoami").await.body, "-");
    }
    assert_eq!(grace.get("/whoami").await.body, "grace");
    assert_eq!(visitor.get("/get/cart").await.body, r#""pen""#);
    assert_eq!(site.memory.sessions_of(&ada).await.unwrap().len(), 1);

    let ended = site.memory.delete_all_of(&ada, None).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert!(here.is_anonymous().await);
    assert!(!grace.is_anonymous().await);
}

#[tokio::test]
async fn sessions_that_were_rotated_or_passed_on_are_found_by_their_present_user() {
    let site = Site::new();
    let mut browser = site.browser();
    browser.post("/login/ada").await.assert_ok();
    browser.post("/cycle").await.assert_ok();
    let of = async |user| {
        let user = UserId::new(user).unwrap();
        site.memory.sessions_of(&user).await.unwrap()
    };
    let id = SessionId::parse(browser.id().unwrap().as_bytes()).unwrap();
    assert_eq!(of("ada").await.len(), 1);
    assert_eq!(of("ada").await[0].id, id.record_id());
    browser.post("/login/grace").await.assert_ok();
    assert_eq!((of("ada").await.len(), of("grace").await.len()), (0, 1));
    browser.post("/logout").await.assert_ok();
    assert_eq!(of("grace").await.len(), 0);
}

/// `flush`, then something put in; with and without a load before.
fn restarts() -> Router {
    async fn loaded(s: Session, Path(value): Path<String>) -> Result<(), Error> {
        s.insert("dropped", "by the flush")?;
        s.flush()?;
        s.insert("new", value)
    }
    async fn lazy(s: LazySession, Path(value): Path<String>) -> Result<(), Error> {
        s.flush()?;
        s.load().await?.insert("new", value)
    }
    async fn saved(s: Session, Path(value): Path<String>) -> Result<(), Error> {
        s.flush()?;
        s.save().await?;
        s.insert("new", value)
    }
    async fn peek(s: Session) -> Result<String, Error> {
        s.flush()?;
        Ok(format!(
            "{} {} {:?}",
            s.len(),
            s.user().is_some(),
            s.record_id()
        ))
    }
    Router::new()
        .route("/loaded/{value}", post(loaded))
        .route("/lazy/{value}", post(lazy))
        .route("/saved/{value}", post(saved))
        .route("/peek", get(peek))
}

#[tokio::test]
async fn a_flush_and_then_an_insert_is_a_new_session_with_only_the_new_data() {
    for path in ["/loaded/data", "/lazy/data", "/saved/data"] {
        let site = Site::new();
        let mut browser = site.browser_with(restarts());
        browser.post("/login/ada").await.assert_ok();
        browser.post("/put/old/data").await.assert_ok();
        let before = browser.clone();
        let answer = browser.post(path).await.assert_ok();
        assert!(answer.the_cookie().contains(browser.id().unwrap()));
        assert_ne!(browser.id(), before.id(), "{path}");
        assert_eq!(browser.get("/dump").await.body, r#"{"new":"data"}"#);
        assert_eq!(browser.get("/whoami").await.body, "-");
        assert!(before.is_anonymous().await);
        assert_eq!(site.memory.count().await, 1);
    }
}

#[tokio::test]
async fn a_flushed_session_looks_empty_to_the_handler_that_flushed_it() {
    let site = Site::new();
    let mut browser = site.browser_with(restarts());
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/old/data").await.assert_ok();
    let peeked = browser.get("/peek").await.assert_ok();
    assert_eq!(peeked.body, "0 false None");
    assert_eq!(browser.id(), None);
    assert_eq!(site.memory.count().await, 0);
}

/// Its cookie would take the place of the one that the login has set.
#[tokio::test]
async fn a_flush_and_an_insert_behind_a_rotation_create_nothing_and_set_no_cookie() {
    for (rotation, saves) in [
        ("/login/ada", false),
        ("/login/ada", true),
        ("/cycle", false),
        ("/cycle", true),
    ] {
        let site = Site::new();
        let gate = Gate::new();
        let held = gate.clone();
        let restart = move |session: Session| async move {
            held.pass().await;
            session.flush()?;
            if saves {
                session.save().await?;
                let late = session.insert("flash", "bye").unwrap_err();
                assert_eq!(late.kind(), ErrorKind::Gone);
                return Ok(());
            }
            session.insert("flash", "bye")
        };
        let mut browser = site.browser_with(Router::new().route("/restart", post(restart)));
        browser.post("/put/cart/book").await.assert_ok();
        let late = post_meanwhile(&browser, "/restart");
        gate.arrived(1).await;
        browser.post(rotation).await.assert_ok().the_cookie();
        gate.open(1);
        let (_, answer) = late.await.unwrap();
        assert_eq!(answer.assert_ok().set_cookies(), [""; 0], "{rotation}");
        assert_eq!(browser.get("/dump").await.body, r#"{"cart":"book"}"#);
        assert_eq!(site.memory.count().await, 1, "{rotation}");
    }
}

#[tokio::test]
async fn a_flush_and_an_insert_under_a_cookie_that_is_unknown_begin_a_new_session() {
    for path in ["/loaded/data", "/lazy/data", "/saved/data"] {
        let site = Site::new();
        let mut known = site.browser_with(restarts());
        known.post("/login/ada").await.assert_ok();
        let mut browser = known.clone();
        known.post("/logout").await.assert_ok();
        browser.post(path).await.assert_ok().the_cookie();
        assert_eq!(browser.get("/dump").await.body, r#"{"new":"data"}"#);
        assert_eq!(site.memory.count().await, 1, "{path}");
    }
}

/// A store may still be taking back what it had prepared under the first one.
#[tokio::test]
async fn a_rotation_that_another_write_has_overtaken_is_made_under_another_id() {
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 1);
    let gate = Gate::new();
    let held = gate.clone();
    let cycle = move |session: Session| async move {
        session.cycle_id()?;
        held.pass().await;
        Ok::<_, Error>(())
    };
    let app = router().route("/slow", post(cycle));
    let mut browser = Browser::new(&app.layer(layer_over(store.clone())));
    browser.post("/put/cart/book").await.assert_ok();
    let late = post_meanwhile(&browser, "/slow");
    gate.arrived(1).await;
    browser.post("/put/cart/full").await.assert_ok();
    gate.open(1);
    let (mut browser, answer) = late.await.unwrap();
    answer.assert_ok().the_cookie();
    assert_eq!(browser.get("/dump").await.body, r#"{"cart":"full"}"#);
    assert_eq!(store.live().await.len(), 1);
    assert_eq!(store.ids(), 3, "the first, the one in vain, the last");
}
