//! Sessions in a table of a database.

mod capabilities;
mod contention;
mod dialect;
mod failure;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(all(feature = "postgres", feature = "memory"))]
mod near;
#[cfg(all(feature = "postgres", feature = "memory"))]
mod notifications;
#[cfg(feature = "postgres")]
mod postgres;
mod row;
mod schema;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statements;
mod table;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use sqlx::Pool;

pub(super) use self::dialect::Dialect;
pub use self::table::{TableName, TableNameError};
use self::{
    contention::past_contention,
    dialect::{Value, arguments},
    failure::{Cause, is_stale, store_error},
    row::{Unreadable, values, version_values},
    statements::{Statements, Text},
};
use crate::{
    clock::{Clock, SystemClock},
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::{Record, Version},
    store::{Created, Rotated, SessionStore, StoredSession, Updated},
    timestamp::Timestamp,
};

/// Keeps sessions in a table of PostgreSQL. See [`SqlStore`].
#[cfg(feature = "postgres")]
pub type PostgresStore = SqlStore<sqlx::Postgres>;

/// Keeps sessions in a table of MySQL or MariaDB. See [`SqlStore`].
#[cfg(feature = "mysql")]
pub type MySqlStore = SqlStore<sqlx::MySql>;

/// Keeps sessions in a table of SQLite. See [`SqlStore`].
#[cfg(feature = "sqlite")]
pub type SqliteStore = SqlStore<sqlx::Sqlite>;

/// Keeps sessions in a table of a database: [`PostgresStore`], [`MySqlStore`], [`SqliteStore`].
///
/// The application brings its own pool of [sqlx](https://docs.rs/sqlx/0.9) 0.9, and calls
/// [`migrate`](Self::migrate) when it starts, or runs [`schema`](Self::schema) among its own
/// migrations.
///
/// Cheap to clone; clones are the same store. Options are chosen before the first clone is made.
///
/// # What it costs
///
/// Every statement commits by itself, and one is all that an operation takes as a rule: there is no
/// `BEGIN`, and nothing to roll back when a request is dropped. A load is one `SELECT` by primary key. A
/// write is one `INSERT`, `UPDATE` or `DELETE`, and what changes a session compares its version in the
/// condition. Only a write that does not find what it expects takes more: a `SELECT` to tell what is there
/// instead, a `DELETE` of what has expired. So a `delete` of what is not alive is two `DELETE`s.
///
/// The exception is [`delete_all_of`](crate::UserSessions::delete_all_of) on MySQL and MariaDB, which is a
/// transaction of a `SELECT … FOR UPDATE` and a `DELETE`.
///
/// By default a pool of sqlx asks the server whether a connection is alive before it hands it out,
/// one round trip for each statement. `test_before_acquire(false)` saves it. After a restart of the
/// server a load then goes on to the next connection, and only a write may fail once for each.
///
/// # What an acknowledged write survives
///
/// What the database promises for a commit. On PostgreSQL that takes `synchronous_commit` on, on
/// MySQL `innodb_flush_log_at_trx_commit = 1`, on SQLite `synchronous = FULL`; these are the
/// defaults. A replica that lags behind must not be read from: it would serve what has been ended.
///
/// # Expired sessions
///
/// They are never served, and stay in the table until
/// [`delete_expired`](crate::DeleteExpired::delete_expired) removes them: start a
/// [`Sweeper`](crate::Sweeper). Time is the clock of the process, not of the server.
///
/// # Pools
///
/// - Give the pool an `acquire_timeout` shorter than the layer's store timeout, such as one second:
///   it also bounds the pauses between attempts to reach a server that is away.
/// - `sqlite::memory:` is a database of its own for each connection, and goes with it. Use a pool of
///   one connection with neither `idle_timeout` nor `max_lifetime`, and with
///   `test_before_acquire(false)`: a request that is dropped during that test closes the connection.
/// - For SQLite in a file, `journal_mode = WAL` lets requests read while one writes. `SQLITE_BUSY` is
///   waited out for as long as the connection's `busy_timeout` says (sqlx: 5 s), then tried again
///   within the layer's store timeout. SQLite makes a file as readable as the umask lets it; sessions
///   are private, so make an empty one with the mode 0600 first, as the example `login` does.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
/// use tower_keep::{SessionLayer, SqliteStore};
///
/// let options = SqliteConnectOptions::new()
///     .filename("sessions.sqlite")
///     .create_if_missing(true)
///     .journal_mode(SqliteJournalMode::Wal);
/// let pool = SqlitePoolOptions::new().connect_with(options).await?;
/// let store = SqliteStore::new(pool);
/// store.migrate().await?;
/// let sessions = SessionLayer::new(store.clone());
/// # Ok(())
/// # }
/// ```
///
/// ```no_run
/// # #[cfg(feature = "postgres")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use sqlx::postgres::PgPoolOptions;
/// use tower_keep::{PostgresStore, TableName};
///
/// let pool = PgPoolOptions::new()
///     .acquire_timeout(Duration::from_secs(1))
///     .connect("postgres://app@localhost/app")
///     .await?;
/// let store = PostgresStore::new(pool).with_table(TableName::parse("auth.sessions")?);
/// store.migrate().await?;
/// # Ok(())
/// # }
/// ```
pub struct SqlStore<Db: Dialect> {
    pool: Pool<Db>,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    table: TableName,
    statements: Statements,
    clock: Arc<dyn Clock>,
}

