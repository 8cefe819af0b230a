//! An application whose store is counted and whose clock stands still.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use http::{HeaderMap, HeaderValue, header::COOKIE};
use tower_keep::{
    SessionId, SessionLayer, SystemRandom,
    testing::{CountingStore, Counts, ManualClock},
};

use crate::support::{Browser, TestStore, Transport, app, layer_over, router};

/// The default name of the cookie.
pub(crate) const NAME: &str = "__Host-id";

/// No call at all.
pub(crate) const NONE: Counts = Counts {
    load: 0,
    create: 0,
    update: 0,
    rotate: 0,
    touch: 0,
    delete: 0,
    sessions_of: 0,
    delete_all_of: 0,
    delete_expired: 0,
    scan: 0,
};

pub(crate) struct Counted {
    pub(crate) store: Arc<CountingStore<TestStore>>,
    pub(crate) clock: ManualClock,
    pub(crate) layer: SessionLayer,
    pub(crate) app: Router,
}

impl Counted {
    pub(crate) fn new() -> Self {
        Self::with(|layer| layer)
    }

    /// The application of the tests behind a layer with other options.
    pub(crate) fn with(options: impl FnOnce(SessionLayer) -> SessionLayer) -> Self {
        Self::of(router(), options)
    }

    /// Another application.
    pub(crate) fn of(router: Router, options: impl FnOnce(SessionLayer) -> SessionLayer) -> Self {
        let clock = ManualClock::new();
        let store = TestStore::new().with_clock(clock.clone());
        let store = Arc::new(CountingStore::new(store));
        let layer = layer_over(Arc::clone(&store)).with_clock(clock.clone());
        let layer = options(layer);
        Self {
            app: router.layer(layer.clone()),
            store,
            clock,
            layer,
        }
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::new(&self.app)
    }

    /// One browser in this process and one over HTTP.
    pub(crate) async fn browsers(&self) -> [Browser; 2] {
        [self.browser(), Browser::over_http(&self.app).await]
    }

    /// Opens the application to the loopback interface, until the runtime ends.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = self.app.clone();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    }

    /// The id of a new session that has a color, under the default cookie name.
    pub(crate) async fn live(&self, color: &str) -> String {
        let mut browser = Browser::new(&app(self.layer.clone()));
        let path = format!("/put/color/{color}");
        browser.post(&path).await.assert_ok();
        self.store.take();
        browser.id().unwrap().to_owned()
    }

    /// Whether the store holds a record of this id.
    pub(crate) async fn holds(&self, id: &str) -> bool {
        use tower_keep::SessionStore;
        let record_id = SessionId::parse(id.as_bytes()).unwrap().record_id();
        let record = self.store.inner().load(&record_id).await;
        record.unwrap().is_some()
    }
}

/// The calls since the last time, if loads are all there were.
pub(crate) const fn loads(load: u64) -> Counts {
    Counts { load, ..NONE }
}

/// One `Cookie` field for each of these.
pub(crate) fn cookies<T: AsRef<[u8]>>(fields: impl IntoIterator<Item = T>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for field in fields {
        let value = HeaderValue::from_bytes(field.as_ref()).unwrap();
        headers.append(COOKIE, value);
    }
    headers
}

/// The session cookie with this id.
pub(crate) fn cookie(id: &str) -> HeaderMap {
    cookies([format!("{NAME}={id}")])
}

/// A well-formed id that no store knows.
pub(crate) fn unknown_id() -> String {
    SessionId::generate(&SystemRandom).unwrap().expose_secret()
}

/// A browser over HTTP at this address.
pub(crate) fn browser_at(address: SocketAddr) -> Browser {
    Browser::over(Transport::Http(address))
}
