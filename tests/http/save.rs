//! Sessions that a handler saves by itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use axum::{Router, routing::post};
use http::StatusCode;
use tower_keep::{
    Conflict, Error, ErrorKind, LazySession, Session,
    testing::{CountingStore, Fault, FaultyStore, Operation},
};

use crate::support::{
    Browser, Gate, TestStore, WatchedStore, abandon_after, layer_over, post_meanwhile, router,
};

const FAILED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[tokio::test]
async fn what_was_saved_stays_when_the_handler_then_fails_and_the_new_id_reaches_the_client() {
    let handler = async |session: Session| {
        session.insert("order", "placed")?;
        session.save().await?;
        session.insert("later", "lost")?;
        Ok::<_, Error>(FAILED)
    };
    let app = router().route("/order", post(handler));
    let app = app.layer(layer_over(TestStore::new()));
    let mut browser = Browser::new(&app);
    let answer = browser.post("/order").await;
    assert_eq!(answer.status, FAILED);
    answer.the_cookie();
    assert_eq!(answer.header("cache-control"), Some("no-cache, private"));
    assert_eq!(browser.get("/dump").await.body, r#"{"order":"placed"}"#);
}

#[tokio::test]
async fn a_login_that_was_saved_reaches_the_client_with_a_500_and_the_old_id_is_dead() {
    let handler = async |session: Session| {
        session.login("alice")?;
        session.save().await?;
        session.cycle_id()?;
        Ok::<_, Error>(FAILED)
    };
    let store = TestStore::new();
    let app = router().route("/in", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(store.clone())));
    browser.post("/put/cart/full").await.assert_ok();
    let mut old = browser.clone();
    let answer = browser.post("/in").await;
    assert_eq!(answer.status, FAILED);
    answer.the_cookie();
    assert_eq!(browser.get("/whoami").await.body, "alice");
    assert_eq!(browser.get("/dump").await.body, r#"{"cart":"full"}"#);
    assert_eq!(old.get("/dump").await.body, "{}");
    assert_eq!(store.count().await, 1);
}

#[tokio::test]
async fn a_logout_that_was_saved_removes_the_cookie_once_and_what_follows_is_a_new_session() {
    let handler = async |session: Session| {
        session.flush()?;
        session.save().await?;
        Ok::<_, Error>(FAILED)
    };
    let anew = async |session: Session| {
        session.flush()?;
        session.save().await?;
        session.insert("new", "data")
    };
    let store = TestStore::new();
    let app = router()
        .route("/out", post(handler))
        .route("/anew", post(anew))
        .layer(layer_over(store.clone()));
    let mut browser = Browser::new(&app);
    browser.post("/login/alice").await.assert_ok();
    let removal = browser.post("/out").await.the_cookie();
    assert!(removal.contains("Max-Age=0"), "{removal}");
    assert_eq!(browser.id(), None);
    assert_eq!(store.count().await, 0);

    browser.post("/login/alice").await.assert_ok();
    let mut old = browser.clone();
    browser.post("/anew").await.assert_ok().the_cookie();
    assert_eq!(browser.get("/dump").await.body, r#"{"new":"data"}"#);
    assert_eq!(browser.get("/whoami").await.body, "-");
    assert_eq!(old.get("/dump").await.body, "{}");
    assert_eq!(store.count().await, 1);
}

#[tokio::test]
async fn changes_after_a_save_are_committed_with_the_answer_and_one_cookie_is_set() {
    let handler = async |session: Session| {
        session.insert("a", 1)?;
        session.save().await?;
        session.save().await?; // nothing has changed
        session.insert("b", 2)?;
        session.cycle_id()?;
        session.save().await?;
        session.insert("c", 3)
    };
    let store = Arc::new(CountingStore::new(TestStore::new()));
    let app = router().route("/steps", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(Arc::clone(&store))));
    browser.post("/steps").await.assert_ok().the_cookie();
    let calls = store.take();
    let by_kind = (calls.create, calls.rotate, calls.update, calls.total());
    assert_eq!(by_kind, (1, 1, 1, 3));
    assert_eq!(browser.get("/dump").await.body, r#"{"a":1,"b":2,"c":3}"#);
    assert_eq!(store.inner().count().await, 1);
}

#[tokio::test]
async fn a_save_that_comes_behind_a_logout_is_gone_and_its_changes_are_dropped() {
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move |session: Session| async move {
        session.insert("late", "change").unwrap();
        held.pass().await;
        let saved = kind(session.save().await);
        format!("{saved:?} {} {:?}", session.is_empty(), session.user())
    };
    let store = TestStore::new();
    let app = router().route("/late", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(store.clone())));
    browser.post("/login/alice").await.assert_ok();
    let late = post_meanwhile(&browser, "/late");
    gate.arrived(1).await;
    browser.post("/logout").await.assert_ok();
    gate.open(1);
    let (_, answer) = late.await.unwrap();
    assert_eq!(answer.body, "Some(Gone) true None");
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(store.count().await, 0);
}

#[tokio::test]
async fn with_conflicts_rejected_a_save_is_a_conflict_and_the_answer_a_409() {
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move |session: Session| async move {
        session.insert("mine", "late").unwrap();
        held.pass().await;
        assert_eq!(kind(session.save().await), Some(ErrorKind::Conflict));
        assert!(session.contains_key("mine"), "the change is kept");
    };
    let layer = layer_over(TestStore::new()).with_conflict(Conflict::Reject);
    let app = gate
        .behind(router())
        .route("/late", post(handler))
        .layer(layer);
    let mut browser = Browser::new(&app);
    browser.post("/put/theirs/first").await.assert_ok();
    for (n, path) in ["/late", "/put/mine/late?hold"].iter().enumerate() {
        let late = post_meanwhile(&browser, path);
        gate.arrived(n + 1).await;
        browser.post("/count/theirs-too").await.assert_ok();
        gate.open(1);
        let (_, answer) = late.await.unwrap();
        assert_eq!(answer.status, StatusCode::CONFLICT, "{path}");
        assert_eq!(answer.set_cookies(), [""; 0], "{path}");
    }
    assert_eq!(
        browser.get("/dump").await.body,
        r#"{"theirs":"first","theirs-too":2}"#
    );
}

#[tokio::test]
async fn a_save_that_the_store_fails_keeps_the_changes_and_the_answer_commits_them() {
    let store = Arc::new(FaultyStore::new(TestStore::new()));
    store.inject_on(&[Operation::Create], Fault::Fail);
    let healer = Arc::clone(&store);
    let handler = move |session: Session| async move {
        session.insert("a", 1).unwrap();
        assert_eq!(kind(session.save().await), Some(ErrorKind::Store));
        session.insert("b", 2).unwrap();
        healer.heal();
    };
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(Arc::clone(&store))));
    browser.post("/").await.assert_ok().the_cookie();
    assert_eq!(browser.get("/dump").await.body, r#"{"a":1,"b":2}"#);
    assert_eq!(store.inner().count().await, 1);
}

