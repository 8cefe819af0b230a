//! The store that the tests of the layer run on, chosen from outside.

use std::{
    collections::BTreeMap,
    env, process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;
use tokio::runtime::Builder;
#[cfg(unix)]
use tower_keep::FileStore;
use tower_keep::{
    CachedStore, Clock, Created, Cursor, DeleteExpired, MemcachedCache, MemcachedStore,
    MemoryCache, MemoryStore, MySqlStore, Page, PostgresStore, Record, RecordCache, RecordId,
    RedisCache, RedisStore, Rotated, ScanSessions, SessionStore, SqliteStore, StoreError,
    StoredSession, TableName, Timestamp, Updated, UserId, UserSessions, Version,
};
use tower_keep_servers::{Cluster, Kind, Sentinels, Server};

use super::{layer::patient, listed::Listed, patience::PATIENCE, temporary_folder};

/// An empty store of the kind that `TOWER_KEEP_TEST_STORE` names: `memory` if nothing is said.
///
/// What the layer promises it promises on every store. So its tests do not say which one they run
/// on, and `./tests/run` runs them once for each.
#[derive(Clone, Debug)]
pub struct TestStore {
    which: Which,
    /// Where it keeps its files, if it has any; removed with the last clone.
    folder: Option<Arc<TempDir>>,
}

#[derive(Clone, Debug)]
enum Which {
    Memory(MemoryStore),
    #[cfg(unix)]
    File(FileStore),
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
    MySql(MySqlStore),
    Redis(RedisStore),
    Memcached(Listed<MemcachedStore>),
    CachedNear(CachedStore<MemoryCache, PostgresStore>),
    CachedFar(CachedStore<RedisCache, PostgresStore>),
    CachedApart(CachedStore<MemcachedCache, SqliteStore>),
}

/// Does the same with whatever store it is.
macro_rules! each {
    ($self:expr, $store:ident => $do:expr) => {
        match &$self.which {
            Which::Memory($store) => $do,
            #[cfg(unix)]
            Which::File($store) => $do,
            Which::Sqlite($store) => $do,
            Which::Postgres($store) => $do,
            Which::MySql($store) => $do,
            Which::Redis($store) => $do,
            Which::Memcached($store) => $do,
            Which::CachedNear($store) => $do,
            Which::CachedFar($store) => $do,
            Which::CachedApart($store) => $do,
        }
    };
}

impl TestStore {
    /// # Panics
    ///
    /// If the variable names no store.
    pub fn new() -> Self {
        Self::named(&env::var(CHOICE).unwrap_or("memory".to_owned()))
    }

    /// # Panics
    ///
    /// If it names no store.
    pub fn named(name: &str) -> Self {
        let (which, folder) = match name {
            // What was ended; the sessions are in cookies.
            "memory" | "cookie-signed" | "cookie-encrypted" => {
                (Which::Memory(MemoryStore::new()), None)
            }
            #[cfg(unix)]
            "file" => {
                let folder = temporary_folder();
                let store = FileStore::open(folder.path()).unwrap();
                (Which::File(store), Some(Arc::new(folder)))
            }
            "sqlite" => {
                let folder = temporary_folder();
                let store = sqlite(&folder);
                (Which::Sqlite(store), Some(Arc::new(folder)))
            }
            "postgres" => (Which::Postgres(postgres(CONNECTIONS_MAX)), None),
            "mysql" => (Which::MySql(mysql(CONNECTIONS_MAX)), None),
            "redis" => (Which::Redis(redis()), None),
            "redis-sentinel" => (Which::Redis(redis_sentinel()), None),
            "memcached" => (Which::Memcached(Listed::new(memcached())), None),
            "redis-cluster" => (Which::Redis(redis_cluster()), None),
            "cached-memory" => (
                Which::CachedNear(cached_near(postgres(CONNECTIONS_MAX))),
                None,
            ),
            "cached-redis" => (
                Which::CachedFar(cached_far(redis_cache(), postgres(CONNECTIONS_MAX))),
                None,
            ),
            "cached-memcached" => {
                let folder = temporary_folder();
                let store = cached_far(memcached_cache(), sqlite(&folder));
                (Which::CachedApart(store), Some(Arc::new(folder)))
            }
            other => panic!("{other:?}, as in {CHOICE}, is no store"),
        };
        Self { which, folder }
    }

    /// Whether it never waits for anything.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.which, Which::Memory(_))
    }

    /// How many live sessions there are.
    pub async fn count(&self) -> usize {
        self.scan(None, 10_000).await.unwrap().sessions.len()
    }

    pub fn with_clock(self, clock: impl Clock) -> Self {
        let which = match self.which {
            Which::Memory(store) => Which::Memory(store.with_clock(clock)),
            #[cfg(unix)]
            Which::File(store) => Which::File(store.with_clock(clock)),
            Which::Sqlite(store) => Which::Sqlite(store.with_clock(clock)),
            Which::Postgres(store) => Which::Postgres(store.with_clock(clock)),
            Which::MySql(store) => Which::MySql(store.with_clock(clock)),
            Which::Redis(store) => Which::Redis(store.with_clock(clock)),
            Which::Memcached(listed) => {
                Which::Memcached(Listed::new(listed.store.with_clock(clock)))
            }
            Which::CachedNear(cached) => {
                let clock = Arc::new(clock);
                let store = cached.store().clone().with_clock(Arc::clone(&clock));
                Which::CachedNear(cached_near(store).with_clock(clock))
            }
            Which::CachedFar(cached) => {
                let clock = Arc::new(clock);
                let store = cached.store().clone().with_clock(Arc::clone(&clock));
                Which::CachedFar(cached_far(redis_cache(), store).with_clock(clock))
            }
            Which::CachedApart(cached) => {
                let clock = Arc::new(clock);
                let store = cached.store().clone().with_clock(Arc::clone(&clock));
                Which::CachedApart(cached_far(memcached_cache(), store).with_clock(clock))
            }
        };
        Self { which, ..self }
    }
}

