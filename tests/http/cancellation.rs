//! A client that goes away at any moment of its request.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Request},
    middleware::{Next, from_fn},
    routing::post,
};
use tokio::runtime::Builder;
use tower_keep::{
    Error, LazySession, MemoryStore, Payload, RecordId, Session, SessionLayer, SessionStore,
    UserId, testing::ManualClock,
};

use crate::support::{Browser, TestStore, WatchedStore, abandon_after, layer_over, router, yields};

#[tokio::test]
async fn a_read_dropped_at_any_poll_changes_nothing() {
    sweep(TestStore::new(), "/contains", Ends::SameId).await;
}

#[tokio::test]
async fn a_count_dropped_at_any_poll_has_counted_or_not_under_the_same_id() {
    sweep(TestStore::new(), "/count/n", Ends::SameId).await;
}

#[tokio::test]
async fn a_clear_dropped_at_any_poll_has_cleared_all_or_nothing() {
    sweep(TestStore::new(), "/clear", Ends::SameId).await;
}

#[tokio::test]
async fn a_login_dropped_at_any_poll_leaves_exactly_one_id_of_one_user() {
    sweep(TestStore::new(), "/login/bob", Ends::NewId).await;
}

#[tokio::test]
async fn a_cycle_dropped_at_any_poll_leaves_exactly_one_id_and_the_data() {
    sweep(TestStore::new(), "/cycle", Ends::NewId).await;
}

#[tokio::test]
async fn a_logout_dropped_once_it_was_asked_for_takes_effect() {
    sweep(TestStore::new(), "/logout", Ends::NoId).await;
}

#[tokio::test]
async fn a_flush_dropped_once_it_was_asked_for_takes_effect() {
    sweep(TestStore::new(), "/flush", Ends::NoId).await;
}

#[tokio::test]
async fn a_flush_and_an_insert_dropped_at_any_poll_never_bring_the_old_session_back() {
    sweep(TestStore::new(), "/replace/new/data", Ends::Replaced).await;
}

#[tokio::test]
async fn a_first_write_dropped_at_any_poll_has_created_one_session_or_none() {
    sweep_of_a_first_write(TestStore::new()).await;
}

/// What a request that is not interrupted does to the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    SameId,
    NewId,
    NoId,
    /// The old id ends, and something else begins under a new one.
    Replaced,
}

/// How far the handler has come.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// It has told the session what it wants, and goes on to work.
    asked: Arc<AtomicBool>,
    /// It has answered.
    answered: Arc<AtomicBool>,
}

type State = (Option<UserId>, Payload);

struct Scene<S> {
    store: WatchedStore<S>,
    layer: SessionLayer,
    browser: Browser,
    progress: Progress,
    before: Vec<(RecordId, State)>,
}

impl<S: SessionStore> Scene<S> {
    async fn new(store: &Arc<S>, login: bool) -> Self {
        let store = WatchedStore::new(store, 2);
        let clock = ManualClock::new();
        let layer = layer_over(store.clone())
            .with_clock(clock.clone())
            .with_idle_timeout(Duration::from_secs(60 * 60));
        let progress = Progress::default();
        let mut browser = Browser::new(&progress.routes().layer(layer.clone()));
        if login {
            browser.post("/login/alice").await.assert_ok();
            browser.post("/put/canary/alice").await.assert_ok();
        }
        progress.asked.store(false, SeqCst);
        progress.answered.store(false, SeqCst);
        // So far that the deadline is to be written again.
        clock.advance(Duration::from_secs(30 * 60));
        let mut scene = Self {
            store,
            layer,
            browser,
            progress,
            before: Vec::new(),
        };
        scene.before = scene.states().await;
        scene
    }

    async fn states(&self) -> Vec<(RecordId, State)> {
        let live = self.store.live().await;
        live.into_iter()
            .map(|(id, record)| (id, (record.user, record.payload)))
            .collect()
    }

