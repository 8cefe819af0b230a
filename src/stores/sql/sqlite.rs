//! SQLite.

use std::borrow::Cow;

use sqlx::{Pool, Sqlite, error::DatabaseError, sqlite::SqliteRow};

use super::{
    SCHEMA_VERSION,
    dialect::{Dialect, Sql, Value, arguments, driver},
    failure::{Cause, sqlstate},
    table::TableName,
};

impl Dialect for Sqlite {
    const STORE: &'static str = "sqlite";

    const QUOTE: char = '"';

    const HAS_RETURNING: bool = true;

    fn parameter(_: usize) -> String {
        "?".to_owned()
    }

    /// Each statement can be run again, so nothing has to hold them together.
    fn schema(table: &TableName) -> String {
        let [sessions, mark, by_user, by_deadline] = ["", "_schema", "_user_id", "_expires_at"]
            .map(|ending| table.quoted(ending, Self::QUOTE));
        let name = table.name();
        format!(
            "CREATE TABLE IF NOT EXISTS {sessions} (\n  \
               id BLOB NOT NULL PRIMARY KEY,\n  \
               revision INTEGER NOT NULL,\n  \
               token BLOB NOT NULL,\n  \
               user_id TEXT,\n  \
               created_at INTEGER NOT NULL,\n  \
               expires_at INTEGER NOT NULL,\n  \
               absolute_deadline INTEGER NOT NULL,\n  \
               payload BLOB NOT NULL\n\
             );\n\
             CREATE INDEX IF NOT EXISTS {by_user} ON \"{name}\" (user_id)\n  \
               WHERE user_id IS NOT NULL;\n\
             CREATE INDEX IF NOT EXISTS {by_deadline} ON \"{name}\" (expires_at);\n\
             CREATE TABLE IF NOT EXISTS {mark} (version INTEGER NOT NULL PRIMARY KEY);\n\
             INSERT OR IGNORE INTO {mark} VALUES ({SCHEMA_VERSION});\n"
        )
    }

    fn count_tables(table: &TableName, ending: &str) -> String {
        let schema = table.schema().unwrap_or("main");
        let name = table.name();
        format!(
            "SELECT count(*) FROM \"{schema}\".sqlite_master \
             WHERE type = 'table' AND name = '{name}{ending}'"
        )
    }

    fn delete_expired(table: &str) -> String {
        format!(
            "DELETE FROM {table} WHERE id IN (\
             SELECT id FROM {table} WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
        )
    }

    /// Codes: <https://www.sqlite.org/rescode.html>. The low byte is the primary one.
    fn cause(error: &dyn DatabaseError) -> Cause {
        let code: u32 = sqlstate(error).parse().unwrap_or_default();
        match code & 0xff {
            // SQLITE_BUSY, SQLITE_LOCKED
            5 | 6 => Cause::Contention,
            // SQLITE_NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL
            7 | 8 | 9 | 10 | 13 | 14 | 15 => Cause::Unavailable,
            // SQLITE_TOOBIG
            18 => Cause::TooLarge,
            _ => Cause::Other,
        }
    }

    fn is_farewell(_: &dyn DatabaseError) -> bool {
        false
    }

    fn code(error: &dyn DatabaseError) -> Cow<'_, str> {
        sqlstate(error)
    }

    /// SQLite's messages name tables and columns, and no values; what a trigger raises
    /// (SQLITE_CONSTRAINT_TRIGGER) is in the application's words.
    fn may_quote(error: &dyn DatabaseError) -> bool {
        sqlstate(error) == "1811"
    }

    /// There is one writer at a time.
    async fn delete_matching(
        pool: &Pool<Self>,
        _lock: Sql,
        delete: Sql,
        values: &[Value<'_>],
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        Self::fetch_all(pool, delete, arguments::<Self>(values)?).await
    }

    driver!(Sqlite);
}
