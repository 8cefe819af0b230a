//! Tables of the tests' own in each database, and raw access to what lies in them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, MySqlPool, PgPool, Row, SqlitePool,
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;
use tower_keep::{
    Clock, Created, DeleteExpired, MySqlStore, PostgresStore, RandomSource, Record, RecordId,
    ScanSessions, SqliteStore, StoreError, SystemRandom, TableName, Timestamp, UserId,
    UserSessions, Version, WriteToken,
};
use tower_keep_servers::{Kind, Server};

use crate::support::{PATIENCE, new_table, temporary_folder};

/// Runs each promise, an `async fn(Which)`, on each database.
macro_rules! on_each_database {
    ($($promise:ident),+ $(,)?) => {$(
        mod $promise {
            use crate::sql_places::Which;

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$promise(Which::Postgres).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mysql() {
                super::$promise(Which::MySql).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$promise(Which::Sqlite).await;
            }
        }
    )+};
}
pub(crate) use on_each_database;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Postgres,
    MySql,
    Sqlite,
}

/// Everything that a store in a database does.
#[async_trait]
pub trait Sessions: UserSessions + DeleteExpired + ScanSessions {
    async fn migrate(&self) -> Result<(), StoreError>;
}

#[derive(Clone, Debug)]
pub enum AnyPool {
    Postgres(PgPool),
    MySql(MySqlPool),
    Sqlite(SqlitePool),
}

macro_rules! each {
    ($pool:expr, $it:ident => $do:expr) => {
        match $pool {
            AnyPool::Postgres($it) => $do,
            AnyPool::MySql($it) => $do,
            AnyPool::Sqlite($it) => $do,
        }
    };
}

/// A column as text, or NULL.
pub type Cell = Option<String>;

impl AnyPool {
    /// Runs statements without parameters.
    pub async fn try_run(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        each!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(drop))
    }

    #[track_caller]
    pub fn run(&self, sql: &str) -> impl Future<Output = ()> {
        async move {
            let done = self.try_run(sql).await;
            done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    /// The rows of a query, all columns as text.
    pub async fn rows(&self, query: &str) -> Vec<Vec<Cell>> {
        let sql = AssertSqlSafe(query.to_owned());
        each!(self, pool => {
            let rows = sqlx::raw_sql(sql).fetch_all(pool).await;
            let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
            let cells = |row: &_| (0..Row::len(row)).map(|n| text(row, n)).collect();
            rows.iter().map(cells).collect()
        })
    }

    /// The first column of a query.
    pub async fn column(&self, query: &str) -> Vec<String> {
        let rows = self.rows(query).await;
        let first = |row: Vec<Cell>| row.into_iter().next().flatten().unwrap_or_default();
        rows.into_iter().map(first).collect()
    }

    pub fn store(&self, table: &TableName) -> Arc<dyn Sessions> {
        let table = table.clone();
        match self.clone() {
            Self::Postgres(pool) => Arc::new(PostgresStore::new(pool).with_table(table)),
            Self::MySql(pool) => Arc::new(MySqlStore::new(pool).with_table(table)),
            Self::Sqlite(pool) => Arc::new(SqliteStore::new(pool).with_table(table)),
        }
    }

    pub fn store_with_clock(&self, table: &TableName, clock: impl Clock) -> Arc<dyn Sessions> {
        let table = table.clone();
        match self.clone() {
            Self::Postgres(pool) => {
                Arc::new(PostgresStore::new(pool).with_table(table).with_clock(clock))
            }
            Self::MySql(pool) => {
                Arc::new(MySqlStore::new(pool).with_table(table).with_clock(clock))
            }
            Self::Sqlite(pool) => {
                Arc::new(SqliteStore::new(pool).with_table(table).with_clock(clock))
            }
        }
    }
}

fn text<'r, R>(row: &'r R, column: usize) -> Cell
where
    R: Row,
    usize: sqlx::ColumnIndex<R>,
    Cell: sqlx::Decode<'r, R::Database>,
{
    row.try_get_unchecked(column).unwrap()
}

