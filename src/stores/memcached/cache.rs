//! Copies of records in memcached, in front of another store.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{
    MemcachedStore, Slot,
    failure::STORE,
    node::{If, Item, Stored},
};
use crate::{
    cache::{Cached, RecordCache},
    clock::{Clock, SystemClock},
    error::{StoreError, StoreErrorKind},
    id::{RecordId, SystemRandom, WriteToken},
    record::{Record, RecordError, Version},
    timestamp::Timestamp,
};

/// Keeps copies in [memcached](https://memcached.org) 1.6 or newer, in one node or spread over several: in front of a
/// store that is slower, or that is to be spared the reads. All processes share them.
///
/// Nothing is lost when memcached is restarted, evicts items, or is down. Cheap to clone; clones are the same cache and
/// share its connections. Options are chosen before the first clone is made.
///
/// # What it costs
///
/// A copy that is there is one command. Where there is none, a second one leaves a ticket in its place; to put the copy
/// in takes two more, and so does a write. A logout is one.
///
/// # When a copy may be outdated
///
/// Each process that writes to the store has to tell the cache, which [`CachedStore`](crate::CachedStore) does. What
/// it could not be told, because a node could not be reached, is there for at most its
/// [time](Self::with_time_to_live).
///
/// *All processes must name the nodes in the same way.* Each copy is in one node, chosen by its id and by how the nodes are
/// named in the address (rendezvous hashing). While some processes name others, a logout by one of them may be
/// unheard of in the node that others ask: until the time of the copy is over. Change the nodes with the
/// prefix, and no process serves what another one cannot reach.
///
/// Until when a copy may be served is written with it, by the clock of the process that brought it. Processes whose
/// clocks differ serve it for longer by that difference; the server itself, by no clock of theirs, lets go of it after
/// its time since the last write.
///
/// A server counts its compare-and-set numbers anew when it is started. A copy that was on its way just then may in theory
/// meet the number that it expects, though what has it is another ticket.
///
/// # Keys
///
/// `tower-keep:cache:ID` is a copy, or a ticket to bring one, which lives for five seconds.
/// [`with_prefix`](Self::with_prefix) puts something else before the first colon. A
/// [`MemcachedStore`] on the same nodes uses other keys.
///
/// A value that is no copy, or a copy by a newer version of this crate, is an error when it is asked for. The next write
/// or logout removes it. A record that is larger than the items that a node takes has no copy.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_keep::MemcachedCache;
///
/// let cache = MemcachedCache::open("memcached://cache-a:11211,cache-b:11211")?
///     .with_time_to_live(Duration::from_secs(60));
/// # Ok::<(), tower_keep::StoreError>(())
/// ```
#[derive(Clone)]
pub struct MemcachedCache {
    /// Has the nodes, the prefix and the time; no session.
    nodes: MemcachedStore,
    time_to_live: Duration,
}

impl MemcachedCache {
    /// How long an operation may take if nothing else is said: 200 milliseconds. A cache that takes longer is no help,
    /// and the store has to be asked in the time that is left.
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_millis(200);

    /// How long a copy is kept if nothing else is said: 5 minutes. That is how long a logout may be without effect that
    /// the cache could not be told; and a session that is in use is read often enough in it.
    pub const TIME_TO_LIVE_DEFAULT: Duration = Duration::from_secs(5 * 60);