/// What the handler answers after it has dropped its save.
async fn save_dropped_at_every_poll(status: StatusCode) {
    for polls in 0.. {
        let store = WatchedStore::new(&Arc::new(TestStore::new()), 2);
        let layer = layer_over(store.clone());
        let through = Arc::new(AtomicBool::new(false));
        let saved = Arc::clone(&through);
        let handler = move |session: Session| async move {
            session.insert("order", "placed").unwrap();
            let save = abandon_without_yield(polls, session.save()).await;
            saved.store(save.is_some(), SeqCst);
            status
        };
        let app = router().route("/", post(handler)).layer(layer.clone());
        let mut browser = Browser::new(&app);
        let answer = browser.post("/").await;
        layer.drain().await;

        let begun = polls > 0;
        let stored = begun || status == StatusCode::OK;
        assert_eq!(answer.status, status, "{polls} polls");
        assert_eq!(
            answer.set_cookies().len(),
            usize::from(stored),
            "{polls} polls"
        );
        assert_eq!(
            store.live().await.len(),
            usize::from(stored),
            "{polls} polls"
        );
        let expected = if stored {
            r#"{"order":"placed"}"#
        } else {
            "{}"
        };
        assert_eq!(browser.get("/dump").await.body, expected, "{polls} polls");
        if through.load(SeqCst) {
            assert!(polls > 3);
            break;
        }
    }
}

/// Gives the other tasks a step between two polls, and none after the last one.
async fn abandon_without_yield<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    if polls == 0 {
        return None;
    }
    let early = abandon_after(polls - 1, &mut future).await;
    if early.is_some() {
        return early;
    }
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_save_dropped_at_any_poll_is_committed_once_with_the_answer() {
    save_dropped_at_every_poll(StatusCode::OK).await;
}

#[tokio::test]
async fn a_save_dropped_at_any_poll_once_it_has_begun_is_stored_even_if_the_handler_then_fails() {
    save_dropped_at_every_poll(FAILED).await;
}

#[tokio::test]
async fn a_logout_after_a_save_that_was_dropped_takes_effect() {
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 2);
    let layer = layer_over(store.clone());
    let handler = async |session: LazySession| {
        let loaded = session.load().await.unwrap();
        loaded.insert("order", "placed").unwrap();
        assert!(abandon_after(3, loaded.save()).await.is_none());
        // Nothing can be changed while the save is under way, which is said and not hidden.
        if session.flush().is_err() {
            loaded.save().await.unwrap();
            session.flush().unwrap();
        }
    };
    let app = router().route("/out", post(handler)).layer(layer.clone());
    let mut browser = Browser::new(&app);
    browser.post("/login/alice").await.assert_ok();
    let mut replay = browser.clone();
    browser.post("/out").await.assert_ok();
    layer.drain().await;
    assert_eq!(browser.id(), None);
    assert_eq!(replay.get("/whoami").await.body, "-");
    assert_eq!(store.live().await, []);
}

#[tokio::test]
async fn a_logout_after_a_save_that_a_panic_has_stopped_takes_effect() {
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move |session: Session| async move {
        let update = |n: Option<u64>| match n {
            None => 1,
            Some(_) => panic!("only good for a first time"),
        };
        session.update("n", update).unwrap();
        held.pass().await;
        assert_eq!(kind(session.save().await), Some(ErrorKind::Interrupted));
        session.flush()
    };
    let store = TestStore::new();
    let app: Router = router().route("/out", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(store.clone())));
    browser.post("/login/alice").await.assert_ok();
    let late = post_meanwhile(&browser, "/out");
    gate.arrived(1).await;
    browser.post("/count/n").await.assert_ok();
    gate.open(1);
    let (_, answer) = late.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(browser.get("/whoami").await.body, "-");
    assert_eq!(store.count().await, 0);
}
