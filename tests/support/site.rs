//! A site whose clock and store the test holds in its hand.

use std::{sync::Arc, time::Duration};

use axum::Router;
use http::HeaderMap;
use tower_keep::{
    MemoryStore, Payload, Record, ScanSessions, SessionId, SessionLayer, SessionStore, UserId,
    Version, WriteToken,
    testing::{FaultyStore, ManualClock},
};

use crate::support::{Answer, Browser, TestStore, app, layer_in_time, router};

/// One store that fails on demand, and one clock for it and for every node.
pub struct Site {
    pub clock: ManualClock,
    /// What is really stored, whatever the faulty one in front of it does.
    pub memory: TestStore,
    pub store: Arc<FaultyStore<TestStore>>,
}

impl Site {
    pub fn new() -> Self {
        Self::with_memory(TestStore::new())
    }

    /// A site for tests that stop tokio's clock, which a real server knows nothing of.
    pub fn in_memory() -> Self {
        Self::with_memory(MemoryStore::new().into())
    }

    /// A site on an empty store with bounds of its own.
    pub fn with_memory(memory: TestStore) -> Self {
        let clock = ManualClock::new();
        let memory = memory.with_clock(clock.clone());
        let store = Arc::new(FaultyStore::new(memory.clone()));
        Self {
            clock,
            memory,
            store,
        }
    }

    /// The layer of one more node.
    pub fn layer(&self) -> SessionLayer {
        // What is in memory answers at once, or hangs because the test wants it to.
        let layer = layer_in_time(Arc::clone(&self.store), self.memory.is_in_memory());
        layer.with_clock(self.clock.clone())
    }

    /// A browser at a node with the default options.
    pub fn browser(&self) -> Browser {
        Browser::new(&app(self.layer()))
    }

    /// A browser at a node that has more routes.
    pub fn browser_with(&self, routes: Router) -> Browser {
        Browser::new(&router().merge(routes).layer(self.layer()))
    }

    /// Lets so many seconds pass.
    pub fn pass(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// What is stored under a cookie's value.
    pub async fn record(&self, cookie: &str) -> Option<Record> {
        let id = SessionId::parse(cookie.as_bytes()).unwrap();
        self.memory.load(&id.record_id()).await.unwrap()
    }

    /// What is stored under the cookie of a browser.
    pub async fn record_of(&self, browser: &Browser) -> Option<Record> {
        self.record(browser.id().unwrap()).await
    }

    /// Puts other data under the cookie of a browser, as a fault of the disk or a newer version of
    /// the software does.
    pub async fn overwrite(&self, browser: &Browser, payload: impl Into<Payload>) -> Record {
        let id = SessionId::parse(browser.id().unwrap().as_bytes()).unwrap();
        let id = id.record_id();
        let old = self.memory.load(&id).await.unwrap().unwrap();
        let revision = old.version.revision + 1;
        let mut token = [0xee; 16];
        token[..8].copy_from_slice(&revision.to_be_bytes());
        let new = Record {
            version: Version {
                revision,
                token: WriteToken::from_bytes(token),
            },
            payload: payload.into(),
            ..old.clone()
        };
        let _ = self.memory.update(&id, &new, old.version).await.unwrap();
        assert_eq!(self.memory.load(&id).await.unwrap().as_ref(), Some(&new));
        new
    }

    /// Whose sessions with what data are alive, whatever their ids.
    pub async fn contents(&self) -> Vec<(Option<UserId>, Vec<u8>)> {
        let page = self.memory.scan(None, 1000).await.unwrap();
        let content = |record: Record| (record.user, record.payload.as_bytes().to_vec());
        let mut contents: Vec<_> = page
            .sessions
            .into_iter()
            .map(|session| content(session.record))
            .collect();
        contents.sort();
        contents
    }

    /// Whether every id that an answer hands out is stored.
    pub async fn keeps_what_it_hands_out(&self, answer: &Answer) -> bool {
        for cookie in answer.set_cookies() {
            let value = cookie.split(['=', ';']).nth(1).unwrap();
            if !value.is_empty() && self.record(value).await.is_none() {
                return false;
            }
        }
        true
    }
}

impl Browser {
    /// Brings the session cookie of another browser here, as a thief or another node's client does.
    pub fn with_id_of(mut self, other: &Self) -> Self {
        self.set_cookie("__Host-id", other.id().unwrap());
        self
    }

    /// Whether the cookies of this browser are worth nothing. If they are worth something, this is a
    /// use of the session and may postpone its end.
    pub async fn is_anonymous(&self) -> bool {
        let mut me = self.clone();
        if me.get("/optional").await.assert_ok().body == "some" {
            return false;
        }
        for (path, empty) in [("/optional", "none"), ("/dump", "{}"), ("/whoami", "-")] {
            let answer = me.get(path).await.assert_ok();
            assert_eq!(answer.body, empty);
            assert_eq!(answer.set_cookies(), [""; 0]);
        }
        true
    }

    /// Sends a request during which the handler panics.
    pub async fn post_and_panic(&self, path: &str) {
        let mut me = self.clone();
        let path = path.to_owned();
        let sent = tokio::spawn(async move { me.post(&path).await }).await;
        assert!(sent.unwrap_err().is_panic());
    }

    /// The answer to exactly this `Cookie` header.
    pub async fn get_with_cookie(&self, path: &str, cookie: &[u8]) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::COOKIE,
            http::HeaderValue::from_bytes(cookie).unwrap(),
        );
        self.send_with(http::Method::GET, path, headers).await
    }
}
