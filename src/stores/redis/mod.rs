//! Sessions in Redis.

mod address;
mod argument;
mod cache;
mod capabilities;
mod commands;
mod connection;
mod ending;
mod failure;
mod index;
mod keys;
mod link;
#[cfg(feature = "memory")]
mod near;
mod reading;
mod rotation;
mod scan;
mod script;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{
    Client, Cmd, ToRedisArgs, Value, aio::ConnectionLike, cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection, sentinel::SentinelClient,
};
use tokio::sync::Mutex;

pub use self::cache::RedisCache;
use self::{
    address::Address,
    argument::WholeRecord,
    commands::{Commands, Reply},
    connection::Connection,
    ending::Ended,
    failure::{STORE, foreign, store_error},
    keys::Prefix,
    link::{Link, Origin},
    reading::read,
};
use super::keyed::{self, CLOCK_SLACK, Keys, NOTE_TTL, RecordStart, TIMEOUT_MAX, version_bytes};
use crate::{
    clock::{Clock, SystemClock},
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::{Record, Version},
    store::{Created, Rotated, SessionStore, Updated},
    timestamp::Timestamp,
};

/// Keeps sessions in [Redis](https://redis.io) 7 or newer, or [Valkey](https://valkey.io): in one server, in a primary that
/// Sentinels watch over, or in a cluster.
///
/// Cheap to clone; clones are the same store and share its connection. Options are chosen before the
/// first clone is made.
///
/// # What it costs
///
/// A load is one `GET`. A write is one script (`EVALSHA`) that compares the version inside the
/// server; a script that a server does not know, after a restart or `SCRIPT FLUSH`, is sent once as
/// text. Commands of all callers share one connection, in one turn where they come together. In a
/// cluster, where no script can span two slots, a new session of a user takes two commands, a rotation
/// four, and a login, which is a rotation with a user, six.
///
/// # Connections
///
/// Nothing is connected before the first use. When the connection is lost it is made anew in the
/// background, from a Sentinel if there is one; callers wait for it as long as their
/// [time](Self::with_timeout) lasts, and no longer. When a connection is silent for half a second,
/// another is made beside, in case the host has gone without a word. What a server refuses for
/// the moment (`LOADING`, `READONLY`, `CLUSTERDOWN`, `MOVED` …) is sent again within that time.
///
/// A write whose connection broke may have been carried out, so it is sent again with the same write
/// token, by which it is applied once.
///
/// # What an acknowledged write survives
///
/// What the server is set to: with `appendonly yes` and `appendfsync always` a crash, with `everysec`
/// all but the last second. With snapshots alone (`save`, the default of Redis) a crash takes it back to the last
/// one: what was written since is lost, and *what was ended since lives again*. Without persistence nothing
/// survives.
///
/// *Replication of Redis is asynchronous.* When a primary fails, a replica takes over without the
/// writes that had not reached it: a change may be lost, and a session that was logged out in this last
/// moment may live again. In a cluster, one whose id was changed in it may be lost, as its two keys are on two
/// servers. `min-replicas-to-write` makes this window smaller and does not close it.
/// Who must rule it out keeps sessions in a database.
///
/// Replicas are not read from. A primary that is replaced while it lives goes on to answer until it is told; then it is
/// left within about a second, and in a cluster with the first command that it redirects. Until then its
/// reads are from the past.
///
/// *Eviction is a logout.* When its memory is full, a server with a `maxmemory-policy` other than
/// `noeviction` drops sessions; and it may drop the index of a user, whose sessions are then not found
/// by [`delete_all_of`](crate::UserSessions::delete_all_of) any more, and live on. With `noeviction` it
/// refuses writes: changes are answered with an error, reads and logouts go on.
///
/// # Expired sessions
///
/// Every key has a time to live, so nothing has to be swept. Whether a record has expired is told by
/// the clock of the process; the server lets go of it five minutes later.
///
/// # What the server has to allow
///
/// A user of an [ACL](https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/) needs the keys that
/// begin with the prefix (`~tower-keep:*`) and
///
/// ```text
/// +get +getrange +set +setrange +del +pttl +pexpire +eval +evalsha +scan +info
/// +zadd +zcard +zrange +zrem +zremrangebyscore
/// ```
///
/// Under Sentinels also `+role`, by which a primary that was replaced while it lives is noticed; in a cluster
/// `+cluster|slots`, and `+asking` while slots are moved. A [near cache](Self::near_cache) needs more.
///
/// # Keys
///
/// | key | what |
/// |---|---|
/// | `tower-keep:session:ID` | a session. For a minute after a rotation a note where it went, after a logout that it has ended |
/// | `tower-keep:user:USER` | a sorted set: the sessions of a user, by absolute deadline |
///
/// [`with_prefix`](Self::with_prefix) puts something else before the first colon.
///
/// # Examples
///
/// ```no_run
/// use tower_keep::{RedisStore, SessionLayer};
///
/// let store = RedisStore::open("redis://127.0.0.1:6379")?;
/// let sessions = SessionLayer::new(store);
/// # Ok::<(), tower_keep::StoreError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    commands: Commands,
    topology: Topology,
    prefix: Prefix,
    clock: Arc<dyn Clock>,
}

