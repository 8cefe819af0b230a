//! PostgreSQL.

use std::borrow::Cow;

use sqlx::{Pool, Postgres, error::DatabaseError, postgres::PgRow};

use super::{
    SCHEMA_VERSION,
    dialect::{Dialect, Sql, Value, arguments, driver},
    failure::{Cause, sqlstate},
    table::TableName,
};

impl Dialect for Postgres {
    const STORE: &'static str = "postgres";

    const QUOTE: char = '"';

    const HAS_RETURNING: bool = true;

    fn parameter(n: usize) -> String {
        format!("${n}")
    }

    /// Sent as one message, which PostgreSQL runs as one transaction. Nodes that start at the same
    /// time wait for each other: `CREATE … IF NOT EXISTS` alone fails when two of them meet.
    ///
    /// Users are compared byte by byte, so their index does not depend on the system's locale.
    fn schema(table: &TableName) -> String {
        let [sessions, mark] = ["", "_schema"].map(|ending| table.quoted(ending, Self::QUOTE));
        let name = table.name();
        let schema = match table.schema() {
            // Whoever may not create a schema may still use one that is there.
            Some(schema) => format!(
                "DO $$ BEGIN IF to_regnamespace('\"{schema}\"') IS NULL \
                 THEN CREATE SCHEMA \"{schema}\"; END IF; END $$;\n"
            ),
            None => String::new(),
        };
        format!(
            "SELECT pg_advisory_xact_lock(hashtextextended('tower-keep {table}', 0));\n\
             {schema}\
             CREATE TABLE IF NOT EXISTS {sessions} (\n  \
               id bytea NOT NULL PRIMARY KEY,\n  \
               revision bigint NOT NULL,\n  \
               token bytea NOT NULL,\n  \
               user_id text COLLATE \"C\",\n  \
               created_at bigint NOT NULL,\n  \
               expires_at bigint NOT NULL,\n  \
               absolute_deadline bigint NOT NULL,\n  \
               payload bytea NOT NULL\n\
             );\n\
             CREATE INDEX IF NOT EXISTS \"{name}_user_id\" ON {sessions} (user_id)\n  \
               WHERE user_id IS NOT NULL;\n\
             CREATE INDEX IF NOT EXISTS \"{name}_expires_at\" ON {sessions} (expires_at);\n\
             CREATE TABLE IF NOT EXISTS {mark} (version bigint NOT NULL PRIMARY KEY);\n\
             INSERT INTO {mark} VALUES ({SCHEMA_VERSION}) ON CONFLICT DO NOTHING;\n"
        )
    }

    fn count_tables(table: &TableName, ending: &str) -> String {
        let table = table.quoted(ending, Self::QUOTE);
        format!("SELECT count(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('{table}')")
    }

    /// The rows are picked once, whatever the plan (`ARRAY` makes it so), and two that sweep at the
    /// same time take different ones.
    fn delete_expired(table: &str) -> String {
        format!(
            "DELETE FROM {table} WHERE id = ANY(ARRAY(\
             SELECT id FROM {table} WHERE expires_at <= ? ORDER BY expires_at LIMIT ? \
             FOR UPDATE SKIP LOCKED))"
        )
    }

    /// Codes: PostgreSQL's manual, appendix A.
    fn cause(error: &dyn DatabaseError) -> Cause {
        match &*sqlstate(error) {
            // serialization_failure, deadlock_detected
            "40001" | "40P01" => Cause::Contention,
            // lock_not_available, read_only_sql_transaction: a standby after a failover
            "55P03" | "25006" => Cause::Unavailable,
            // program_limit_exceeded
            "54000" => Cause::TooLarge,
            // connection, insufficient resources, operator intervention, system error
            code if ["08", "53", "57", "58"].iter().any(|c| code.starts_with(c)) => {
                Cause::Unavailable
            }
            _ => Cause::Other,
        }
    }

    /// admin_shutdown, crash_shutdown, idle_session_timeout
    fn is_farewell(error: &dyn DatabaseError) -> bool {
        ["57P01", "57P02", "57P05"].contains(&&*sqlstate(error))
    }

    fn code(error: &dyn DatabaseError) -> Cow<'_, str> {
        sqlstate(error)
    }

    /// Only of the classes that the server itself reports with, and not about data. A trigger raises
    /// errors in the application's words.
    fn may_quote(error: &dyn DatabaseError) -> bool {
        let code = sqlstate(error);
        let quiet = [
            "08", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX",
        ];
        !quiet.iter().any(|class| code.starts_with(class))
    }

    /// A row whose key has changed is followed to its new version.
    async fn delete_matching(
        pool: &Pool<Self>,
        _lock: Sql,
        delete: Sql,
        values: &[Value<'_>],
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        Self::fetch_all(pool, delete, arguments::<Self>(values)?).await
    }

    driver!(Postgres);
}
