//! An application with its sessions in cookies, whose clock and store the test holds in its hand.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::COOKIE};
use tower_keep::{
    CookieStore, Keyring, MemoryStore, Revocable, ScanSessions, SessionLayer,
    testing::{CountingStore, FaultyStore, ManualClock},
};

use crate::support::{Browser, app};

/// How the sessions are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Signed,
    Encrypted,
}

impl Kind {
    pub(crate) fn cookies(self, keyring: &Keyring) -> CookieStore {
        match self {
            Self::Signed => CookieStore::signed(keyring),
            Self::Encrypted => CookieStore::encrypted(keyring),
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Signed => Self::Encrypted,
            Self::Encrypted => Self::Signed,
        }
    }

    /// Where the fields of a token end: format, key id, nonce or signature, body.
    pub(crate) const fn fields(self) -> [usize; 3] {
        match self {
            Self::Signed => [1, 5, 37],
            Self::Encrypted => [1, 5, 29],
        }
    }
}

/// Runs each test for both kinds.
macro_rules! both_kinds {
    ($($test:ident),+ $(,)?) => {
        mod signed {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::world::Kind::Signed).await;
            })+
        }

        mod encrypted {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::world::Kind::Encrypted).await;
            })+
        }
    };
}
pub(crate) use both_kinds;

pub(crate) type Ended = Arc<FaultyStore<Arc<CountingStore<MemoryStore>>>>;

/// One application on many nodes, with one clock.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) keyring: Keyring,
    pub(crate) clock: ManualClock,
    /// What was ended before its time.
    pub(crate) ended: Ended,
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new(Keyring::generate_secret().unwrap()).unwrap()
}

impl World {
    pub(crate) fn new(kind: Kind) -> Self {
        let clock = ManualClock::new();
        let store = MemoryStore::new().with_clock(clock.clone());
        Self {
            kind,
            keyring: keyring(),
            clock,
            ended: Arc::new(FaultyStore::new(Arc::new(CountingStore::new(store)))),
        }
    }

    pub(crate) fn cookies(&self) -> CookieStore<Revocable> {
        let cookies = self.kind.cookies(&self.keyring);
        let cookies = cookies.with_revocations(Arc::clone(&self.ended));
        cookies.with_clock(self.clock.clone())
    }

    /// The layer of one more node, on which what was ended is ended.
    pub(crate) fn layer(&self) -> SessionLayer {
        SessionLayer::new(self.cookies()).with_clock(self.clock.clone())
    }

    /// The layer of a node that knows nothing of what was ended.
    pub(crate) fn layer_without_revocations(&self) -> SessionLayer {
        SessionLayer::new(self.kind.cookies(&self.keyring)).with_clock(self.clock.clone())
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::new(&app(self.layer()))
    }

    pub(crate) fn browser_without_revocations(&self) -> Browser {
        Browser::new(&app(self.layer_without_revocations()))
    }

    pub(crate) fn pass(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// How many calls the store has had since this was last asked.
    pub(crate) fn calls(&self) -> u64 {
        self.ended.inner().take().total()
    }

    /// How many records the store has.
    pub(crate) async fn marks(&self) -> usize {
        let page = self.ended.scan(None, 1000).await.unwrap();
        page.sessions.len()
    }
}

impl Browser {
    /// What a GET with exactly this `Cookie` field is answered; it sets no cookie.
    pub(crate) async fn read_with(&self, path: &str, cookie: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_bytes(cookie).unwrap());
        let answer = self.send_with(http::Method::GET, path, headers).await;
        assert_eq!(answer.set_cookies(), [""; 0]);
        answer.assert_ok().body
    }

    /// Whether what this browser has is a live session.
    pub(crate) async fn is_alive(&self) -> bool {
        self.clone().get("/optional").await.assert_ok().body == "some"
    }
}

pub(crate) const NAME: &str = "__Host-id";
pub(crate) const DAY: u64 = 24 * 60 * 60;
