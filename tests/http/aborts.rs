//! Thousands of requests dropped at random, of many users at once.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::routing::get;
use tokio::task::JoinSet;
use tower_keep::{Error, Session, SessionStore};

use crate::support::{
    Browser, TestStore, WatchedStore, abandon_after, layer_over, one_in_elsewhere, router,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_thousands_of_random_aborts_nobody_has_seen_anothers_data_and_all_works() {
    many(TestStore::new()).await;
}

const USERS: u64 = 40;
const WORKERS: u64 = 16;
/// A fifth over stores that are slow.
const ABORTS: usize = 10_000;
/// More than any of the requests takes.
const POLLS_MAX: u64 = 12;

async fn many(store: impl SessionStore) {
    let store = WatchedStore::new(&Arc::new(store), 1);
    let layer = layer_over(store.clone());
    let crowd = Crowd::new(&Browser::new(
        &router().route("/see", get(see)).layer(layer.clone()),
    ));
    for user in 0..USERS {
        crowd.log_in(user).await;
    }
    let mut workers = JoinSet::new();
    for seed in 0..WORKERS {
        let crowd = crowd.clone();
        workers.spawn(async move {
            let mut random = Lcg(seed);
            while crowd.aborts.load(SeqCst) < ABORTS / one_in_elsewhere(5) {
                crowd.act(&mut random).await;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    layer.drain().await;
    assert_eq!(store.writing(), 0);

    for (_, record) in store.live().await {
        let user = record.user.map(|user| user.to_string());
        let data = String::from_utf8_lossy(record.payload.as_bytes()).into_owned();
        // A write that comes behind an aborted logout begins a session without a user.
        let mut names: Vec<String> = (0..USERS).map(name).filter(|n| data.contains(n)).collect();
        names.extend(user);
        names.dedup(); // the user's own
        assert!(names.len() <= 1, "{names:?}: {data}");
    }
    for user in 0..USERS {
        crowd.look(user).await;
        crowd.log_in(user).await;
        let mut browser = crowd.browser(user);
        browser.post("/remove/n").await.assert_ok();
        assert_eq!(browser.post("/count/n").await.assert_ok().body, "1");
        assert_eq!(browser.post("/count/n").await.assert_ok().body, "2");
        browser.post("/logout").await.assert_ok();
        assert_eq!(browser.get("/whoami").await.body, "-");
    }
}

/// The users, each with one browser, in which several requests may be on their way at once.
#[derive(Clone)]
struct Crowd {
    browsers: Arc<Vec<Mutex<Browser>>>,
    aborts: Arc<AtomicUsize>,
}

impl Crowd {
    fn new(browser: &Browser) -> Self {
        let browsers = (0..USERS).map(|_| Mutex::new(browser.stranger())).collect();
        Self {
            browsers: Arc::new(browsers),
            aborts: Arc::default(),
        }
    }

    fn browser(&self, user: u64) -> Browser {
        self.of(user).lock().unwrap().clone()
    }

    fn of(&self, user: u64) -> &Mutex<Browser> {
        &self.browsers[usize::try_from(user).unwrap()]
    }

    /// One user sends one request, and waits for it for a random time.
    async fn act(&self, random: &mut Lcg) {
        let user = random.below(USERS);
        let path = match random.below(8) {
            0 => format!("/login/{}", name(user)),
            1 => "/cycle".into(),
            2 => "/logout".into(),
            3 => "/flush".into(),
            4 => format!("/put/canary/{}", name(user)),
            5 => "/count/n".into(),
            6 => "/expire/600".into(),
            _ => "/remove/n".into(),
        };
        let mut browser = self.browser(user);
        let polls = usize::try_from(random.below(POLLS_MAX)).unwrap();
        match abandon_after(polls, browser.post(&path)).await {
            Some(answer) => {
                answer.assert_ok();
                *self.of(user).lock().unwrap() = browser;
            }
            None => {
                self.aborts.fetch_add(1, SeqCst);
            }
        }
        if self.look(user).await.starts_with('-') {
            self.log_in(user).await;
        }
    }

    /// A user sees himself and his own canary, or nothing.
    async fn look(&self, user: u64) -> String {
        let seen = self.browser(user).get("/see").await.assert_ok().body;
        let own = name(user);
        let (whoami, canary) = seen.split_once(' ').unwrap();
        assert!(["-", &own].contains(&whoami), "{own}: {seen}");
        assert!(["-", &own].contains(&canary), "{own}: {seen}");
        seen
    }

    async fn log_in(&self, user: u64) {
        let mut browser = self.browser(user).stranger();
        let login = format!("/login/{}", name(user));
        browser.post(&login).await.assert_ok();
        let canary = format!("/put/canary/{}", name(user));
        browser.post(&canary).await.assert_ok();
        *self.of(user).lock().unwrap() = browser;
    }
}

async fn see(session: Session) -> Result<String, Error> {
    let user = session.user().map(|user| user.to_string());
    let canary: Option<String> = session.get("canary")?;
    let shown = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    Ok(format!("{} {}", shown(user), shown(canary)))
}

/// No name is a part of another.
fn name(user: u64) -> String {
    format!("user{user:02}")
}

/// The linear congruential generator of Knuth's MMIX: the same numbers in every run.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
