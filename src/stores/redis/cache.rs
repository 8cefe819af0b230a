//! Copies of records in Redis, in front of another store.

use std::{fmt, time::Duration};

use redis::{
    Client, Cmd, Value, aio::ConnectionLike, cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection, sentinel::SentinelClient,
};

use super::{
    RedisStore, Topology,
    commands::Commands,
    failure::{STORE, foreign},
    keys::Prefix,
    script::{self, Script},
    unexpected,
};
use crate::{
    cache::{Cached, RecordCache},
    error::{StoreError, StoreErrorKind},
    id::{RecordId, SystemRandom, WriteToken},
    record::{Record, Version},
    stores::keyed::{TIMEOUT_MAX, version_bytes},
    timestamp::Timestamp,
};

/// Keeps copies in [Redis](https://redis.io) 7 or newer, or [Valkey](https://valkey.io): in front of a store that is
/// slower, or that is to be spared the reads. All processes share them.
///
/// Nothing is lost when Redis loses its memory, evicts keys, or is down. Cheap to clone; clones are the same cache and
/// share its connection. Options are chosen before the first clone is made.
///
/// # What it costs
///
/// A copy that is there is one `GET`. Where there is none, one script (`EVALSHA`) more leaves a ticket in its place, and
/// another one puts the copy in. A write is one script, a logout one `DEL`. Each has one key, so a cluster takes
/// them all.
///
/// # How to set the server up
///
/// Without persistence: `save ""` and `appendonly no`, against the default of Redis. A server that crashes and comes back
/// with a snapshot has copies in it that were removed since, of sessions that have ended, too, and nobody can tell.
/// With `maxmemory` and the policy `volatile-lru`, or `allkeys-lru` if nothing else is kept in it.
///
/// A user of an access control list needs `~tower-keep:cache:*` and
/// `+get +getrange +set +setrange +del +eval +evalsha +time`, with what [`RedisStore`] needs under Sentinels and in a cluster.
///
/// # When a copy may be outdated
///
/// Each process that writes to the store has to tell the cache, which [`CachedStore`](crate::CachedStore) does. What
/// it could not be told, because it could not be reached, is there for at most its
/// [time](Self::with_time_to_live).
///
/// *Replication of Redis is asynchronous.* A replica that takes over from a primary may not have heard of the last
/// logouts: what it has of these sessions is served until its time is over. The same goes for a primary that goes on
/// to answer those who have not heard that it was replaced.
///
/// # Keys
///
/// `tower-keep:cache:ID` is a copy, or a ticket to bring one, which lives for five seconds.
/// [`with_prefix`](Self::with_prefix) puts something else before the first colon. A
/// [`RedisStore`] on the same server uses other keys.
///
/// A value that is no copy, or a copy by a newer version of this crate, is an error when it is asked for. The next write
/// or logout removes it.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use tower_keep::RedisCache;
///
/// let cache = RedisCache::open("redis://127.0.0.1:6379")?
///     .with_time_to_live(Duration::from_secs(60));
/// # Ok::<(), tower_keep::StoreError>(())
/// ```
#[derive(Clone)]
pub struct RedisCache {
    commands: Commands,
    topology: Topology,
    prefix: Prefix,
    time_to_live: Duration,
}

impl RedisCache {
    /// How long an operation may take if nothing else is said: 200 milliseconds. A cache that takes longer is no help,
    /// and the store has to be asked in the time that is left.
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_millis(200);

    /// How long a copy is kept if nothing else is said: 5 minutes. That is how long a logout may be without effect that
    /// the cache could not be told; and a session that is in use is read often enough in it.
    pub const TIME_TO_LIVE_DEFAULT: Duration = Duration::from_secs(5 * 60);

