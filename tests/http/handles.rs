//! One session in several hands within one request: clones, and layers around layers.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use axum::{
    extract::{Path, Request},
    middleware::{Next, from_fn},
    response::Response,
    routing::post,
};
use http::StatusCode;
use tokio::{runtime::Builder, task::JoinSet};
use tower_keep::{
    Error, LazySession, Session,
    testing::{CountingStore, Counts},
};

use crate::support::{Browser, TestStore, WatchedStore, app, layer_over, router};

/// Counts those that are still in memory.
struct Kept(Arc<AtomicUsize>);

impl Kept {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[tokio::test]
async fn an_update_that_holds_its_own_session_goes_with_the_request() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let handler = async move |Path((step, status)): Path<(u32, u16)>, session: Session| {
        let (own, kept) = (session.clone(), Kept::new(&counted));
        let update = move |n: Option<u32>| {
            assert!(kept.0.load(SeqCst) > 0 && !own.contains_key("other"));
            n.unwrap_or(0) + step
        };
        session.update("n", update).unwrap();
        assert_eq!(counted.load(SeqCst), 1);
        StatusCode::from_u16(status).unwrap()
    };
    let handler = Arc::new(handler);
    let route = post(async move |path, session| handler(path, session).await);
    let app = router().route("/{step}/{status}", route);
    let mut browser = Browser::new(&app.layer(layer_over(TestStore::new())));
    for path in ["/1/200", "/0/200", "/1/500", "/0/404"] {
        browser.post(path).await;
        assert_eq!(count.load(SeqCst), 0, "{path}");
    }
    assert_eq!(browser.get("/dump").await.body, r#"{"n":1}"#);
}

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
    let store = Arc::new(CountingStore::new(TestStore::new()));
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(Arc::clone(&store))));
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
    let counting = Arc::new(CountingStore::new(TestStore::new()));
    let store = WatchedStore::new(&counting, 3);
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(store)));
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
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 3);
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(store.clone())));
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
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 3);
    let app = router().route("/", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(store.clone())));
    browser.post("/put/a/1").await.assert_ok();
    assert_eq!(browser.post("/").await.assert_ok().body, "true");
    assert_eq!(store.live().await, []);
    assert_eq!(browser.id(), None);
}

#[tokio::test]
async fn of_two_nested_layers_the_inner_one_serves_and_the_outer_one_costs_nothing() {
    let [inner, outer] = [(); 2].map(|()| Arc::new(CountingStore::new(TestStore::new())));
    for outer_name in ["id", "outer"] {
        let app = app(layer_over(Arc::clone(&inner)))
            .layer(layer_over(Arc::clone(&outer)).with_cookie_name(outer_name));
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
    let [inner, outer] = [(); 2].map(|()| TestStore::new());
    let app = app(layer_over(inner.clone()))
        .layer(from_fn(visit))
        .layer(layer_over(outer.clone()).with_cookie_name("outer"));
    let mut browser = Browser::new(&app);
    let answer = browser.post("/count/n").await.assert_ok();
    assert_eq!(answer.set_cookies().len(), 2);
    assert!(browser.cookie("__Host-outer").is_some());
    assert_eq!(browser.post("/count/n").await.assert_ok().body, "2");
    browser.post("/logout").await.assert_ok().the_cookie();
    assert!(browser.cookie("__Host-outer").is_some());
    assert_eq!((inner.count().await, outer.count().await), (0, 1));
}

/// Runs a handler on a thread of its own; fails if it has not come to its end in time, as when it
/// waits for a lock that it holds itself.
fn assert_ends(what: &str, change: fn(&Session) -> Result<(), Error>) {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let handler = move |session: Session| async move { change(&session) };
            let app = router().route("/", post(handler));
            let mut browser = Browser::new(&app.layer(layer_over(TestStore::new())));
            for _ in 0..2 {
                browser.post("/").await.assert_ok();
            }
        });
        done.send(()).unwrap();
    });
    let ended = is_done.recv_timeout(LOCK_WAIT_MAX);
    assert_eq!(ended, Ok(()), "{what}");
}

/// Asks the session whenever it is used, shown or dropped.
struct Nosy(Session);

impl AsRef<str> for Nosy {
    fn as_ref(&self) -> &str {
        match self.0.is_empty() {
            true => "empty",
            false => "full",
        }
    }
}

impl fmt::Display for Nosy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user-{}", self.0.len())
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let _ = self.0.len();
    }
}

/// Leaves a function with the session that is dropped with the change or with what replaces it.
fn leave_nosy(session: &Session) -> Result<(), Error> {
    let nosy = Nosy(session.clone());
    let update = move |n: Option<u64>| n.unwrap_or(0) + nosy.0.len() as u64;
    session.update("n", update).map(drop)
}

#[test]
fn code_of_the_application_that_asks_the_session_again_does_not_wait_for_ever() {
    assert_ends("the keys of extend", |s| s.extend([(Nosy(s.clone()), 1)]));
    assert_ends("the entries of extend", |s| {
        s.extend((0..2).map(|n| (format!("{n}-{}", s.len()), n)))
    });
    assert_ends("the user of login", |s| s.login(Nosy(s.clone())));
    assert_ends("the default of a key", |s| {
        s.get_or_insert_with("n", || s.len()).map(drop)
    });
    assert_ends("the function of update", leave_nosy);
}

#[test]
fn a_function_that_asks_the_session_when_it_is_dropped_does_not_wait_for_ever() {
    assert_ends("insert", |s| leave_nosy(s).and_then(|()| s.insert("n", 5)));
    assert_ends("update", |s| leave_nosy(s).and_then(|()| leave_nosy(s)));
    assert_ends("remove", |s| {
        leave_nosy(s).and_then(|()| s.remove::<u64>("n").map(drop))
    });
    assert_ends("extend", |s| {
        leave_nosy(s).and_then(|()| s.extend([("n", 5)]))
    });
    assert_ends("clear", |s| leave_nosy(s).and_then(|()| s.clear()));
    assert_ends("flush", |s| leave_nosy(s).and_then(|()| s.flush()));
}

/// Far more than any of these handlers takes, and the start of a server; only a test that fails waits for so long.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(120);