/// Whether one script may use several keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    Single,
    Cluster,
}

impl RedisStore {
    /// A store at that address. Does not connect.
    ///
    /// | address | what |
    /// |---|---|
    /// | `redis://USER:PASSWORD@HOST:PORT/DATABASE` | one server |
    /// | `redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DATABASE` | Sentinels, and the name of the primary they watch |
    /// | `redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT` | some nodes of a cluster |
    /// | `rediss://`, `rediss+sentinel://`, `rediss+cluster://` | the same over TLS |
    /// | `unix:///PATH` | one server, through a socket |
    ///
    /// User, password, database and, but for Sentinels (26379), port may be left out (6379); what is not a letter, a
    /// digit or one of `-_.~` is percent-encoded in them. A socket takes them as `unix:///PATH?db=3&user=app&pass=…`.
    /// `valkey` may stand for `redis`. User and password are those of the primary and the
    /// nodes: for Sentinels that ask for a password of their own, see [`from_sentinel`](Self::from_sentinel).
    ///
    /// TLS takes a feature of the crate `redis` 1.8, such as `tokio-native-tls-comp`, or `tokio-rustls-comp` and a
    /// crypto provider that the application installs:
    ///
    /// ```toml
    /// redis = { version = "1.8", features = ["tokio-native-tls-comp"] }
    /// ```
    ///
    /// What follows a `#` in [`stores::open`](crate::stores::open) is the prefix; here it is refused.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Other`] if the address cannot be understood; its text does not repeat it.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        match Address::parse(url)? {
            Address::Server(client) => Ok(Self::new(client)),
            Address::Sentinel(client) => Ok(Self::from_sentinel(client)),
            Address::Cluster(nodes) => Self::from_cluster(nodes),
        }
    }

    /// A store in one server. Does not connect.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::with_link(Link::new(Origin::Server(client)), Topology::Single)
    }

    /// A store in the primary that Sentinels watch over, of a client for the primary
    /// ([`SentinelServerType::Master`](redis::sentinel::SentinelServerType::Master)). Does not connect.
    ///
    /// # Examples
    ///
    /// Sentinels that ask for a password:
    ///
    /// ```
    /// use redis::{ConnectionAddr, sentinel::{SentinelClientBuilder, SentinelServerType}};
    /// use tower_keep::RedisStore;
    ///
    /// # fn open(password: &str, password_of_sentinels: &str) -> Result<RedisStore, redis::RedisError> {
    /// let sentinels = ["sentinel-a", "sentinel-b", "sentinel-c"];
    /// let sentinels = sentinels.map(|host| ConnectionAddr::Tcp(host.to_owned(), 26379));
    /// let client = SentinelClientBuilder::new(sentinels, "sessions", SentinelServerType::Master)?
    ///     .set_client_to_sentinel_password(password_of_sentinels)
    ///     .set_client_to_redis_password(password)
    ///     .build()?;
    /// let store = RedisStore::from_sentinel(client);
    /// # Ok(store)
    /// # }
    /// # open("a", "b").unwrap();
    /// ```
    #[must_use]
    pub fn from_sentinel(client: SentinelClient) -> Self {
        let origin = Origin::Sentinel(Box::new(Mutex::new(client)));
        Self::with_link(Link::new(origin), Topology::Single)
    }

    /// A store in a cluster. Does not connect. The timeouts and retries of the client are set by
    /// the store.
    ///
    /// Leave out whatever makes the client read from replicas (`read_from_replicas`, `read_routing_strategy`): one may not
    /// know yet that a session was changed, or has ended.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Other`] if the settings contradict each other.
    pub fn from_cluster(nodes: ClusterClientBuilder) -> Result<Self, StoreError> {
        // The store sends again by itself, knowing what may have been carried out.
        let client = nodes
            .retries(0)
            .connection_timeout(NODE_CONNECT_TIMEOUT)
            .response_timeout(NODE_TIMEOUT)
            .overall_response_timeout(None)
            .build();
        let origin = Origin::Cluster(Box::new(client.map_err(store_error)?));
        Ok(Self::with_link(Link::new(origin), Topology::Cluster))
    }

    /// A store over a connection that the application has made, to one server or to the primary, such as
    /// [`MultiplexedConnection`](redis::aio::MultiplexedConnection). Whether and when it reconnects
    /// is the matter of that connection. One to a cluster goes to
    /// [`from_cluster_connection`](Self::from_cluster_connection).
    #[must_use]
    pub fn from_connection(
        connection: impl ConnectionLike + Clone + Send + Sync + 'static,
    ) -> Self {
        let connection = Connection::Given(Arc::new(connection));
        Self::with_link(Link::given(connection), Topology::Single)
    }

    /// A store over a connection to a cluster that the application has made, with its timeouts and
    /// retries.
    ///
    /// Build it with `retries(0)`, as the store sends again by itself: a change that the driver sends again, unknown to
    /// the store, may be made twice. As for [`from_cluster`](Self::from_cluster), it must not read from replicas.
    #[must_use]
    pub fn from_cluster_connection(connection: ClusterConnection) -> Self {
        let connection = Connection::Cluster(connection);
        Self::with_link(Link::given(connection), Topology::Cluster)
    }

    /// Begins all keys with that and a colon. Without it: `tower-keep`.
    ///
    /// Each application, and each part of one that has users of its own, needs a prefix of its own: in all that share
    /// one, the same ids are valid, and the same names are the same users.
    ///
    /// In a cluster, a part in braces (a hash tag) would put all sessions into one slot.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Prefix::new(prefix);
        self
    }

    /// How long a command may take, with all its attempts and whatever has to be connected. Without it:
    /// 1.8 seconds, a little less than the layer gives an operation by default; more than 365 days are 365 days. Zero fails
    /// each operation.
    ///
    /// An operation has that time, with a few exceptions that have it for each of several commands: those that list or
    /// end the sessions of a user, that scan, that meet a rotation that was interrupted, and, in a cluster, the one that
    /// makes a session of a user. In a request the layer's own limit bounds these too.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.commands.timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    fn with_link(link: Arc<Link>, topology: Topology) -> Self {
        let commands = Commands {
            link,
            timeout: TIMEOUT,
        };
        Self {
            commands,
            topology,
            prefix: Prefix::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Gives a script its keys.
    fn fill_keys(command: &mut Cmd, keys: impl ToRedisArgs) {
        command.arg(keys.num_of_args()).arg(keys);
    }

    /// Gives a script what it has to write, the time, and how long the key shall live.
    fn fill_write(command: &mut Cmd, value: impl ToRedisArgs, now: Timestamp, ttl: i64) {
        command
            .arg(value)
            .arg(&now.as_millis().to_be_bytes())
            .arg(ttl);
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("topology", &self.topology)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let kept = self.get(id).await?;
        keyed::settled(self, id, kept).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        let now = self.now();
        let key = self.prefix.session(id);
        let index = match self.topology {
            Topology::Single => self.index(record),
            Topology::Cluster => None,
        };
        let value = WholeRecord::of(record);
        let reply = self.commands.run(&script::CREATE, |command| {
            match &index {
                Some(index) => Self::fill_keys(command, (&key, &index.key)),
                None => Self::fill_keys(command, &key),
            }
            Self::fill_write(command, &value, now, ttl(record.expires_at, now));
            if let Some(index) = &index {
                index.fill(command, id);
            }
        });
        match reply.await?.value {
            Value::Int(0) => return Ok(Created::Exists),
            Value::Int(done) => self.tidy_if_due(record, done - 1),
            _ => return Err(unexpected()),
        }
        if self.topology == Topology::Cluster {
            // Only now: an entry without a session would be tidied away.
            self.note(id, record).await?;
        }
        Ok(Created::Done)
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let key = self.prefix.session(id);
        let value = WholeRecord::of(record);
        let start = RecordStart::of(&value.header, &expected);
        loop {
            let now = self.now();
            // What is stored and has the deadline of an expired record is dead; and what has its version is this very
            // write. Neither is to be written over, so the script must look closer.
            let is_usual = !record.is_expired(now) && record.version != expected;
            let expected_start = start.as_bytes(is_usual);
            let reply = self.commands.run(&script::UPDATE, |command| {
                Self::fill_keys(command, &key);
                Self::fill_write(command, &value, now, ttl(record.expires_at, now));
                command.arg(expected_start);
            });
            let Reply { value, doubt } = reply.await?;
            let kept = match value {
                Value::Int(0) => return Ok(Updated::Gone),
                Value::Int(_) => return Ok(Updated::Done),
                value => read(value)?,
            };
            match keyed::settled(self, id, kept).await? {
                None => return Ok(Updated::Gone),
                // It has just become what it was expected to be.
                Some(present) if present.version == expected => {}
                Some(present) => {
                    return match doubt {
                        // Somebody has written since, perhaps over the first one.
                        Some(error) => Err(store_error(error)),
                        None => Ok(Updated::Conflict(present)),
                    };
                }
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
        match self.topology {
            Topology::Single => self.rotate_at_once(old, new, record, expected).await,
            Topology::Cluster => self.rotate_in_steps(old, new, record, expected).await,
        }
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let key = self.prefix.session(id);
        loop {
            let now = self.now();
            let reply = self.commands.run(&script::TOUCH, |command| {
                Self::fill_keys(command, &key);
                let deadline = expires_at.as_millis().to_be_bytes();
                Self::fill_write(command, &deadline, now, ttl(expires_at, now));
                command.arg(&version_bytes(&expected));
            });
            match reply.await?.value {
                Value::Int(touched @ 0..) => return Ok(touched != 0),
                Value::Int(_) => {
                    let kept = self.get(id).await?;
                    if keyed::settled(self, id, kept).await?.is_none() {
                        return Ok(false);
                    }
                }
                _ => return Err(unexpected()),
            }
        }
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        Ok(matches!(self.end(id, None).await?, Ended::Live))
    }
}

fn unexpected() -> StoreError {
    foreign(
        StoreErrorKind::Other,
        "a reply of another type than expected",
    )
}

/// How many milliseconds from now a key shall live that is needed until that deadline. What has expired is told
/// by the record itself; the key outlives it, for nodes whose clocks are behind.
fn ttl(deadline: Timestamp, now: Timestamp) -> i64 {
    // Lua counts exactly up to 2^53.
    const TTL_MAX: i64 = 1 << 52;
    let deadline = deadline.saturating_add(CLOCK_SLACK);
    let left = deadline.as_millis().saturating_sub(now.as_millis());
    left.clamp(1, TTL_MAX)
}

/// How long an operation may take: less than the 2 seconds of the layer, so that it is the store that tells why.
const TIMEOUT: Duration = Duration::from_millis(1800);

/// How long one node of a cluster may be silent before a command is sent again.
const NODE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection to one node of a cluster may take. Some of them may hang.
const NODE_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

#[expect(clippy::cast_possible_truncation, reason = "a minute")]
const NOTE_TTL_MILLIS: i64 = NOTE_TTL.as_millis() as i64;
