//! Sessions in use after the answer's headers went out: in streams, websockets and tasks.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    routing::post,
};
use http_body::Frame;
use tokio::sync::{mpsc, oneshot};
use tower_keep::{Error, ErrorKind, Expiry, LazySession, Session, testing::Operation};

use crate::support::{
    Browser, TestStore, WatchedStore, abandon_after, layer_over, post_meanwhile, router, yields,
};

/// A body that does some work when it is read, long after its headers, and consists of the result.
pub(crate) struct Stream(Option<Pin<Box<dyn Future<Output = String> + Send>>>);

impl Stream {
    pub(crate) fn body(work: impl Future<Output = String> + Send + 'static) -> Body {
        Body::new(Self(Some(Box::pin(work))))
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(work) = &mut self.0 else {
            return Poll::Ready(None);
        };
        match work.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(text) => {
                self.0 = None;
                Poll::Ready(Some(Ok(Frame::data(text.into()))))
            }
        }
    }
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn browser(store: &TestStore, app: Router) -> Browser {
    Browser::new(&app.layer(layer_over(store.clone())))
}

#[tokio::test]
async fn every_change_after_the_headers_is_an_error_and_nothing_is_stored() {
    let handler = async |session: Session, lazy: LazySession| {
        session.insert("early", "kept").unwrap();
        Stream::body(async move {
            let results = [
                kind(session.insert("late", 1)),
                kind(session.update("late", |n: Option<u64>| n.unwrap_or(0))),
                kind(session.remove::<String>("early")),
                kind(session.get_or_insert_with("late", || 1)),
                kind(session.extend([("late", 1)])),
                kind(session.clear()),
                kind(session.set_expiry(Expiry::Idle(Duration::from_secs(60)))),
                kind(session.reset_expiry()),
                kind(session.login("mallory")),
                kind(session.cycle_id()),
                kind(session.flush()),
                kind(lazy.flush()),
                kind(session.save().await),
            ];
            for (n, result) in results.into_iter().enumerate() {
                assert_eq!(result, Some(ErrorKind::Committed), "change {n}");
            }
            session.get::<String>("early").unwrap().unwrap()
        })
    };
    let store = TestStore::new();
    let mut browser = browser(&store, router().route("/stream", post(handler)));
    for _ in 0..2 {
        assert_eq!(browser.post("/stream").await.assert_ok().body, "kept");
        assert_eq!(browser.get("/dump").await.body, r#"{"early":"kept"}"#);
        assert_eq!(browser.get("/whoami").await.body, "-");
    }
    assert_eq!(store.count().await, 1);
}

#[tokio::test]
async fn a_stream_that_reloads_changes_and_saves_is_stored_round_after_round() {
    let handler = async |session: Session| {
        session.insert("early", 1)?;
        Ok::<_, Error>(Stream::body(async move {
            for n in 1..4 {
                session.reload().await.unwrap();
                let count = |n: Option<u64>| n.unwrap_or(0) + 1;
                assert_eq!(session.update("messages", count).unwrap(), n);
                session.save().await.unwrap();
                assert_eq!(
                    kind(session.update("messages", count)),
                    Some(ErrorKind::Committed),
                    "until the next reload"
                );
                assert_eq!(kind(session.save().await), Some(ErrorKind::Committed));
            }
            session.reload().await.unwrap();
            session.insert("unsaved", true).unwrap();
            "done".into()
        }))
    };
    let store = TestStore::new();
    let mut browser = browser(&store, router().route("/stream", post(handler)));
    // The first time the session is created by the same request.
    let answer = browser.post("/stream").await.assert_ok();
    answer.the_cookie();
    assert_eq!(
        browser.get("/dump").await.body,
        r#"{"early":1,"messages":3}"#
    );
    browser.post("/remove/messages").await.assert_ok();
    browser.post("/stream").await.assert_ok();
    assert_eq!(
        browser.get("/dump").await.body,
        r#"{"early":1,"messages":3}"#
    );
    assert_eq!(store.count().await, 1);
}

#[tokio::test]
async fn a_stream_over_http_that_reloads_changes_and_saves_is_stored() {
    let handler = async |session: Session| {
        Stream::body(async move {
            session.reload().await.unwrap();
            session.insert("late", "kept").unwrap();
            session.save().await.unwrap();
            "done".into()
        })
    };
    let app = router().route("/stream", post(handler));
    let app = app.layer(layer_over(TestStore::new()));
    let mut browser = Browser::over_http(&app).await;
    browser.post("/login/alice").await.assert_ok();
    assert_eq!(browser.post("/stream").await.assert_ok().body, "done");
    assert_eq!(browser.get("/dump").await.body, r#"{"late":"kept"}"#);
}

#[tokio::test]
async fn a_stream_that_reloads_can_not_change_the_id_but_can_end_the_session() {
    let handler = async |session: Session| {
        Stream::body(async move {
            session.reload().await.unwrap();
            let refused = Some(ErrorKind::Committed);
            assert_eq!(kind(session.login("mallory")), refused);
            assert_eq!(kind(session.cycle_id()), refused);
            session.flush().unwrap();
            session.save().await.unwrap();
            session.reload().await.unwrap();
            assert_eq!(kind(session.insert("a", 1)), Some(ErrorKind::Gone));
            session.user().map_or("nobody".into(), |u| u.to_string())
        })
    };
    let store = TestStore::new();
    let mut browser = browser(&store, router().route("/stream", post(handler)));
    browser.post("/login/alice").await.assert_ok();
    let answer = browser.post("/stream").await.assert_ok();
    assert_eq!(answer.body, "nobody");
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(browser.get("/whoami").await.body, "-");
    assert_eq!(store.count().await, 0);
}

#[tokio::test]
async fn a_stream_that_reloads_can_not_change_the_expiry_which_the_cookie_tells() {
    let handler = async |session: Session| {
        Stream::body(async move {
            session.reload().await.unwrap();
            let refused = Some(ErrorKind::Committed);
            for rule in [Expiry::BrowserClose, Expiry::Idle(Duration::from_secs(60))] {
                assert_eq!(kind(session.set_expiry(rule)), refused);
            }
            assert_eq!(kind(session.reset_expiry()), refused);
            session.insert("late", "kept").unwrap();
            session.save().await.unwrap();
            format!("{:?}", session.expiry())
        })
    };
    let store = TestStore::new();
    let mut browser = browser(&store, router().route("/stream", post(handler)));
    browser.post("/expire/600").await.assert_ok();
    browser.post("/put/a/1").await.assert_ok();
    browser.post("/expire/600").await.assert_ok();
    let answer = browser.post("/stream").await.assert_ok();
    assert_eq!(answer.body, "Some(Idle(600s))");
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(browser.get("/get/late").await.body, r#""kept""#);
}

#[tokio::test]
async fn a_reload_behind_a_save_that_nobody_waits_for_opens_the_session_again() {
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 1);
    let held = store.clone();
    let handler = async move |session: Session| {
        Stream::body(async move {
            session.reload().await.unwrap();
            session.insert("first", 1).unwrap();
            held.hold(Operation::Update);
            let given_up = abandon_after(2, session.save()).await;
            assert!(given_up.is_none());
            let reloading = session.clone();
            let reload = tokio::spawn(async move { reloading.reload().await });
            yields(20).await;
            held.release();
            reload.await.unwrap().unwrap();
            session.insert("second", 2).unwrap();
            session.save().await.unwrap();
            "done".into()
        })
    };
    let app = router().route("/stream", post(handler));
    let mut browser = Browser::new(&app.layer(layer_over(store)));
    browser.post("/login/alice").await.assert_ok();
    assert_eq!(browser.post("/stream").await.assert_ok().body, "done");
    let dump = browser.get("/dump").await.body;
    assert_eq!(dump, r#"{"first":1,"second":2}"#);
}

#[tokio::test]
async fn a_stream_without_a_stored_session_can_not_begin_one() {
    let handler = async |session: Session| {
        Stream::body(async move {
            session.reload().await.unwrap();
            let inserted = kind(session.insert("late", 1));
            session.save().await.unwrap();
            format!("{inserted:?}")
        })
    };
    let store = TestStore::new();
    let mut browser = browser(&store, router().route("/stream", post(handler)));
    let answer = browser.post("/stream").await.assert_ok();
    assert_eq!(answer.body, "Some(Gone)");
    assert_eq!(store.count().await, 0);
}

/// What a test says to a task that keeps a session after its request, like a websocket.
type Socket = Arc<Mutex<Option<mpsc::UnboundedReceiver<Order>>>>;

/// What to do, and where to say that it is done.
type Order = (&'static str, oneshot::Sender<()>);

async fn upgrade(State(socket): State<Socket>, session: Session) -> Body {
    let mut orders = socket.lock().unwrap().take().unwrap();
    session.insert("upgraded", true).unwrap();
    let (answer, mut answers) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some((order, done)) = orders.recv().await {
            let result = match order {
                "reload" => kind(session.reload().await),
                "count" => kind(session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1)),
                _ => kind(session.save().await),
            };
            answer.send(format!("{result:?} ")).unwrap();
            done.send(()).unwrap();
        }
    });
    Stream::body(async move {
        let mut log = String::new();
        while let Some(line) = answers.recv().await {
            log += &line;
        }
        log
    })
}

/// Opens a socket, sends the first orders, does something else, then sends the others.
async fn talk(meanwhile: &'static str) -> (Browser, TestStore, String) {
    let store = TestStore::new();
    let (orders, receiver) = mpsc::unbounded_channel();
    let socket: Socket = Arc::new(Mutex::new(Some(receiver)));
    let app = router().route("/socket", post(upgrade).with_state(socket));
    let mut browser = browser(&store, app);
    browser.post("/login/alice").await.assert_ok();
    let talking = post_meanwhile(&browser, "/socket");
    while browser.get("/get/upgraded").await.body != "true" {
        yields(1).await;
    }
    let tell = async |order| {
        let (done, is_done) = oneshot::channel();
        orders.send((order, done)).unwrap();
        is_done.await.unwrap();
    };
    for order in ["reload", "count", "save", "reload", "count"] {
        tell(order).await;
    }
    browser.post(meanwhile).await.assert_ok();
    tell("save").await;
    drop(orders);
    let (_, answer) = talking.await.unwrap();
    (browser, store, answer.body)
}

#[tokio::test]
async fn a_socket_that_saves_while_another_request_writes_loses_nothing() {
    let (mut browser, _, log) = talk("/count/n").await;
    assert_eq!(log, "None ".repeat(6));
    assert_eq!(browser.get("/get/n").await.body, "3");
}

#[tokio::test]
async fn a_socket_that_saves_behind_a_logout_is_told_so_and_brings_nothing_back() {
    let (_, store, log) = talk("/logout").await;
    assert_eq!(log, format!("{}Some(Gone) ", "None ".repeat(5)));
    assert_eq!(store.count().await, 0);
}

/// A task that does not wait for the answer, and reloads while the commit is at the store's door.
async fn reload_during_commit(late: fn(&Session)) -> (Browser, WatchedStore<TestStore>) {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let handler = move |session: Session| async move {
        session.insert("early", 1).unwrap();
        *keep.lock().unwrap() = Some(session);
    };
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 1);
    let layer = layer_over(store.clone());
    let app = router().route("/early", post(handler)).layer(layer);
    let mut browser = Browser::new(&app);
    browser.post("/login/alice").await.assert_ok();
    store.hold(Operation::Update);
    let request = post_meanwhile(&browser, "/early");
    while store.waiting() == 0 {
        yields(1).await;
    }
    let session: Session = kept.lock().unwrap().take().unwrap();
    let task = tokio::spawn(async move {
        session.reload().await.unwrap();
        late(&session);
        yields(50).await;
        session.save().await
    });
    yields(20).await;
    store.release();
    request.await.unwrap().1.assert_ok();
    task.await.unwrap().unwrap();
    (browser, store)
}

