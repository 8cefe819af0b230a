//! Sessions in memcached.

mod address;
mod cache;
mod failure;
mod node;
mod rotation;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;
use tokio::time::{Instant, sleep, timeout_at};

pub use self::cache::MemcachedCache;
use self::{
    address::Address,
    failure::{STORE, unavailable},
    node::{If, Item, Node, Stored},
};
use super::keyed::{self, CLOCK_SLACK, Kept, Keys, NOTE_TTL, TIMEOUT_MAX};
use crate::{
    clock::{Clock, SystemClock},
    error::StoreError,
    id::RecordId,
    record::{Record, Version},
    store::{Created, Rotated, SessionStore, Updated},
    timestamp::Timestamp,
};

/// Keeps sessions in [memcached](https://memcached.org) 1.6 or newer, in one node or spread over several.
///
/// Cheap to clone; clones are the same store and share its connections. Options are chosen before the
/// first clone is made.
///
/// # What it costs
///
/// A load is one command. A write is two: memcached compares no more than a number that it gives with a
/// read, so the item is read and stored back if nobody else has stored since (the meta protocol's
/// compare-and-set). A rotation, which goes over two keys, takes up to eight, a new session one. Each
/// command has one of at most 64 connections a node to itself.
///
/// # What it cannot promise
///
/// *Eviction is a logout.* memcached lets go of what was not used for the longest time when it needs the
/// room, and of everything when it is restarted. Nothing is on disk and nothing has a second copy. Give it
/// more memory than its sessions need (`-m`), and watch `evictions` in its `stats`.
///
/// *A full memory ends sessions.* With `-M` it refuses a write instead, but what was there before
/// goes: do not use it.
///
/// *A record that is larger than an item may be* (`-I`, 1 MiB by default) is refused:
/// [`StoreErrorKind::TooLarge`](crate::StoreErrorKind::TooLarge).
///
/// It cannot list: not the sessions of a user, nor all there are. So this store is no
/// [`UserSessions`](crate::UserSessions) and no [`ScanSessions`](crate::ScanSessions), and an application
/// that ends all sessions of a user does not compile with it.
///
/// # Several nodes
///
/// Each session is in one node, chosen by its id and by how the nodes are named in the
/// address (rendezvous hashing). All processes must name them in the same way; the order does not
/// matter. A node that is down takes its sessions with it: requests that need them are answered with an error, others do
/// not notice; once it is back, empty, their users are logged out.
///
/// *Change the nodes together with the [prefix](Self::with_prefix)*, and on all processes at once; everybody logs in once more
/// then. Under the same prefix only the sessions of a node that is taken out or added are looked for elsewhere, but they
/// are not moved: their users are strangers, and one who has logged out meanwhile is logged in again where the old
/// node is asked. The same holds for a name that leads to another host while the old one lives.
///
/// # What the servers have to offer
///
/// The meta protocol and its compare-and-set, which `-C` switches off, and `stats settings`. There is neither TLS nor a
/// password (SASL), nor a Unix socket: keep them in a network of their own.
///
/// # Expired sessions
///
/// Every item has a time to live, so nothing has to be swept. Whether a record has expired is told by
/// the clock of the process; the server lets go of it five minutes later.
///
/// # Examples
///
/// ```
/// use tower_keep::{MemcachedStore, SessionLayer};
///
/// let store = MemcachedStore::open("memcached://cache-a:11211,cache-b:11211")?;
/// let sessions = SessionLayer::new(store);
/// # Ok::<(), tower_keep::StoreError>(())
/// ```
#[derive(Clone)]
pub struct MemcachedStore {
    nodes: Arc<[Node]>,
    prefix: String,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl MemcachedStore {
    /// A store in these nodes: `memcached://HOST:PORT,HOST:PORT`. Does not connect. The port may be
    /// left out (11211).
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Other`](crate::StoreErrorKind::Other) if the address cannot be understood.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let nodes = Address::parse_all(url)?.into_iter().map(Node::new);
        Ok(Self {
            nodes: nodes.collect(),
            prefix: "tower-keep".to_owned(),
            timeout: TIMEOUT,
            clock: Arc::new(SystemClock),
        })
    }

    /// Begins all keys with that and a colon. Without it: `tower-keep`.
    ///
    /// Each application, and each part of one that has users of its own, needs a prefix of its own: in all that share
    /// one, the same ids are valid, and the same names are the same users.
    ///
    /// # Panics
    ///
    /// If memcached takes no such keys: with white space or control characters, or with more than
    /// 190 bytes.
    #[must_use]
    #[track_caller]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        let is_plain = |byte: u8| byte > b' ' && byte != 0x7F;
        assert!(
            self.prefix.len() <= PREFIX_LEN_MAX && self.prefix.bytes().all(is_plain),
            "a prefix of memcached keys has up to {PREFIX_LEN_MAX} bytes, no white space and no control characters"
        );
        self
    }

    /// How long an operation may take, with all its commands and whatever has to be connected. Without it:
    /// 1.8 seconds, a little less than the layer gives it by default. The layer's own limit applies as well. One that meets a
    /// rotation that was interrupted may take several times as long. More than 365 days are 365 days; zero fails each operation.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The item of a session, at the node that has it.
    fn slot(&self, id: &RecordId) -> Slot<'_> {
        self.slot_of("session", id)
    }

    /// The same of what is kept of it under keys of that kind.
    fn slot_of(&self, kind: &str, id: &RecordId) -> Slot<'_> {
        let mut key = format!("{}:{kind}:", self.prefix);
        BASE64URL_NOPAD.encode_append(id.as_bytes(), &mut key);
        Slot {
            node: &self.nodes[self.node_of(id)],
            key,
            deadline: Instant::now() + self.timeout,
            lost: AtomicU32::new(0),
        }
    }

    /// The number of the node that has it. There always is one.
    fn node_of(&self, id: &RecordId) -> usize {
        let claims = self.nodes.iter().map(|node| node.address().claim(id));
        let highest = claims.enumerate().max_by_key(|(_, claim)| *claim);
        highest.map_or(0, |(number, _)| number)
    }
}

impl fmt::Debug for MemcachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes.iter().map(|node| node.address().host_and_port());
        f.debug_struct("MemcachedStore")
            .field("nodes", &nodes.collect::<Vec<_>>())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemcachedStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let kept = self.slot(id).kept().await?;
        keyed::settled(self, id, kept).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        let slot = self.slot(id);
        let bytes = record.to_bytes();
        let now = self.now();
        let ttl = seconds(record.expires_at, now);
        loop {
            if slot.set(&bytes, ttl, If::Absent).await? == Stored::Done {
                return Ok(Created::Done);
            }
            let Some(item) = slot.item().await? else {
                continue;
            };
            match read(item.value)? {
                // The same attempt, sent twice.
                Kept::Record(present) if present.version == record.version => {
                    return Ok(Created::Done);
                }
                Kept::Record(present) if !present.is_expired(now) => return Ok(Created::Exists),
                // A note that a session has moved may be what keeps it alive where it is now.
                Kept::Pending { .. } | Kept::Moved { .. } | Kept::Ended => {
                    return Ok(Created::Exists);
                }
                Kept::Record(_) => {}
            }
            if slot.set(&bytes, ttl, If::Cas(item.cas)).await? == Stored::Done {
                return Ok(Created::Done);
            }
        }
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let slot = self.slot(id);
        let bytes = record.to_bytes();
        let mut is_in_doubt = false;
        loop {
            let now = self.now();
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(Updated::Gone);
            };
            let present = match read(value)? {
                Kept::Record(present) => present,
                kept => match keyed::settled(self, id, Some(kept)).await? {
                    None => return Ok(Updated::Gone),
                    Some(_) => continue,
                },
            };
            if present.is_expired(now) {
                return Ok(Updated::Gone);
            }
            if present.version == record.version {
                return Ok(Updated::Done);
            }
            if present.version != expected {
                return match is_in_doubt {
                    // Somebody has written since, perhaps over the first one.
                    true => Err(unavailable("the reply to a write was lost")),
                    false => Ok(Updated::Conflict(present)),
                };
            }
            let ttl = seconds(record.expires_at, now);
            match slot.set(&bytes, ttl, If::Cas(cas)).await? {
                Stored::Done => return Ok(Updated::Done),
                Stored::Refused => {}
                Stored::Unknown => is_in_doubt = true,
            }
        }
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        if old == new {
            let live = self.load(old).await?.is_some();
            return Ok(if live { Rotated::Exists } else { Rotated::Gone });
        }
        let rotated = keyed::rotate_apart(self, old, new, record, expected, self.timeout);
        match rotated.await {
            Some(rotated) => rotated,
            None => Err(unavailable("no server answered in time")),
        }
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let slot = self.slot(id);
        loop {
            let now = self.now();
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(false);
            };
            let present = match read(value)? {
                Kept::Record(present) => present,
                kept => match keyed::settled(self, id, Some(kept)).await? {
                    None => return Ok(false),
                    Some(_) => continue,
                },
            };
            if present.is_expired(now) || present.version != expected {
                return Ok(false);
            }
            if expires_at <= present.expires_at {
                return Ok(true);
            }
            let touched = Record {
                expires_at,
                ..present
            };
            let ttl = seconds(expires_at, now);
            if slot.set(&touched.to_bytes(), ttl, If::Cas(cas)).await? == Stored::Done {
                return Ok(true);
            }
        }
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let slot = self.slot(id);
        let mut is_in_doubt = false;
        loop {
            let now = self.now();
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(is_in_doubt);
            };
            let was_live = match Kept::from_bytes(value) {
                Ok(Kept::Record(present)) => !present.is_expired(now),
                Ok(kept @ Kept::Pending { .. }) => {
                    match keyed::settled(self, id, Some(kept)).await? {
                        None => false,
                        Some(_) => continue,
                    }
                }
                Ok(Kept::Moved { .. } | Kept::Ended) => return Ok(is_in_doubt),
                // Whatever it is, it ends.
                Err(_) => true,
            };
            let ended = Kept::Ended.to_bytes();
            match slot.set(&ended, NOTE_SECONDS, If::Cas(cas)).await? {
                Stored::Done => return Ok(was_live),
                Stored::Refused => {}
                Stored::Unknown => is_in_doubt |= was_live,
            }
        }
    }
}

/// A key at its node, for one operation.
struct Slot<'a> {
    node: &'a Node,
    key: String,
    deadline: Instant,
    /// How many of its writes did not come to pass.
    lost: AtomicU32,
}

impl Slot<'_> {
    async fn item(&self) -> Result<Option<Item>, StoreError> {
        self.node.get(&self.key, self.deadline).await
    }

    async fn kept(&self) -> Result<Option<Kept>, StoreError> {
        match self.item().await? {
            Some(item) => read(item.value).map(Some),
            None => Ok(None),
        }
    }

    async fn set(&self, value: &[u8], seconds: u32, condition: If) -> Result<Stored, StoreError> {
        let (node, deadline) = (self.node, self.deadline);
        let set = node.set(&self.key, value, seconds, condition, deadline);
        let stored = set.await?;
        if stored != Stored::Done {
            // Others were faster. Let them, if that goes on.
            let lost = self.lost.fetch_add(1, Ordering::Relaxed);
            let pause = Duration::from_millis(1 << lost.min(PAUSE_EXPONENT_MAX));
            if lost > LOST_IN_A_ROW && timeout_at(deadline, sleep(pause)).await.is_err() {
                return Err(unavailable("no write was accepted in time"));
            }
        }
        Ok(stored)
    }

    /// Removes what has that number; answers whether there is no such thing any more.
    async fn remove(&self, cas: u64) -> Result<bool, StoreError> {
        self.node.remove(&self.key, cas, self.deadline).await
    }
}

fn read(bytes: Vec<u8>) -> Result<Kept, StoreError> {
    Kept::from_bytes(bytes).map_err(|error| StoreError::new(STORE, error.kind(), error))
}

/// How many seconds from now an item shall live that is needed until that deadline, as memcached takes it: more
/// than 30 days are a point in time.
fn seconds(deadline: Timestamp, now: Timestamp) -> u32 {
    const RELATIVE_MAX: u64 = 30 * 24 * 60 * 60;
    // memcached counts in 32 bits with a sign: beyond January 2038 it would let go at once.
    const SECONDS_MAX: u64 = i32::MAX as u64;
    let left = deadline.saturating_add(CLOCK_SLACK).duration_since(now);
    let seconds = left.as_secs().max(1);
    let seconds = match seconds > RELATIVE_MAX {
        true => {
            let now = Timestamp::from(SystemClock.now()).as_millis() / 1000;
            seconds.saturating_add(u64::try_from(now).unwrap_or(0))
        }
        false => seconds,
    };
    u32::try_from(seconds.min(SECONDS_MAX)).unwrap_or(0)
}

/// How long an operation may take: less than the 2 seconds of the layer, so that it is the store that tells why.
const TIMEOUT: Duration = Duration::from_millis(1800);

/// How many writes of one operation may be lost before it pauses between them.
const LOST_IN_A_ROW: u32 = 4;

/// No pause is longer than so many doublings of a millisecond.
const PAUSE_EXPONENT_MAX: u32 = 5;

/// memcached takes keys up to 250 bytes.
const PREFIX_LEN_MAX: usize = 190;

#[expect(clippy::cast_possible_truncation, reason = "a minute")]
const NOTE_SECONDS: u32 = NOTE_TTL.as_secs() as u32;