/// For tests of what a store in memory does when it is full.
impl From<MemoryStore> for TestStore {
    fn from(store: MemoryStore) -> Self {
        Self {
            which: Which::Memory(store),
            folder: None,
        }
    }
}

/// A store in a file in that folder.
pub fn sqlite(folder: &TempDir) -> SqliteStore {
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("sessions.sqlite"))
        .create_if_missing(true)
        .busy_timeout(PATIENCE)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePoolOptions::new();
    let make = async || {
        let pool = pool.clone().connect_with(options.clone()).await.unwrap();
        SqliteStore::new(pool.clone()).migrate().await.unwrap();
        pool.close().await;
    };
    meanwhile(make);
    SqliteStore::new(pool.connect_lazy_with(options))
}

/// A store in a table of its own, on the server that the tests share.
pub fn postgres(connections: u32) -> PostgresStore {
    let table = new_table();
    let pool = PgPoolOptions::new().max_connections(connections);
    let make = async || {
        let url = Server::shared(Kind::Postgres).await.url();
        let pool = pool.clone().connect(&url).await.unwrap();
        let store = PostgresStore::new(pool.clone()).with_table(table.clone());
        store.migrate().await.unwrap();
        pool.close().await;
        url
    };
    let url = meanwhile(make);
    PostgresStore::new(pool.connect_lazy(&url).unwrap()).with_table(table)
}

/// The same on MariaDB.
pub fn mysql(connections: u32) -> MySqlStore {
    let table = new_table();
    let pool = MySqlPoolOptions::new().max_connections(connections);
    let make = async || {
        let url = Server::shared(Kind::MariaDb).await.url();
        let pool = pool.clone().connect(&url).await.unwrap();
        let store = MySqlStore::new(pool.clone()).with_table(table.clone());
        store.migrate().await.unwrap();
        pool.close().await;
        url
    };
    let url = meanwhile(make);
    MySqlStore::new(pool.connect_lazy(&url).unwrap()).with_table(table)
}

/// A store in that table of a server, which waits so long for a connection. Does not connect.
pub fn postgres_at(url: &str, table: &TableName, limit: Duration) -> PostgresStore {
    let pool = PgPoolOptions::new().acquire_timeout(limit);
    PostgresStore::new(pool.connect_lazy(url).unwrap()).with_table(table.clone())
}

/// A store in a database of its own, on the server that the tests share.
pub fn redis() -> RedisStore {
    let number = new_number();
    let url = meanwhile(async || Server::shared(Kind::Redis).await.url());
    let database = number % REDIS_DATABASES;
    let store = RedisStore::open(&format!("{url}/{database}")).unwrap();
    let store = patient(store, RedisStore::with_timeout);
    store.with_prefix(format!("test{number}"))
}

/// The same in the primary that Sentinels watch over.
pub fn redis_sentinel() -> RedisStore {
    let url = meanwhile(async || Sentinels::shared().await.url());
    let store = patient(RedisStore::open(&url).unwrap(), RedisStore::with_timeout);
    store.with_prefix(format!("test{}", new_number()))
}

/// The same in a cluster.
pub fn redis_cluster() -> RedisStore {
    let url = meanwhile(async || Cluster::shared().await.url());
    let store = patient(RedisStore::open(&url).unwrap(), RedisStore::with_timeout);
    store.with_prefix(format!("test{}", new_number()))
}

