//! In what the databases differ.

use std::{borrow::Cow, fmt, sync::Arc};

use sqlx::{
    AssertSqlSafe, Database, Pool,
    error::{BoxDynError, DatabaseError},
};

use super::{failure::Cause, table::TableName};

/// A database that a [`SqlStore`](super::SqlStore) can be kept in.
///
/// The statements themselves are the same everywhere but for the few that are asked for here.
#[expect(
    unnameable_types,
    reason = "sealed: the databases are those of this crate"
)]
pub trait Dialect: Database {
    /// The name of the store in errors.
    const STORE: &'static str;

    /// What names are quoted with.
    const QUOTE: char;

    /// Whether a `DELETE` can return columns of its rows.
    const HAS_RETURNING: bool;

    /// How the `n`th parameter of a statement is written, counted from 1.
    fn parameter(n: usize) -> String;

    /// The statements that make the table, its indexes and its mark of the version.
    fn schema(table: &TableName) -> String;

    /// A query that counts the tables of that name: 0 or 1.
    fn count_tables(table: &TableName, ending: &str) -> String;

    /// Deletes up to the second parameter's number of the rows whose deadline is not after the
    /// first parameter.
    fn delete_expired(table: &str) -> String;

    /// What an error means.
    fn cause(error: &dyn DatabaseError) -> Cause;

    /// Whether the server had ended the connection before it was asked anything.
    fn is_farewell(error: &dyn DatabaseError) -> bool;

    /// The number under which the manual has an error.
    fn code(error: &dyn DatabaseError) -> Cow<'_, str>;

    /// Whether the message may quote a key or a value.
    fn may_quote(error: &dyn DatabaseError) -> bool;

    /// Adds a parameter.
    fn bind(to: &mut Self::Arguments, value: Value<'_>) -> Result<(), BoxDynError>;

    /// Runs a statement and tells how many rows it touched.
    fn execute(
        pool: &Pool<Self>,
        sql: Sql,
        arguments: Self::Arguments,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Runs a `DELETE` of rows that meet a condition, which must not miss a row whose key is changed
    /// meanwhile, and returns the columns asked for of exactly the rows that it deleted. Where it cannot
    /// return them, `lock` reads them: a `SELECT … FOR UPDATE` on the same condition.
    fn delete_matching(
        pool: &Pool<Self>,
        lock: Sql,
        delete: Sql,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    /// Runs statements that have no parameters.
    fn run(pool: &Pool<Self>, sql: Sql) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The row that a query finds.
    fn fetch_one(
        pool: &Pool<Self>,
        sql: Sql,
        arguments: Self::Arguments,
    ) -> impl Future<Output = Result<Option<Self::Row>, sqlx::Error>> + Send;

    /// The rows that a query finds.
    fn fetch_all(
        pool: &Pool<Self>,
        sql: Sql,
        arguments: Self::Arguments,
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    /// A column of bytes.
    fn bytes(row: &Self::Row, column: usize) -> Result<&[u8], sqlx::Error>;

    /// A column of whole numbers.
    fn number(row: &Self::Row, column: usize) -> Result<i64, sqlx::Error>;

    /// A column of text, or nothing.
    fn text(row: &Self::Row, column: usize) -> Result<Option<&str>, sqlx::Error>;
}

/// A parameter of a statement.
#[derive(Clone, Copy)]
#[expect(unnameable_types, reason = "part of the sealed trait `Dialect`")]
pub enum Value<'a> {
    /// For a column of bytes.
    Bytes(&'a [u8]),
    /// For a column of whole numbers.
    Number(i64),
    /// For a column of text.
    Text(Option<&'a str>),
}

/// Ids and payloads are not shown.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value")
    }
}

/// A statement of ours: made of constants and [`TableName`]s, and never of values.
pub(super) type Sql = AssertSqlSafe<Arc<str>>;

/// The parameters of a statement, in order.
pub(super) fn arguments<Db: Dialect>(values: &[Value<'_>]) -> Result<Db::Arguments, sqlx::Error> {
    let mut arguments = Db::Arguments::default();
    for value in values {
        Db::bind(&mut arguments, *value).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Writes the part of a [`Dialect`] that reads the same for each driver, but that cannot be
/// written once for all of them without a page of bounds.
macro_rules! driver {
    ($db:ty) => {
        fn bind(
            to: &mut <$db as sqlx::Database>::Arguments,
            value: crate::stores::sql::dialect::Value<'_>,
        ) -> Result<(), sqlx::error::BoxDynError> {
            use crate::stores::sql::dialect::Value;
            match value {
                Value::Bytes(bytes) => sqlx::Arguments::add(to, bytes),
                Value::Number(number) => sqlx::Arguments::add(to, number),
                Value::Text(text) => sqlx::Arguments::add(to, text),
            }
        }

        async fn execute(
            pool: &sqlx::Pool<$db>,
            sql: crate::stores::sql::dialect::Sql,
            arguments: <$db as sqlx::Database>::Arguments,
        ) -> Result<u64, sqlx::Error> {
            let done = sqlx::query_with(sql, arguments).execute(pool).await?;
            Ok(done.rows_affected())
        }

        async fn run(
            pool: &sqlx::Pool<$db>,
            sql: crate::stores::sql::dialect::Sql,
        ) -> Result<(), sqlx::Error> {
            sqlx::raw_sql(sql).execute(pool).await.map(drop)
        }

        async fn fetch_one(
            pool: &sqlx::Pool<$db>,
            sql: crate::stores::sql::dialect::Sql,
            arguments: <$db as sqlx::Database>::Arguments,
        ) -> Result<Option<<$db as sqlx::Database>::Row>, sqlx::Error> {
            sqlx::query_with(sql, arguments).fetch_optional(pool).await
        }

        async fn fetch_all(
            pool: &sqlx::Pool<$db>,
            sql: crate::stores::sql::dialect::Sql,
            arguments: <$db as sqlx::Database>::Arguments,
        ) -> Result<Vec<<$db as sqlx::Database>::Row>, sqlx::Error> {
            sqlx::query_with(sql, arguments).fetch_all(pool).await
        }

        // Unchecked, because it is our own table: the types' names are not compared for each value.
        fn bytes(row: &<$db as sqlx::Database>::Row, column: usize) -> Result<&[u8], sqlx::Error> {
            sqlx::Row::try_get_unchecked(row, column)
        }

        fn number(row: &<$db as sqlx::Database>::Row, column: usize) -> Result<i64, sqlx::Error> {
            sqlx::Row::try_get_unchecked(row, column)
        }

        fn text(
            row: &<$db as sqlx::Database>::Row,
            column: usize,
        ) -> Result<Option<&str>, sqlx::Error> {
            sqlx::Row::try_get_unchecked(row, column)
        }
    };
}
pub(super) use driver;
