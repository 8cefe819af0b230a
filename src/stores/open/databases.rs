//! Databases, each through a pool that is made for it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::pool::PoolOptions;

use super::{OpenStore, Tables, named};
use crate::{
    error::{StoreError, StoreErrorKind},
    stores::{SqlStore, TableName, sql::Dialect},
};

#[async_trait]
impl<Db: Dialect> Tables for SqlStore<Db> {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.migrate().await
    }

    fn schema(&self) -> String {
        Self::schema(self.table())
    }
}

#[cfg(feature = "postgres")]
pub(super) fn postgres(url: &str) -> Result<OpenStore, StoreError> {
    let (url, table) = with_table::<sqlx::Postgres>(url)?;
    let options = parse::<sqlx::Postgres>(url)?;
    let pool = pool::<sqlx::Postgres>().connect_lazy_with(options);
    Ok(in_tables(SqlStore::new(pool).with_table(table)))
}

#[cfg(feature = "mysql")]
pub(super) fn mysql(url: &str) -> Result<OpenStore, StoreError> {
    let (url, table) = with_table::<sqlx::MySql>(url)?;
    let options = parse::<sqlx::MySql>(url)?;
    if options.get_database().is_none_or(str::is_empty) {
        let missing = "the address names no database: mysql://HOST/DATABASE";
        return Err(super::problem("mysql", missing));
    }
    let pool = pool::<sqlx::MySql>().connect_lazy_with(options);
    Ok(in_tables(SqlStore::new(pool).with_table(table)))
}

#[cfg(feature = "sqlite")]
pub(super) fn sqlite(url: &str) -> Result<OpenStore, StoreError> {
    let (url, table) = with_table::<sqlx::Sqlite>(url)?;
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if matches!(path, "" | "//") {
        return Err(super::problem(
            "sqlite",
            "the address names no file: sqlite:FILE",
        ));
    }
    let options = parse::<sqlx::Sqlite>(url)?;
    let pool = pool::<sqlx::Sqlite>();
    let file = options.get_filename();
    let journal = sqlx::sqlite::SqliteJournalMode::Wal;
    let pool = match (path, query) {
        (":memory:" | "//:memory:", "") => {
            // It is one connection's own, and goes with it.
            let one = pool.max_connections(1).test_before_acquire(false);
            let one = one.idle_timeout(None).max_lifetime(None);
            one.connect_lazy_with(options)
        }
        // What SQLite would not take for the name of a file.
        _ if file == ":memory:" || file.to_string_lossy().starts_with("file:") => {
            let problem = "the address names no file: sqlite:FILE, or sqlite::memory:";
            return Err(super::problem("sqlite", problem));
        }
        (_, "" | "mode=rwc") => {
            make_private(file)?;
            pool.connect_lazy_with(options.journal_mode(journal))
        }
        (_, "mode=rw") => pool.connect_lazy_with(options.journal_mode(journal)),
        (_, "mode=ro") => pool.connect_lazy_with(options),
        _ => {
            let problem = "nothing but ?mode=rwc, ?mode=rw or ?mode=ro may follow the file";
            return Err(super::problem("sqlite", problem));
        }
    };
    Ok(in_tables(SqlStore::new(pool).with_table(table)))
}

/// Makes the file if it is missing: SQLite would make it as readable as the umask lets it.
#[cfg(feature = "sqlite")]
fn make_private(file: &std::path::Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(StoreError::new(
            "sqlite",
            StoreErrorKind::Unavailable,
            error,
        )),
        _ => Ok(()),
    }
}

fn in_tables<Db: Dialect>(store: SqlStore<Db>) -> OpenStore {
    let mut opened = OpenStore::complete(Db::STORE, store.clone());
    opened.tables = Some(Arc::new(store));
    opened
}

/// An address, and the table that is named behind its `#`.
fn with_table<Db: Dialect>(url: &str) -> Result<(&str, TableName), StoreError> {
    let (url, name) = named(Db::STORE, url)?;
    let table = name.map_or_else(|| Ok(TableName::default()), TableName::parse);
    let table = table.map_err(|error| {
        let problem = format!("{error}; in a password, # is written %23");
        StoreError::new(Db::STORE, StoreErrorKind::Other, problem)
    })?;
    Ok((url, table))
}

fn parse<Db: Dialect>(
    url: &str,
) -> Result<<Db::Connection as sqlx::Connection>::Options, StoreError> {
    let options = url.parse();
    options.map_err(|error: sqlx::Error| StoreError::new(Db::STORE, StoreErrorKind::Other, error))
}

fn pool<Db: Dialect>() -> PoolOptions<Db> {
    PoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT)
}

/// A little less than the layer gives a store by default.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(1800);