/// A store over two nodes that the tests share.
pub fn memcached() -> MemcachedStore {
    let store = MemcachedStore::open(&memcached_url()).unwrap();
    let store = patient(store, MemcachedStore::with_timeout);
    store.with_prefix(format!("test{}", new_number()))
}

/// A cache over the same.
pub fn memcached_cache() -> MemcachedCache {
    let cache = MemcachedCache::open(&memcached_url()).unwrap();
    let cache = patient(cache, MemcachedCache::with_timeout);
    cache.with_prefix(format!("test{}", new_number()))
}

/// The two nodes.
pub fn memcached_url() -> String {
    static NODES: OnceLock<[Server; 2]> = OnceLock::new();
    let nodes = NODES.get_or_init(|| {
        meanwhile(async || {
            let start = || Server::start_with(Kind::Memcached, &["-I", "8m"]);
            [start().await, start().await]
        })
    });
    let [one, other] = nodes.each_ref().map(Server::port);
    format!("memcached://127.0.0.1:{one},127.0.0.1:{other}")
}

/// A cache on the Redis that the tests share.
pub fn redis_cache() -> RedisCache {
    let number = new_number();
    let url = meanwhile(async || Server::shared(Kind::Redis).await.url());
    let database = number % REDIS_DATABASES;
    let cache = RedisCache::open(&format!("{url}/{database}")).unwrap();
    let cache = patient(cache, RedisCache::with_timeout);
    cache.with_prefix(format!("test{number}"))
}

fn cached_near(store: PostgresStore) -> CachedStore<MemoryCache, PostgresStore> {
    CachedStore::new(MemoryCache::of_sole_process(), store)
}

/// Behind a shared cache.
fn cached_far<C: RecordCache, S>(cache: C, store: S) -> CachedStore<C, S> {
    // The tests do more at once than a machine likes.
    patient(
        CachedStore::new(cache, store),
        CachedStore::with_cache_timeout,
    )
}

/// A name that no other test has.
pub fn new_table() -> TableName {
    // None begins with the name of another.
    let name = format!("sessions_{}_{:06}", process::id(), new_number());
    TableName::parse(&name).unwrap()
}

/// A number that no other test of this process has.
fn new_number() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// Awaits in a runtime of its own, for callers that do not await and may have their clock stopped.
fn meanwhile<T: Send>(make: impl AsyncFnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let done = scope.spawn(move || runtime.block_on(make()));
        done.join().unwrap()
    })
}

#[async_trait]
impl SessionStore for TestStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        each!(self, store => store.load(id).await)
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        each!(self, store => store.create(id, record).await)
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        each!(self, store => store.update(id, record, expected).await)
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        each!(self, store => store.rotate(old, new, record, expected).await)
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        each!(self, store => store.touch(id, expires_at, expected).await)
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        each!(self, store => store.delete(id).await)
    }
}

#[async_trait]
impl UserSessions for TestStore {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        each!(self, store => store.sessions_of(user).await)
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        each!(self, store => store.delete_all_of(user, keep).await)
    }
}

#[async_trait]
impl DeleteExpired for TestStore {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        match &self.which {
            Which::Memory(store) => store.delete_expired(limit).await,
            #[cfg(unix)]
            Which::File(store) => store.delete_expired(limit).await,
            Which::Sqlite(store) => store.delete_expired(limit).await,
            Which::Postgres(store) => store.delete_expired(limit).await,
            Which::MySql(store) => store.delete_expired(limit).await,
            Which::CachedNear(store) => store.delete_expired(limit).await,
            Which::CachedFar(store) => store.delete_expired(limit).await,
            Which::CachedApart(store) => store.delete_expired(limit).await,
            // The server lets go of what has expired.
            Which::Redis(_) | Which::Memcached(_) => Ok(0),
        }
    }
}

#[async_trait]
impl ScanSessions for TestStore {
    /// So many pages as one that it is full.
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let mut all = BTreeMap::new();
        let mut next = after.cloned();
        loop {
            let page = each!(self, store => store.scan(next.as_ref(), limit).await?);
            all.extend(
                page.sessions
                    .into_iter()
                    .map(|session| (session.id, session)),
            );
            next = page.next;
            if next.is_none() || all.len() >= limit {
                let sessions = all.into_values().collect();
                return Ok(Page { sessions, next });
            }
        }
    }
}

pub(super) const CHOICE: &str = "TOWER_KEEP_TEST_STORE";

/// As many as the server of the tests has.
const REDIS_DATABASES: usize = 4096;

/// Few, because many tests share a server.
const CONNECTIONS_MAX: u32 = 8;
