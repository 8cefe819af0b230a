//! MySQL and MariaDB.

use std::borrow::Cow;

use sqlx::{
    Connection, MySql, Pool,
    error::DatabaseError,
    mysql::{MySqlDatabaseError, MySqlRow},
};

use super::{
    SCHEMA_VERSION,
    dialect::{Dialect, Sql, Value, arguments, driver},
    failure::{Cause, sqlstate},
    table::TableName,
};

impl Dialect for MySql {
    const STORE: &'static str = "mysql";

    const QUOTE: char = '`';

    /// MariaDB has it, MySQL has not.
    const HAS_RETURNING: bool = false;

    fn parameter(_: usize) -> String {
        "?".to_owned()
    }

    /// Each statement can be run again, and commits by itself.
    ///
    /// Users are bytes, because every collation takes some different names for the same, if only
    /// those with spaces at their end. The payload can be longer than any packet, because without a
    /// strict `sql_mode` what is too long for its column is cut off in silence.
    fn schema(table: &TableName) -> String {
        let [sessions, mark] = ["", "_schema"].map(|ending| table.quoted(ending, Self::QUOTE));
        let name = table.name();
        format!(
            "CREATE TABLE IF NOT EXISTS {sessions} (\n  \
               id BINARY(32) NOT NULL PRIMARY KEY,\n  \
               revision BIGINT NOT NULL,\n  \
               token BINARY(16) NOT NULL,\n  \
               user_id VARBINARY(255),\n  \
               created_at BIGINT NOT NULL,\n  \
               expires_at BIGINT NOT NULL,\n  \
               absolute_deadline BIGINT NOT NULL,\n  \
               payload LONGBLOB NOT NULL,\n  \
               KEY `{name}_user_id` (user_id),\n  \
               KEY `{name}_expires_at` (expires_at)\n\
             ) ENGINE = InnoDB;\n\
             CREATE TABLE IF NOT EXISTS {mark} (version BIGINT NOT NULL PRIMARY KEY)\n  \
               ENGINE = InnoDB;\n\
             INSERT IGNORE INTO {mark} VALUES ({SCHEMA_VERSION});\n"
        )
    }

    fn count_tables(table: &TableName, ending: &str) -> String {
        let name = table.name();
        let schema = match table.schema() {
            Some(schema) => format!("'{schema}'"),
            None => "DATABASE()".to_owned(),
        };
        format!(
            "SELECT count(*) FROM information_schema.tables \
             WHERE table_schema = {schema} AND table_name = '{name}{ending}'"
        )
    }

    fn delete_expired(table: &str) -> String {
        format!("DELETE FROM {table} WHERE expires_at <= ? ORDER BY expires_at LIMIT ?")
    }

    /// Numbers: MySQL's and MariaDB's error references, which agree in these.
    fn cause(error: &dyn DatabaseError) -> Cause {
        match number(error) {
            // ER_LOCK_DEADLOCK, ER_CHECKREAD: the row has changed since the snapshot
            1213 | 1020 => Cause::Contention,
            // ER_NET_PACKET_TOO_LARGE
            1153 => Cause::TooLarge,
            // ER_DISK_FULL, ER_CON_COUNT_ERROR, ER_OUT_OF_RESOURCES, ER_SERVER_SHUTDOWN,
            // ER_RECORD_FILE_FULL, ER_NEW_ABORTING_CONNECTION and ER_NET_*, ER_TOO_MANY_USER_CONNECTIONS,
            // ER_LOCK_WAIT_TIMEOUT, ER_OPTION_PREVENTS_STATEMENT (read only), ER_QUERY_INTERRUPTED,
            // ER_READ_ONLY_MODE, ER_CONNECTION_KILLED, ER_STATEMENT_TIMEOUT of MariaDB,
            // ER_CLIENT_INTERACTION_TIMEOUT of MySQL
            1021
            | 1040
            | 1041
            | 1053
            | 1114
            | 1152
            | 1158..=1161
            | 1184
            | 1203
            | 1205
            | 1290
            | 1317
            | 1836
            | 1927
            | 1969 => Cause::Unavailable,
            _ => Cause::Other,
        }
    }

    /// ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED of MariaDB, ER_CLIENT_INTERACTION_TIMEOUT of MySQL
    fn is_farewell(error: &dyn DatabaseError) -> bool {
        matches!(number(error), 1053 | 1927 | 4031)
    }

    fn code(error: &dyn DatabaseError) -> Cow<'_, str> {
        number(error).to_string().into()
    }

    /// "Incorrect … value" has the general SQLSTATE; what a trigger signals (class 45 by convention,
    /// ER_SIGNAL_EXCEPTION) is in the application's words.
    fn may_quote(error: &dyn DatabaseError) -> bool {
        let sqlstate = sqlstate(error);
        is_about_data(&sqlstate)
            || sqlstate.starts_with("45")
            || matches!(number(error), 1366 | 1411 | 1644)
    }

    /// Moving a row to another key moves its entry in the index. Only the locks of REPEATABLE READ,
    /// the default, keep an entry from being moved to where the scan has already been. They are held
    /// until the end of the transaction, so the second scan meets the same rows as the first.
    async fn delete_matching(
        pool: &Pool<Self>,
        lock: Sql,
        delete: Sql,
        values: &[Value<'_>],
    ) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let mut connection = pool.acquire().await?;
        // The level is for the next transaction, which is the one below. If that is not reached, it must
        // not be a transaction of the application's.
        connection.close_on_drop();
        sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            .execute(&mut *connection)
            .await?;
        let mut transaction = connection.begin().await?;
        let found = sqlx::query_with(lock, arguments::<Self>(values)?)
            .fetch_all(&mut *transaction)
            .await?;
        let deleted = sqlx::query_with(delete, arguments::<Self>(values)?)
            .execute(&mut *transaction)
            .await?;
        debug_assert_eq!(deleted.rows_affected(), found.len() as u64);
        transaction.commit().await?;
        Ok(found)
    }

    driver!(MySql);
}

fn number(error: &dyn DatabaseError) -> u16 {
    error
        .try_downcast_ref::<MySqlDatabaseError>()
        .map_or(0, MySqlDatabaseError::number)
}

/// Whether an SQLSTATE is about data, and the message may quote it: classes 22, data exception, and
/// 23, integrity constraint violation (ISO/IEC 9075-2).
fn is_about_data(sqlstate: &str) -> bool {
    sqlstate.starts_with("22") || sqlstate.starts_with("23")
}