    /// Drops the request after so many polls, and lets come to its end what has begun.
    async fn abandon(&mut self, polls: usize, path: &str) -> ControlFlow<()> {
        let answer = abandon_after(polls, self.browser.post(path)).await;
        self.layer.drain().await;
        assert_eq!(self.store.writing(), 0, "{path}, {polls} polls");
        match answer {
            Some(answer) => {
                answer.assert_ok();
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    }
}

impl Progress {
    /// The application, which works on for a while after it has told the session what it wants.
    fn routes(&self) -> Router {
        let progress = self.clone();
        router()
            .route("/replace/{key}/{value}", post(replace))
            .route(
                "/contains",
                post(async |s: Session| s.contains_key("canary").to_string()),
            )
            .layer(from_fn(move |request: Request, next: Next| {
                let progress = progress.clone();
                async move {
                    let response = next.run(request).await;
                    progress.asked.store(true, SeqCst);
                    yields(3).await;
                    progress.answered.store(true, SeqCst);
                    response
                }
            }))
    }
}

async fn replace(
    session: Session,
    Path((key, value)): Path<(String, String)>,
) -> Result<(), Error> {
    session.flush()?;
    session.insert(&key, value)
}

async fn sweep<S: SessionStore>(store: S, path: &str, ends: Ends) {
    let store = Arc::new(store);
    let mut whole = Scene::new(&store, true).await;
    assert_eq!(
        whole.abandon(usize::MAX, path).await,
        ControlFlow::Break(())
    );
    let after: Vec<State> = whole.states().await.into_iter().map(|(_, s)| s).collect();

    // How far a request comes in so many polls is always the same in memory, and depends on luck over
    // a network. Each stage has to be interrupted more than once; nothing is loaded for a logout.
    let enough = |seen: [u32; 3]| (path == "/logout" || seen[0] > 2) && seen[1] > 2 && seen[2] > 2;
    let mut seen = [0; 3];
    let mut polls = 0;
    let mut sweeps = 0;
    loop {
        let mut scene = Scene::new(&store, true).await;
        let flow = scene.abandon(polls, path).await;
        let asked = scene.progress.asked.load(SeqCst);
        let answered = scene.progress.answered.load(SeqCst);
        let now = scene.states().await;
        let case = format!("{path}, {polls} polls: asked {asked}, answered {answered}");
        let old_id = scene.before[0].0;
        if answered {
            seen[2] += 1;
            let states: Vec<State> = now.iter().map(|(_, state)| state.clone()).collect();
            assert_eq!(states, after, "{case}");
            let same_id = now.first().is_some_and(|(id, _)| *id == old_id);
            assert_eq!(same_id, ends == Ends::SameId, "{case}");
            assert_eq!(now.is_empty(), ends == Ends::NoId, "{case}");
        } else if asked && matches!(ends, Ends::NoId | Ends::Replaced) {
            seen[1] += 1;
            assert_eq!(now, [], "{case}");
        } else {
            seen[usize::from(asked)] += 1;
            assert_eq!(now, scene.before, "{case}");
        }
        assert!(now.len() <= 1, "{case}");
        works_afterwards(&mut scene).await;
        polls += 1;
        if flow.is_break() {
            if enough(seen) {
                break;
            }
            (polls, sweeps) = (0, sweeps + 1);
            assert!(sweeps < SWEEPS_MAX, "{path}: {seen:?}");
        }
    }
}

const SWEEPS_MAX: u32 = 100;

async fn sweep_of_a_first_write<S: SessionStore>(store: S) {
    let store = Arc::new(store);
    let mut created = 0;
    for polls in 0.. {
        let mut scene = Scene::new(&store, false).await;
        let flow = scene.abandon(polls, "/put/canary/new").await;
        let answered = scene.progress.answered.load(SeqCst);
        let now = scene.states().await;
        assert_eq!(now.len(), usize::from(answered), "{polls} polls");
        assert_eq!(scene.browser.id().is_some(), flow.is_break());
        created += now.len();
        works_afterwards(&mut scene).await;
        if flow.is_break() {
            break;
        }
    }
    assert!(created > 2);
}

/// Whatever has become of the session, the client goes on with it or begins another.
async fn works_afterwards<S: SessionStore>(scene: &mut Scene<S>) {
    let answer = scene.browser.post("/count/again").await.assert_ok();
    assert_eq!(answer.body, "1");
    let answer = scene.browser.post("/count/again").await.assert_ok();
    assert_eq!(answer.body, "2");
}

/// As when a server drops its connections after its runtime has come to a stand.
#[test]
fn a_logout_of_a_request_that_is_dropped_outside_of_the_runtime_takes_effect() {
    for load in [false, true] {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let store = MemoryStore::new();
        let layer = layer_over(store.clone());
        let handler = move |lazy: LazySession| async move {
            if load {
                lazy.load().await.unwrap();
            }
            lazy.flush().unwrap();
            std::future::pending::<()>().await;
        };
        let app = router().route("/out", post(handler)).layer(layer.clone());
        let mut browser = Browser::new(&app);
        runtime.block_on(browser.post("/login/alice")).assert_ok();
        let mut replay = browser.clone();
        let mut request = Box::pin(browser.post("/out"));
        assert!(
            runtime
                .block_on(abandon_after(3, request.as_mut()))
                .is_none()
        );
        drop(request);
        runtime.block_on(layer.drain());
        assert!(store.is_empty());
        assert_eq!(runtime.block_on(replay.get("/whoami")).body, "-");
    }
}
