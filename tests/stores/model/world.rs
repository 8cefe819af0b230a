//! What a script runs against: a store, a layer, and a clock of their own.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::COOKIE};
use tower_keep::{
    Clock, Record, SessionId, SessionLayer, SessionStore, Timestamp, testing::ManualClock,
};

use super::{gates::GatedStore, gates::Gates, minted::Minted};
use crate::support::Answer;

/// Milliseconds since the epoch.
pub(super) type Millis = i64;

pub(super) const IDLE: Duration = Duration::from_secs(1000);
pub(super) const ABSOLUTE: Duration = Duration::from_secs(3000);

pub(super) struct World {
    pub(super) clock: ManualClock,
    pub(super) gates: Gates,
    pub(super) minted: Minted,
    pub(super) layer: SessionLayer,
    store: Arc<dyn SessionStore>,
}

impl World {
    pub(super) async fn new<S, F>(open: impl Fn(ManualClock) -> F) -> Self
    where
        S: SessionStore,
        F: Future<Output = S>,
    {
        let clock = ManualClock::new();
        let store: Arc<dyn SessionStore> = Arc::new(open(clock.clone()).await);
        let gates = Gates::default();
        let minted = Minted::default();
        let layer = SessionLayer::new(GatedStore::new(Arc::clone(&store), gates.clone()))
            .with_clock(clock.clone())
            .with_random_source(minted.clone())
            .with_idle_timeout(IDLE)
            .with_absolute_timeout(ABSOLUTE)
            .with_store_timeout(STORE_TIMEOUT);
        Self {
            clock,
            gates,
            minted,
            layer,
            store,
        }
    }

    pub(super) fn now(&self) -> Millis {
        Timestamp::from(self.clock.now()).as_millis()
    }

    /// What lies in the store under the id of a cookie.
    pub(super) async fn stored(&self, id: &str) -> Result<Option<Record>, String> {
        let id = SessionId::parse(id.as_bytes()).ok_or("an id that is none was handed out")?;
        let record = self.store.load(&id.record_id()).await;
        record.map_err(|error| format!("the store failed: {error:?}"))
    }
}

/// What an answer does to the session cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cookie {
    Keep,
    Set { id: String, max_age: Option<Millis> },
    Remove,
}

impl Cookie {
    pub(super) fn of(answer: &Answer) -> Result<Self, String> {
        let sets = answer.set_cookies();
        let set = match &sets[..] {
            [] => return Ok(Self::Keep),
            [set] => set,
            _ => return Err(format!("more than one cookie is set: {sets:?}")),
        };
        let mut parts = set.split("; ");
        let id = parts.next().and_then(|pair| pair.strip_prefix(NAME));
        let id = id.ok_or_else(|| format!("a cookie that is not ours is set: {set}"))?;
        let max_age = parts.find_map(|part| part.strip_prefix("Max-Age="));
        let max_age = max_age.map(|age| age.parse().unwrap());
        match (id, max_age) {
            ("", Some(0)) => Ok(Self::Remove),
            _ => Ok(Self::Set {
                id: id.to_owned(),
                max_age,
            }),
        }
    }
}

/// The headers of a request that presents these ids.
pub(super) fn presenting(ids: &[String]) -> HeaderMap {
    let pairs: Vec<String> = ids.iter().map(|id| format!("{NAME}{id}")).collect();
    let mut headers = HeaderMap::new();
    if !pairs.is_empty() {
        let field = HeaderValue::from_str(&pairs.join("; ")).unwrap();
        headers.insert(COOKIE, field);
    }
    headers
}

const NAME: &str = "__Host-id=";

/// A request that is held back by a script is not to be answered 503 for it.
const STORE_TIMEOUT: Duration = Duration::from_secs(600);