    /// A cache at that address, which is written as for [`RedisStore::open`]. Does not connect.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Other`] if the address cannot be understood; its text does not repeat it.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        RedisStore::open(url).map(Self::beside)
    }

    /// A cache in one server. Does not connect.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::beside(RedisStore::new(client))
    }

    /// A cache in the primary that Sentinels watch over, as [`RedisStore::from_sentinel`]. Does not connect.
    #[must_use]
    pub fn from_sentinel(client: SentinelClient) -> Self {
        Self::beside(RedisStore::from_sentinel(client))
    }

    /// A cache in a cluster, as [`RedisStore::from_cluster`]. Does not connect.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Other`] if the settings contradict each other.
    pub fn from_cluster(nodes: ClusterClientBuilder) -> Result<Self, StoreError> {
        RedisStore::from_cluster(nodes).map(Self::beside)
    }

    /// A cache over a connection that the application has made, as [`RedisStore::from_connection`].
    #[must_use]
    pub fn from_connection(
        connection: impl ConnectionLike + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::beside(RedisStore::from_connection(connection))
    }

    /// A cache over a connection to a cluster that the application has made, with its timeouts and
    /// retries.
    #[must_use]
    pub fn from_cluster_connection(connection: ClusterConnection) -> Self {
        Self::beside(RedisStore::from_cluster_connection(connection))
    }

    /// Begins all keys with that and a colon. Without it: `tower-keep`.
    ///
    /// In a cluster, a part in braces (a hash tag) would put all copies into one slot.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Prefix::new(prefix);
        self
    }

    /// How long an operation may take, with all its attempts and whatever has to be connected. Without it:
    /// [`TIMEOUT_DEFAULT`](Self::TIMEOUT_DEFAULT). One that finds no copy has it twice. A [`CachedStore`](crate::CachedStore)
    /// has a limit of its own for each operation, [`with_cache_timeout`](crate::CachedStore::with_cache_timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.commands.timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// How long a copy is kept at most, however often it is used. Without it:
    /// [`TIME_TO_LIVE_DEFAULT`](Self::TIME_TO_LIVE_DEFAULT).
    ///
    /// # Panics
    ///
    /// If it is less than a millisecond.
    #[must_use]
    #[track_caller]
    pub fn with_time_to_live(mut self, time_to_live: Duration) -> Self {
        assert!(
            time_to_live >= Duration::from_millis(1),
            "RedisCache: a copy lives for at least a millisecond"
        );
        self.time_to_live = time_to_live;
        self
    }

    /// One that is connected in the same way as that store, with keys of its own.
    fn beside(store: RedisStore) -> Self {
        let RedisStore {
            commands,
            prefix,
            topology,
            ..
        } = store;
        let cache = Self {
            commands,
            topology,
            prefix,
            time_to_live: Self::TIME_TO_LIVE_DEFAULT,
        };
        cache.with_timeout(Self::TIMEOUT_DEFAULT)
    }

    /// A script of one key.
    async fn run(
        &self,
        script: &Script,
        id: &RecordId,
        fill: impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let key = self.prefix.copy(id);
        let reply = self.commands.run(script, |command| {
            RedisStore::fill_keys(command, &key);
            fill(command);
        });
        Ok(reply.await?.value)
    }

    /// Leaves a ticket if there is nothing.
    async fn ticket(&self, id: &RecordId) -> Result<Present, StoreError> {
        let token = WriteToken::generate(&SystemRandom)
            .map_err(|error| StoreError::new(STORE, StoreErrorKind::Other, error))?;
        let ticket = [&TICKET_START[..], token.as_bytes()].concat();
        let ttl = millis(self.time_to_live.min(TICKET_TTL));
        let reply = self.run(&script::CACHE_TICKET, id, |command| {
            command.arg(&ticket).arg(ttl);
        });
        Present::read(reply.await?)
    }
}

impl RecordCache for RedisCache {
    type Ticket = Ticket;

