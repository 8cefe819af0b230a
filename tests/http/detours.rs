//! Requests that save, flush and reload in an unusual order, and stores that fail in the middle.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{Path, State},
    routing::post,
};
use http::StatusCode;
use tokio::{sync::oneshot, time::Instant};
use tower_keep::{
    Created, ErrorKind, MemoryStore, Record, RecordId, Rotated, Session, SessionLayer,
    SessionStore, StoreError, StoreErrorKind, Timestamp, Updated, Version,
    testing::{Fault, FaultyStore, Operation},
};

use crate::support::{
    Browser, Gate, TestStore, WatchedStore, layer_over, post_meanwhile, router, yields,
};

fn app_with(route: Router, store: impl SessionStore) -> Router {
    route.merge(router()).layer(layer_over(store))
}

#[tokio::test]
async fn a_session_that_is_gone_stays_gone_after_a_reload() {
    let gate = Gate::new();
    let slow = async |State(gate): State<Gate>, session: Session| {
        session.insert("draft", "late").unwrap();
        gate.pass().await;
        assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Gone);
        session.reload().await.unwrap();
        let again = session.insert("draft", "again").unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Gone);
    };
    let route = Router::new()
        .route("/slow", post(slow))
        .with_state(gate.clone());
    let mut browser = Browser::new(&app_with(route, TestStore::new()));
    browser.post("/put/cart/book").await.assert_ok();
    let late = post_meanwhile(&browser, "/slow");
    gate.arrived(1).await;
    browser.post("/login/ada").await.assert_ok();
    gate.open(1);
    let (_, answer) = late.await.unwrap();
    assert_eq!(answer.assert_ok().set_cookies(), [""; 0]);
    assert_eq!(browser.get("/whoami").await.body, "ada");
}

#[tokio::test]
async fn a_reload_that_began_before_the_answer_does_not_open_what_the_answer_closed() {
    let memory = Arc::new(TestStore::new());
    let store = WatchedStore::new(&memory, 1);
    let (tell, told) = oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let held = store.clone();
    let stream = async move |session: Session| {
        held.hold(Operation::Load);
        let tell = tell.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            session.reload().await.unwrap();
            let late = session.insert("late", 1).unwrap_err();
            tell.send(late.kind()).unwrap();
        });
        while held.waiting() == 0 {
            yields(1).await;
        }
    };
    let route = Router::new().route("/stream", post(stream));
    let mut browser = Browser::new(&app_with(route, store.clone()));
    browser.post("/login/ada").await.assert_ok();
    let request = post_meanwhile(&browser, "/stream");
    while store.waiting() == 0 {
        yields(1).await;
    }
    yields(50).await;
    store.release();
    request.await.unwrap().1.assert_ok();
    assert_eq!(told.await.unwrap(), ErrorKind::Committed);
}

