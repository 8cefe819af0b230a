//! The store that the tests of the layer run on, chosen from outside.

use std::{
    env, process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
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
    Clock, Created, Cursor, DeleteExpired, MemoryStore, MySqlStore, Page, PostgresStore, Record,
    RecordId, Rotated, ScanSessions, SessionStore, SqliteStore, StoreError, StoredSession,
    TableName, Timestamp, Updated, UserId, UserSessions, Version,
};
use tower_keep_servers::{Kind, Server};

#[cfg(unix)]
use super::temporary_folder;

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
            "memory" => (Which::Memory(MemoryStore::new()), None),
            #[cfg(unix)]
            "file" => {
                let folder = temporary_folder();
                let store = FileStore::open(folder.path()).unwrap();
                (Which::File(store), Some(Arc::new(folder)))
            }
            "sqlite" => {
                let folder = tempfile::tempdir().unwrap();
                let store = sqlite(&folder);
                (Which::Sqlite(store), Some(Arc::new(folder)))
            }
            "postgres" => (Which::Postgres(postgres(CONNECTIONS_MAX)), None),
            "mysql" => (Which::MySql(mysql(CONNECTIONS_MAX)), None),
            other => panic!("{other:?}, as in {CHOICE}, is no store"),
        };
        Self { which, folder }
    }

    /// How many live sessions there are.
    pub async fn count(&self) -> usize {
        let page = self.scan(None, 10_000).await.unwrap();
        assert_eq!(page.next, None, "more than a page");
        page.sessions.len()
    }

    pub fn with_clock(self, clock: impl Clock) -> Self {
        let which = match self.which {
            Which::Memory(store) => Which::Memory(store.with_clock(clock)),
            #[cfg(unix)]
            Which::File(store) => Which::File(store.with_clock(clock)),
            Which::Sqlite(store) => Which::Sqlite(store.with_clock(clock)),
            Which::Postgres(store) => Which::Postgres(store.with_clock(clock)),
            Which::MySql(store) => Which::MySql(store.with_clock(clock)),
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

/// A name that no other test has.
pub fn new_table() -> TableName {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    TableName::parse(&format!("sessions_{}_{count}", process::id())).unwrap()
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
    ) -> Result<u64, StoreError> {
        each!(self, store => store.delete_all_of(user, keep).await)
    }
}

#[async_trait]
impl DeleteExpired for TestStore {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        each!(self, store => store.delete_expired(limit).await)
    }
}

#[async_trait]
impl ScanSessions for TestStore {
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        each!(self, store => store.scan(after, limit).await)
    }
}

const CHOICE: &str = "TOWER_KEEP_TEST_STORE";

/// Few, because many tests share a server.
const CONNECTIONS_MAX: u32 = 8;