    async fn get(&self, id: &RecordId) -> Result<Cached<Ticket>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(self.prefix.copy(id));
        let mut present = Present::read(self.commands.send(&command).await?)?;
        if matches!(present, Present::Nothing) {
            present = self.ticket(id).await?;
        }
        match present {
            Present::Copy(record) => Ok(Cached::Hit(record)),
            Present::Ticket(ticket) => Ok(Cached::Miss(Some(ticket))),
            // There is no room for a ticket.
            Present::Nothing => Ok(Cached::Miss(None)),
        }
    }

    async fn fill(&self, id: &RecordId, record: &Record, ticket: Ticket) -> Result<(), StoreError> {
        let bytes = record.to_bytes();
        let ttl = millis(self.time_to_live);
        let reply = self.run(&script::CACHE_FILL, id, |command| {
            command.arg(&ticket.0).arg(&bytes).arg(ttl);
        });
        reply.await.map(drop)
    }

    async fn replace(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<(), StoreError> {
        let bytes = record.to_bytes();
        let expected = version_bytes(&expected);
        let reply = self.run(&script::CACHE_REPLACE, id, |command| {
            command.arg(&bytes).arg(&expected);
        });
        reply.await.map(drop)
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<(), StoreError> {
        let deadline = expires_at.as_millis().to_be_bytes();
        let expected = version_bytes(&expected);
        let reply = self.run(&script::CACHE_TOUCH, id, |command| {
            command.arg(&deadline).arg(&expected);
        });
        reply.await.map(drop)
    }

    async fn remove(&self, id: &RecordId) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(self.prefix.copy(id));
        self.commands.send(&command).await.map(drop)
    }

    fn time_to_live(&self) -> Duration {
        self.time_to_live
    }

    fn part_of(&self, id: &RecordId) -> usize {
        match self.topology {
            Topology::Single => 0,
            // Its servers have ranges of slots.
            Topology::Cluster => usize::from(self.prefix.slot_of_copy(id) >> 10),
        }
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache")
            .field("prefix", &self.prefix)
            .field("time_to_live", &self.time_to_live)
            .finish_non_exhaustive()
    }
}

/// What a fill has to show: the value that must still be in the place of the copy.
///
/// It is a 0 and an `l`, a [`WriteToken`], and when it was made by the clock of the server: the seconds, and the
/// microseconds beyond them.
#[derive(Clone, Debug)]
#[expect(unnameable_types, reason = "only the cache makes and reads it")]
pub struct Ticket(Vec<u8>);

/// What is under a key.
enum Present {
    Nothing,
    Ticket(Ticket),
    Copy(Record),
}

impl Present {
    fn read(value: Value) -> Result<Self, StoreError> {
        let bytes = match value {
            Value::Nil => return Ok(Self::Nothing),
            Value::BulkString(bytes) => bytes,
            _ => return Err(unexpected()),
        };
        if bytes.first() != Some(&0) {
            return match Record::from_bytes(bytes) {
                Ok(record) => Ok(Self::Copy(record)),
                Err(error) => Err(StoreError::new(STORE, error.kind(), error)),
            };
        }
        match bytes.starts_with(&TICKET_START) && bytes.len() == TICKET_LEN {
            true => Ok(Self::Ticket(Ticket(bytes))),
            false => Err(foreign(StoreErrorKind::Corrupt, "no copy and no ticket")),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    // Lua counts exactly up to 2^53, and the server adds what time it is.
    const MILLIS_MAX: u64 = 1 << 52;
    let millis = u64::try_from(duration.as_millis()).unwrap_or(MILLIS_MAX);
    millis.clamp(1, MILLIS_MAX)
}

/// Told from a record by its first byte, and from the notes of a store by the second.
const TICKET_START: [u8; 2] = [0, b'l'];

/// Start, token, time.
const TICKET_LEN: usize = TICKET_START.len() + WriteToken::LEN + 8;

/// How long a ticket stands: longer than any load takes that a request waits for; and no longer than that, as a
/// client that makes up ids leaves one for each.
const TICKET_TTL: Duration = Duration::from_secs(5);