    /// A cache in these nodes: `memcached://HOST:PORT,HOST:PORT`. Does not connect. The port may be
    /// left out (11211).
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Other`] if the address cannot be understood.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let nodes = MemcachedStore::open(url)?;
        Ok(Self {
            nodes: nodes.with_timeout(Self::TIMEOUT_DEFAULT),
            time_to_live: Self::TIME_TO_LIVE_DEFAULT,
        })
    }

    /// Begins all keys with that and a colon. Without it: `tower-keep`.
    ///
    /// # Panics
    ///
    /// If memcached takes no such keys: with white space or control characters, or with more than
    /// 190 bytes.
    #[must_use]
    #[track_caller]
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        let nodes = self.nodes.with_prefix(prefix);
        Self { nodes, ..self }
    }

    /// How long an operation may take, with all its commands and whatever has to be connected. Without it:
    /// [`TIMEOUT_DEFAULT`](Self::TIMEOUT_DEFAULT). A [`CachedStore`](crate::CachedStore) has a limit of its own for each
    /// operation, [`with_cache_timeout`](crate::CachedStore::with_cache_timeout).
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        let nodes = self.nodes.with_timeout(timeout);
        Self { nodes, ..self }
    }

    /// How long a copy is kept at most, however often it is used. Without it:
    /// [`TIME_TO_LIVE_DEFAULT`](Self::TIME_TO_LIVE_DEFAULT). More than 30 days are 30 days.
    ///
    /// # Panics
    ///
    /// If it is less than a millisecond.
    #[must_use]
    #[track_caller]
    pub fn with_time_to_live(mut self, time_to_live: Duration) -> Self {
        assert!(
            time_to_live >= Duration::from_millis(1),
            "MemcachedCache: a copy lives for at least a millisecond"
        );
        self.time_to_live = time_to_live.min(TIME_TO_LIVE_MAX);
        self
    }

    fn slot(&self, id: &RecordId) -> Slot<'_> {
        self.nodes.slot_of("cache", id)
    }

    /// Stores a copy in place of what has that number. One that is too large, or whose time is over, leaves nothing
    /// there.
    async fn store_copy(
        &self,
        slot: &Slot<'_>,
        copy: &Copy,
        cas: u64,
    ) -> Result<Outcome, StoreError> {
        let left = copy.until.duration_since(now()).min(self.time_to_live);
        if !left.is_zero() {
            let bytes = copy.to_bytes();
            return match slot.set(&bytes, seconds(left), If::Cas(cas)).await {
                Ok(Stored::Done) => Ok(Outcome::Done),
                // Sent once more, with the same number, it is applied once.
                Ok(Stored::Refused | Stored::Unknown) => Ok(Outcome::LookAgain),
                Err(error) if error.kind() == StoreErrorKind::TooLarge => clear(slot, cas).await,
                Err(error) => Err(error),
            };
        }
        clear(slot, cas).await
    }
}

impl RecordCache for MemcachedCache {
    type Ticket = Ticket;

    async fn get(&self, id: &RecordId) -> Result<Cached<Ticket>, StoreError> {
        let slot = self.slot(id);
        let since = Instant::now();
        loop {
            let condition = match slot.item().await? {
                None => If::Absent,
                Some(Item { value, cas }) => match Present::read(&value)? {
                    Present::Ticket(token) => return Ok(miss(token, since)),
                    Present::Copy(copy) if copy.until > now() => {
                        return Ok(Cached::Hit(copy.record));
                    }
                    Present::Copy(_) => If::Cas(cas),
                },
            };
            // Another one each time: one that may have been made void must not be there again.
            let token = WriteToken::generate(&SystemRandom)
                .map_err(|error| StoreError::new(STORE, StoreErrorKind::Other, error))?;
            let ttl = seconds(self.time_to_live.min(TICKET_TTL));
            if slot.set(&ticket_bytes(token), ttl, condition).await? == Stored::Done {
                return Ok(miss(token, since));
            }
        }
    }

    async fn fill(&self, id: &RecordId, record: &Record, ticket: Ticket) -> Result<(), StoreError> {
        let slot = self.slot(id);
        let bytes = ticket_bytes(ticket.token);
        let left = self.time_to_live.saturating_sub(ticket.since.elapsed());
        let copy = Copy {
            until: now().saturating_add(left),
            record: record.clone(),
        };
        loop {
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(());
            };
            if value != bytes || self.store_copy(&slot, &copy, cas).await? == Outcome::Done {
                return Ok(());
            }
        }
    }

    async fn replace(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<(), StoreError> {
        let slot = self.slot(id);
        loop {
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(());
            };
            let outcome = match Present::read(&value) {
                Ok(Present::Copy(Copy {
                    until,
                    record: present,
                })) => {
                    if present.version == expected {
                        let record = record.clone();
                        self.store_copy(&slot, &Copy { until, record }, cas).await?
                    } else if present.version.revision >= record.version.revision {
                        Outcome::Done
                    } else {
                        clear(&slot, cas).await?
                    }
                }
                Ok(Present::Ticket(_)) | Err(_) => clear(&slot, cas).await?,
            };
            if outcome == Outcome::Done {
                return Ok(());
            }
        }
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<(), StoreError> {
        let slot = self.slot(id);
        loop {
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(());
            };
            let Ok(Present::Copy(mut copy)) = Present::read(&value) else {
                return Ok(());
            };
            if copy.record.version != expected || copy.record.expires_at >= expires_at {
                return Ok(());
            }
            copy.record.expires_at = expires_at;
            if self.store_copy(&slot, &copy, cas).await? == Outcome::Done {
                return Ok(());
            }
        }
    }

    async fn remove(&self, id: &RecordId) -> Result<(), StoreError> {
        let slot = self.slot(id);
        slot.node.clear(&slot.key, slot.deadline).await
    }

    fn time_to_live(&self) -> Duration {
        self.time_to_live
    }

    fn part_of(&self, id: &RecordId) -> usize {
        self.nodes.node_of(id)
    }
}

impl fmt::Debug for MemcachedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedCache")
            .field("nodes", &self.nodes)
            .field("time_to_live", &self.time_to_live)
            .finish()
    }
}

/// What a fill has to show: the token that must still be in the place of the copy.
#[derive(Clone, Debug)]
#[expect(unnameable_types, reason = "only the cache makes and reads it")]
pub struct Ticket {
    token: WriteToken,
    /// When it was asked for; the time of a copy runs since then.
    since: Instant,
}

/// What is under a key.
///
/// | first byte | what | then |
/// |---|---|---|
/// | 0 | a ticket | `l` and a token |
/// | 1 | a copy | until when it may be served, in milliseconds since the epoch (8 bytes, big-endian), and [`Record::to_bytes`] |
enum Present {
    Ticket(WriteToken),
    Copy(Copy),
}

struct Copy {
    until: Timestamp,
    record: Record,
}

impl Copy {
    fn to_bytes(&self) -> Vec<u8> {
        let until = self.until.as_millis().to_be_bytes();
        [&[COPY][..], &until, &self.record.to_bytes()].concat()
    }
}

impl Present {
    fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::parse(bytes).map_err(|error| StoreError::new(STORE, error.kind(), error))
    }

    fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes {
            [0, b'l', token @ ..] => {
                let token = token.try_into().map_err(|_| RecordError::Corrupt)?;
                Ok(Self::Ticket(WriteToken::from_bytes(token)))
            }
            [COPY, rest @ ..] => {
                let (until, record) = rest.split_first_chunk().ok_or(RecordError::Corrupt)?;
                Ok(Self::Copy(Copy {
                    until: Timestamp::from_millis(i64::from_be_bytes(*until)),
                    record: Record::from_bytes(record)?,
                }))
            }
            [] | [0, ..] => Err(RecordError::Corrupt),
            [_, ..] => Err(RecordError::Unsupported),
        }
    }
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Something else is there, or may be.
    LookAgain,
}

async fn clear(slot: &Slot<'_>, cas: u64) -> Result<Outcome, StoreError> {
    match slot.remove(cas).await? {
        true => Ok(Outcome::Done),
        false => Ok(Outcome::LookAgain),
    }
}

fn ticket_bytes(token: WriteToken) -> Vec<u8> {
    [&[0, b'l'][..], token.as_bytes()].concat()
}

fn miss(token: WriteToken, since: Instant) -> Cached<Ticket> {
    Cached::Miss(Some(Ticket { token, since }))
}

fn now() -> Timestamp {
    SystemClock.now().into()
}

/// As memcached counts, rounded up: the end of a copy is written in it, and 0 would mean for ever.
fn seconds(left: Duration) -> u32 {
    let seconds = left.as_millis().div_ceil(1000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

const COPY: u8 = 1;

/// What is more than that would be a point in time to memcached.
const TIME_TO_LIVE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long a ticket stands: longer than any load takes that a request waits for; and no longer than that, as a
/// client that makes up ids leaves one for each.
const TICKET_TTL: Duration = Duration::from_secs(5);