macro_rules! sessions {
    ($($store:ty),+) => {$(
        #[async_trait]
        impl Sessions for $store {
            async fn migrate(&self) -> Result<(), StoreError> {
                <$store>::migrate(self).await
            }
        }
    )+};
}
sessions!(PostgresStore, MySqlStore, SqliteStore);

/// A database, with a table of its own in it.
#[derive(Debug)]
pub struct Place {
    pub which: Which,
    pub pool: AnyPool,
    pub table: TableName,
    folder: Option<TempDir>,
}

impl Place {
    /// A database with the table.
    pub async fn new(which: Which) -> Self {
        let place = Self::empty(which).await;
        place.store().migrate().await.unwrap();
        place
    }

    /// A database without the table.
    pub async fn empty(which: Which) -> Self {
        let folder = (which == Which::Sqlite).then(temporary_folder);
        let mut place = Self {
            which,
            pool: AnyPool::Sqlite(SqlitePool::connect_lazy("sqlite::memory:").unwrap()),
            table: new_table(),
            folder,
        };
        place.pool = place.new_pool(CONNECTIONS_MAX).await;
        place
    }

    /// One more pool to the same database: another node's.
    pub async fn new_pool(&self, connections: u32) -> AnyPool {
        match self.which {
            Which::Postgres => {
                let url = Server::shared(Kind::Postgres).await.url();
                let pool = PgPoolOptions::new().max_connections(connections);
                AnyPool::Postgres(pool.connect_lazy(&url).unwrap())
            }
            Which::MySql => {
                let url = Server::shared(Kind::MariaDb).await.url();
                let pool = MySqlPoolOptions::new().max_connections(connections);
                AnyPool::MySql(pool.connect_lazy(&url).unwrap())
            }
            Which::Sqlite => {
                let folder = self.folder.as_ref().unwrap().path();
                let options = SqliteConnectOptions::new()
                    .filename(folder.join("sessions.sqlite"))
                    .create_if_missing(true)
                    .busy_timeout(PATIENCE)
                    .journal_mode(SqliteJournalMode::Wal);
                let pool = SqlitePoolOptions::new().max_connections(connections);
                AnyPool::Sqlite(pool.connect_lazy_with(options))
            }
        }
    }

    pub fn store(&self) -> Arc<dyn Sessions> {
        self.pool.store(&self.table)
    }

    pub fn store_with_clock(&self, clock: impl Clock) -> Arc<dyn Sessions> {
        self.pool.store_with_clock(&self.table, clock)
    }

    /// Bytes as this database writes them.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.which {
            Which::Postgres => format!("'\\x{hex}'::bytea"),
            Which::MySql | Which::Sqlite => format!("x'{hex}'"),
        }
    }
}

pub fn new_id() -> RecordId {
    let mut bytes = [0; RecordId::LEN];
    SystemRandom.fill(&mut bytes).unwrap();
    RecordId::from_bytes(bytes)
}

pub fn new_token() -> WriteToken {
    WriteToken::generate(&SystemRandom).unwrap()
}

/// A record that lives so long from that moment on.
pub fn record(now: Timestamp, lives: Duration, user: Option<&str>) -> Record {
    Record {
        version: Version {
            revision: 1,
            token: new_token(),
        },
        user: user.map(|user| UserId::new(user).unwrap()),
        created_at: now,
        expires_at: now.saturating_add(lives),
        absolute_deadline: now.saturating_add(lives * 2),
        payload: b"payload".to_vec().into(),
    }
}

/// The next version of a record, with other data.
pub fn next(record: &Record) -> Record {
    Record {
        version: Version {
            revision: record.version.revision + 1,
            token: new_token(),
        },
        payload: b"next".to_vec().into(),
        ..record.clone()
    }
}

pub async fn create(store: &dyn Sessions, record: &Record) -> RecordId {
    let id = new_id();
    assert_eq!(store.create(&id, record).await.unwrap(), Created::Done);
    id
}

pub fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

const CONNECTIONS_MAX: u32 = 8;
pub const HOUR: Duration = Duration::from_secs(60 * 60);
