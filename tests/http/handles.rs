//! One session in several hands within one request: clones, and layers around layers.

use std::sync::Arc;

use axum::{
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
    routing::post,
};
use tokio::task::JoinSet;
use tower_keep::{
    Error, LazySession, MemoryStore, Session, SessionLayer,
    testing::{CountingStore, Counts},
};

use crate::support::{Browser, WatchedStore, app, router};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clones_that_change_a_session_in_parallel_lose_nothing_and_commit_once() {
    let handler = async |session: Session| {
        let mut tasks = JoinSet::new();
        for task in 0..4 {
            let session = session.clone();
            tasks.spawn(async move {
                for _ in 0..25 {
                    session.update("all", |n: Option<u64>| n.unwrap_or(0) + 1)?;
                    session.update(&format!("own-{task}"), |n: Option<u64>| n.unwrap_or(0) + 1)?;
                }
                Ok::<_, Error>(())
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap()?;
        }
        Ok::<_, Error>(())
    };
    let store = Arc::new(CountingStore::new(MemoryStore::new()));
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(SessionLayer::new(Arc::clone(&store))));
    browser.post("/").await.assert_ok().the_cookie();
    assert_eq!(store.take().total(), 1);
    assert_eq!(
        browser.get("/dump").await.body,
        r#"{"all":100,"own-0":25,"own-1":25,"own-2":25,"own-3":25}"#
    );
}

#[tokio::test]
async fn clones_that_load_at_the_same_time_load_once() {
    let handler = async |lazy: LazySession| {
        let (a, b, c) = tokio::join!(lazy.load(), lazy.load(), lazy.load());
        a?.insert("a", 1)?;
        b?.insert("b", 2)?;
        Ok::<_, Error>(c?.len().to_string())
    };
    let counting = Arc::new(CountingStore::new(MemoryStore::new()));
    let store = WatchedStore::new(&counting, 3);
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(SessionLayer::new(store)));
    browser.post("/put/c/3").await.assert_ok();
    counting.take();
    assert_eq!(browser.post("/").await.assert_ok().body, "3");
    let expected = Counts {
        load: 1,
        update: 1,
        ..Counts::default()
    };
    assert_eq!(counting.take(), expected);
}

#[tokio::test]
async fn clones_that_save_at_the_same_time_create_one_session() {
    let handler = async |session: Session| {
        session.insert("a", 1)?;
        let clone = session.clone();
        let (one, other) = tokio::join!(session.save(), clone.save());
        one.and(other)
    };
    let store = WatchedStore::new(&Arc::new(MemoryStore::new()), 3);
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(SessionLayer::new(store.clone())));
    browser.post("/").await.assert_ok().the_cookie();
    assert_eq!(store.live().await.len(), 1);
    assert_eq!(browser.get("/dump").await.body, r#"{"a":1}"#);
}

#[tokio::test]
async fn a_flush_while_a_clone_loads_ends_the_session() {
    let handler = async |lazy: LazySession| {
        let flush = async { lazy.flush() };
        let (loaded, flushed) = tokio::join!(lazy.load(), flush);
        flushed?;
        Ok::<_, Error>(loaded?.is_empty().to_string())
    };
    let store = WatchedStore::new(&Arc::new(MemoryStore::new()), 3);
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(SessionLayer::new(store.clone())));
    browser.post("/put/a/1").await.assert_ok();
    assert_eq!(browser.post("/").await.assert_ok().body, "true");
    assert_eq!(store.live().await, []);
    assert_eq!(browser.id(), None);
}

#[tokio::test]
async fn of_two_nested_layers_the_inner_one_serves_and_the_outer_one_costs_nothing() {
    let [inner, outer] = [(); 2].map(|()| Arc::new(CountingStore::new(MemoryStore::new())));
    for outer_name in ["id", "outer"] {
        let app = app(SessionLayer::new(Arc::clone(&inner)))
            .layer(SessionLayer::new(Arc::clone(&outer)).with_cookie_name(outer_name));
        let mut browser = Browser::new(&app);
        let answer = browser.post("/count/n").await.assert_ok();
        assert!(answer.the_cookie().starts_with("__Host-id="));
        assert_eq!(answer.header("vary"), Some("Cookie"));
        assert_eq!(browser.post("/count/n").await.assert_ok().body, "2");
        browser.post("/login/alice").await.assert_ok().the_cookie();
        browser.post("/logout").await.assert_ok().the_cookie();
        assert_eq!(browser.id(), None);
        assert_eq!(outer.take(), Counts::default(), "{outer_name}");
        assert!(inner.take().total() > 0);
    }
}

#[tokio::test]
async fn of_two_nested_layers_with_names_of_their_own_both_are_usable_side_by_side() {
    async fn visit(outer: Session, request: Request, next: Next) -> Response {
        outer
            .update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)
            .unwrap();
        next.run(request).await
    }
    let [inner, outer] = [(); 2].map(|()| MemoryStore::new());
    let app = app(SessionLayer::new(inner.clone()))
        .layer(from_fn(visit))
        .layer(SessionLayer::new(outer.clone()).with_cookie_name("outer"));
    let mut browser = Browser::new(&app);
    let answer = browser.post("/count/n").await.assert_ok();
    assert_eq!(answer.set_cookies().len(), 2);
    assert!(browser.cookie("__Host-outer").is_some());
    assert_eq!(browser.post("/count/n").await.assert_ok().body, "2");
    browser.post("/logout").await.assert_ok().the_cookie();
    assert!(browser.cookie("__Host-outer").is_some());
    assert_eq!((inner.len(), outer.len()), (0, 1));
}