impl<Db: Dialect> SqlStore<Db> {
    /// A store in the table `tower_keep_sessions`, through that pool. Does not connect.
    #[must_use]
    pub fn new(pool: Pool<Db>) -> Self {
        let table = TableName::default();
        let shared = Shared {
            statements: Statements::new::<Db>(&table),
            table,
            clock: Arc::new(SystemClock),
        };
        Self {
            pool,
            shared: Arc::new(shared),
        }
    }

    /// Keeps the sessions in that table.
    ///
    /// Each application, and each part of one that has users of its own, needs a table of its own: in all that share
    /// one, the same ids are valid, and the same names are the same users.
    #[must_use]
    pub fn with_table(mut self, table: TableName) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        shared.statements = Statements::new::<Db>(&table);
        shared.table = table;
        self
    }

    pub(super) fn table(&self) -> &TableName {
        &self.shared.table
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        Arc::make_mut(&mut self.shared).clock = Arc::new(clock);
        self
    }

    fn statements(&self) -> &Statements {
        &self.shared.statements
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now().into()
    }

    /// Runs a write and tells how many rows it touched.
    async fn execute(&self, text: &Text, values: &[Value<'_>]) -> Result<u64, sqlx::Error> {
        let run = || async { Db::execute(&self.pool, text.sql(), arguments::<Db>(values)?).await };
        past_contention::<Db, _, _>(run).await
    }

    async fn rows(&self, text: &Text, values: &[Value<'_>]) -> Result<Vec<Db::Row>, StoreError> {
        let run =
            || async { Db::fetch_all(&self.pool, text.sql(), arguments::<Db>(values)?).await };
        let rows = past_contention::<Db, _, _>(run).await;
        rows.map_err(store_error::<Db>)
    }

    /// The record of that id, expired or not.
    async fn row(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let values = [Value::Bytes(id.as_bytes())];
        let text = &self.statements().load;
        let run =
            || async { Db::fetch_one(&self.pool, text.sql(), arguments::<Db>(&values)?).await };
        // A connection that broke while nobody used it fails at once and leaves the pool. To read again
        // does no harm.
        let mut idle = self.pool.num_idle();
        let row = loop {
            match past_contention::<Db, _, _>(run).await {
                Err(error) if idle > 0 && is_stale::<Db>(&error) => idle -= 1,
                row => break row,
            }
        };
        match row.map_err(store_error::<Db>)? {
            None => Ok(None),
            Some(row) => Ok(Some(read::<Db>(&row)?.record)),
        }
    }

    /// Removes the record of that id if it has expired, which is then not there any more for
    /// anybody's clock, and its id is free. Answers whether it did.
    async fn remove_expired(&self, id: &RecordId) -> Result<bool, StoreError> {
        let now = Value::Number(self.now().as_millis());
        let values = [Value::Bytes(id.as_bytes()), now];
        let removed = self.execute(&self.statements().delete_if_expired, &values);
        Ok(removed.await.map_err(store_error::<Db>)? > 0)
    }

    /// The sessions of rows that can be read. A damaged one is an event, and no session.
    fn sessions(rows: &[Db::Row]) -> Result<Vec<StoredSession>, StoreError> {
        let mut sessions = Vec::with_capacity(rows.len());
        for row in rows {
            match read::<Db>(row) {
                Ok(session) => sessions.push(session),
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a damaged record was left out"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sessions)
    }
}

impl<Db: Dialect> Clone for SqlStore<Db> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<Db: Dialect> fmt::Debug for SqlStore<Db> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore")
            .field("database", &Db::NAME)
            .field("table", &self.shared.table)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<Db: Dialect> SessionStore for SqlStore<Db> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let now = self.now();
        let record = self.row(id).await?;
        Ok(record.filter(|record| !record.is_expired(now)))
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        let [a, b, c, d, e, f, g] = values(record);
        let values = [Value::Bytes(id.as_bytes()), a, b, c, d, e, f, g];
        for _ in 0..ROUNDS_MAX {
            match self.execute(&self.statements().insert, &values).await {
                Ok(_) => return Ok(Created::Done),
                Err(error) if Cause::of::<Db>(&error) == Cause::Taken => {}
                Err(error) => return Err(store_error::<Db>(error)),
            }
            if !self.remove_expired(id).await? {
                break;
            }
        }
        let present = self.row(id).await?;
        // The same attempt, sent twice.
        let ours = present.is_some_and(|present| present.version == record.version);
        Ok(if ours { Created::Done } else { Created::Exists })
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let [a, b, c, d, e, f, g] = values(record);
        let [revision, token] = version_values(&expected);
        for _ in 0..ROUNDS_MAX {
            let now = self.now();
            let id_value = Value::Bytes(id.as_bytes());
            let now_value = Value::Number(now.as_millis());
            let values = [a, b, c, d, e, f, g, id_value, revision, token, now_value];
            let updated = self.execute(&self.statements().update, &values).await;
            if updated.map_err(store_error::<Db>)? > 0 {
                return Ok(Updated::Done);
            }
            match self
                .row(id)
                .await?
                .filter(|present| !present.is_expired(now))
            {
                None => return Ok(Updated::Gone),
                Some(present) if present.version == record.version => return Ok(Updated::Done),
                Some(present) if present.version != expected => {
                    return Ok(Updated::Conflict(present));
                }
                // It was not there for the first statement, and is for the second.
                Some(_) => {}
            }
        }
        Err(unsettled::<Db>())
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
        let [a, b, c, d, e, f, g] = values(record);
        let [revision, token] = version_values(&expected);
        let [old_value, new_value] = [old, new].map(|id| Value::Bytes(id.as_bytes()));
        for _ in 0..ROUNDS_MAX {
            let now = self.now();
            let now_value = Value::Number(now.as_millis());
            let values = [
                new_value, a, b, c, d, e, f, g, old_value, revision, token, now_value,
            ];
            match self.execute(&self.statements().rotate, &values).await {
                Ok(0) => {}
                Ok(_) => return Ok(Rotated::Done),
                Err(error) if Cause::of::<Db>(&error) == Cause::Taken => {
                    if self.remove_expired(new).await? {
                        continue;
                    }
                }
                Err(error) => return Err(store_error::<Db>(error)),
            }
            let values = [old_value, new_value];
            let mut live = Vec::new();
            for row in self.rows(&self.statements().load_either, &values).await? {
                live.push(read::<Db>(&row)?);
            }
            live.retain(|session| !session.record.is_expired(now));
            match live.iter().find(|session| session.id == *new) {
                Some(target) if target.record.version == record.version => {
                    return Ok(Rotated::Done);
                }
                Some(_) => return Ok(Rotated::Exists),
                None => {}
            }
            match live.into_iter().next().map(|session| session.record) {
                None => return Ok(Rotated::Gone),
                Some(present) if present.version != expected => {
                    return Ok(Rotated::Conflict(present));
                }
                Some(_) => {}
            }
        }
        Err(unsettled::<Db>())
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let [revision, token] = version_values(&expected);
        let deadline = Value::Number(expires_at.as_millis());
        let id = Value::Bytes(id.as_bytes());
        let now = Value::Number(self.now().as_millis());
        let values = [deadline, deadline, id, revision, token, now];
        let touched = self.execute(&self.statements().touch, &values).await;
        Ok(touched.map_err(store_error::<Db>)? > 0)
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let now = Value::Number(self.now().as_millis());
        let id = Value::Bytes(id.as_bytes());
        let deleted = self
            .execute(&self.statements().delete_if_live, &[id, now])
            .await;
        if deleted.map_err(store_error::<Db>)? > 0 {
            return Ok(true);
        }
        // Also what has expired by this clock, but perhaps not by that of another node.
        let deleted = self.execute(&self.statements().delete, &[id]).await;
        deleted.map_err(store_error::<Db>)?;
        Ok(false)
    }
}

fn read<Db: Dialect>(row: &Db::Row) -> Result<StoredSession, StoreError> {
    row::read::<Db>(row).map_err(|unreadable| match unreadable {
        Unreadable::Damaged(column) => {
            let problem = format!("the column `{column}` is not as it was written");
            StoreError::new(Db::STORE, StoreErrorKind::Corrupt, problem)
        }
        Unreadable::Driver(error) => store_error::<Db>(error),
    })
}

fn unsettled<Db: Dialect>() -> StoreError {
    let problem = "the record came and went between the statements of one operation";
    StoreError::new(Db::STORE, StoreErrorKind::Unavailable, problem)
}

/// The version of the tables that this crate makes and uses.
const SCHEMA_VERSION: i64 = 1;

/// How often an operation starts anew because its statements saw different states.
const ROUNDS_MAX: u32 = 4;