#[tokio::test]
async fn a_reload_during_the_commit_does_not_undo_what_the_answer_has_acknowledged() {
    let (mut browser, _) = reload_during_commit(|s| s.insert("late", 2).unwrap()).await;
    assert_eq!(browser.get("/dump").await.body, r#"{"early":1,"late":2}"#);
}

#[tokio::test]
async fn a_logout_of_a_task_that_reloads_during_the_commit_takes_effect() {
    let (mut browser, store) = reload_during_commit(|s| s.flush().unwrap()).await;
    assert_eq!(browser.get("/whoami").await.body, "-");
    assert_eq!(store.live().await, []);
}

#[tokio::test]
async fn a_reload_that_has_waited_since_before_the_answer_does_not_open_what_the_answer_has_closed()
{
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 1);
    let held = store.clone();
    let (tell, told) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let handler = async move |session: Session| {
        session.insert("early", 1).unwrap();
        held.hold(Operation::Update);
        let saving = session.clone();
        let saved = tokio::spawn(async move { saving.save().await });
        while held.waiting() == 0 {
            yields(1).await;
        }
        let tell = tell.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            // Behind the save, and in front of the commit.
            session.reload().await.unwrap();
            let late = kind(session.insert("late", 2));
            saved.await.unwrap().unwrap();
            tell.send(late).unwrap();
        });
        yields(20).await;
    };
    let handler = Arc::new(handler);
    let route = post(async move |session: Session| handler(session).await);
    let app = router().route("/early", route);
    let mut browser = Browser::new(&app.layer(layer_over(store.clone())));
    browser.post("/login/alice").await.assert_ok();
    let request = post_meanwhile(&browser, "/early");
    while store.waiting() == 0 {
        yields(1).await;
    }
    yields(50).await;
    store.release();
    request.await.unwrap().1.assert_ok();
    assert_eq!(told.await.unwrap(), Some(ErrorKind::Committed));
    assert_eq!(browser.get("/dump").await.body, r#"{"early":1}"#);
}