/// As one that is kept in a stream that nobody reads.
#[tokio::test(start_paused = true)]
async fn a_reload_that_nobody_polls_any_more_is_not_waited_for_longer_than_the_store() {
    let store = WatchedStore::new(&Arc::new(MemoryStore::new()), 1);
    let held = store.clone();
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let functions = Arc::new(());
    let function = Arc::clone(&functions);
    let stuck = async move |flushes: bool, session: Session| {
        let (own, function) = (session.clone(), Arc::clone(&function));
        let update = move |n: Option<u32>| {
            let _of_the_function = (&own, &function);
            n.unwrap_or(0) + 1
        };
        session.update("early", update).unwrap();
        held.hold(Operation::Load);
        let reloaded = session.clone();
        let mut reload = Box::pin(async move { reloaded.reload().await });
        tokio::select! {
            biased;
            _ = &mut reload => panic!("it was held up"),
            () = yields(1) => {}
        }
        *keep.lock().unwrap() = Some(reload);
        if flushes {
            session.flush().unwrap();
        }
    };
    let stuck = Arc::new(stuck);
    let route = async move |Path(flushes): Path<bool>, session| stuck(flushes, session).await;
    let app = router().route("/stuck/{flushes}", post(route));
    let layer = SessionLayer::new(store.clone()).with_store_timeout(Duration::from_secs(3));
    let mut browser = Browser::new(&app.layer(layer));
    browser.post("/login/ada").await.assert_ok();
    for flushes in [false, true] {
        let began = Instant::now();
        let answer = browser.post(&format!("/stuck/{flushes}")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(began.elapsed().as_secs(), 3);
        // The handler has one, and nobody else does any more.
        drop(kept.lock().unwrap().take());
        assert_eq!(Arc::strong_count(&functions), 2);
        store.release();
        assert_eq!(browser.get("/dump").await.body, "{}");
        // What was flushed is ended whatever holds up the rest.
        assert_eq!(store.live().await.len(), usize::from(!flushes));
    }
}

#[tokio::test]
async fn a_login_after_two_flushes_and_a_save_between_is_a_login() {
    let twice = async |session: Session| {
        session.flush()?;
        session.save().await?;
        session.flush()?;
        session.login("grace")
    };
    let route = Router::new().route("/twice", post(twice));
    let mut browser = Browser::new(&app_with(route, TestStore::new()));
    browser.post("/login/ada").await.assert_ok();
    browser.post("/twice").await.assert_ok();
    assert_eq!(browser.get("/whoami").await.body, "grace");
}

#[tokio::test]
async fn a_change_of_user_whose_save_failed_half_way_is_made_with_the_answer() {
    for (operation, fault) in [
        (Operation::Create, Fault::Fail),
        (Operation::Create, Fault::LoseReply),
        (Operation::Delete, Fault::Fail),
        (Operation::Delete, Fault::LoseReply),
    ] {
        let store = Arc::new(FaultyStore::new(TestStore::new()));
        let change = async move |State(store): State<Arc<FaultyStore<TestStore>>>,
                                 session: Session| {
            session.flush().unwrap();
            session.login("grace").unwrap();
            store.inject_once(operation, fault);
            assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Store);
        };
        let route = Router::new().route("/change", post(change));
        let app = app_with(route.with_state(Arc::clone(&store)), store);
        let mut browser = Browser::new(&app);
        browser.post("/login/ada").await.assert_ok();
        let ada = browser.clone();
        browser.post("/change").await.assert_ok();
        let shown = format!("{operation:?} {fault:?}");
        assert_eq!(browser.get("/whoami").await.body, "grace", "{shown}");
        assert_eq!(ada.clone().get("/whoami").await.body, "-", "{shown}");
    }
}

#[tokio::test]
async fn a_commit_that_panics_still_tells_the_id_of_a_saved_login() {
    let saved = async |session: Session| {
        session.login("grace").unwrap();
        session.save().await.unwrap();
        session.insert("more", 1).unwrap();
    };
    let store = Arc::new(Odd::new(|_| panic!("a store that panics")));
    let route = Router::new().route("/saved", post(saved));
    let mut browser = Browser::new(&app_with(route, Arc::clone(&store)));
    browser.post("/login/ada").await.assert_ok();
    store.armed.store(true, SeqCst);
    let answer = browser.post("/saved").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    answer.the_cookie();
    store.armed.store(false, SeqCst);
    assert_eq!(browser.get("/whoami").await.body, "grace");
}

#[tokio::test]
async fn an_update_whose_reply_is_lost_is_not_made_again_over_the_write_of_another() {
    // The reply is lost, and before the write is sent again somebody else counts too.
    let other = Arc::new(Mutex::new(None::<Browser>));
    let counts = Arc::clone(&other);
    let store = Arc::new(Odd::new(move |_| counts.lock().unwrap().take()));
    let mut browser = Browser::new(&app_with(Router::new(), Arc::clone(&store)));
    browser.post("/login/ada").await.assert_ok();
    *other.lock().unwrap() = Some(browser.clone());
    store.armed.store(true, SeqCst);
    let answer = browser.post("/count/visits").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(browser.get("/get/visits").await.body, "2", "once each");
}

/// What happens behind an update: maybe another client counts, and the reply is lost.
type Behind = Box<dyn Fn(&RecordId) -> Option<Browser> + Send + Sync>;

/// A store whose updates are followed by something odd, once it is armed.
struct Odd {
    inner: TestStore,
    armed: AtomicBool,
    behind: Behind,
}

impl Odd {
    fn new(behind: impl Fn(&RecordId) -> Option<Browser> + Send + Sync + 'static) -> Self {
        Self {
            inner: TestStore::new(),
            armed: AtomicBool::new(false),
            behind: Box::new(behind),
        }
    }
}

impl std::fmt::Debug for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Odd")
    }
}

#[async_trait]
impl SessionStore for Odd {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.inner.load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.inner.create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let updated = self.inner.update(id, record, expected).await;
        if !self.armed.load(SeqCst) {
            return updated;
        }
        let Some(mut other) = (self.behind)(id) else {
            return updated;
        };
        other.post("/count/visits").await.assert_ok();
        let lost = "the connection was cut";
        Err(StoreError::new("odd", StoreErrorKind::Unavailable, lost))
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.inner.rotate(old, new, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        self.inner.touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.inner.delete(id).await
    }
}
