//! Making the tables.

use super::{
    SCHEMA_VERSION, SqlStore,
    contention::past_contention,
    dialect::{Dialect, Value},
    failure::store_error,
    statements::Text,
    table::TableName,
};
use crate::error::{StoreError, StoreErrorKind};

impl<Db: Dialect> SqlStore<Db> {
    /// Makes the table and its indexes, unless they are there.
    ///
    /// It can be called at each start, and by many nodes at once. If everything is in place it
    /// takes two queries and no right to change anything. A second, small table, named like the
    /// first with `_schema` behind, holds the version of the schema. The tables of sqlx's own
    /// migrations are left alone.
    ///
    /// On PostgreSQL it makes the schema, too, if one was named; on MySQL and SQLite the database
    /// has to be there.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unsupported`] if a newer version of this crate has changed the tables in
    /// a way that this one does not know; otherwise whatever keeps the database from making them.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match self.schema_version().await? {
            Some(SCHEMA_VERSION) => Ok(()),
            Some(newer) if newer > SCHEMA_VERSION => Err(StoreError::new(
                Db::STORE,
                StoreErrorKind::Unsupported,
                format!("the schema has version {newer}, this crate knows {SCHEMA_VERSION}"),
            )),
            Some(_) | None => {
                let schema = Text::new::<Db>(&Self::schema(&self.shared.table));
                let made = past_contention::<Db, _, _>(|| Db::run(&self.pool, schema.sql())).await;
                made.map_err(store_error::<Db>)
            }
        }
    }

    /// The statements that [`migrate`](Self::migrate) runs, for those who run their own.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] {
    /// use tower_keep::{PostgresStore, TableName};
    ///
    /// let schema = PostgresStore::schema(&TableName::default());
    /// assert!(schema.contains("CREATE TABLE IF NOT EXISTS \"tower_keep_sessions\""));
    /// # }
    /// ```
    #[must_use]
    pub fn schema(table: &TableName) -> String {
        Db::schema(table)
    }

    /// The version of the tables that are there, if any.
    async fn schema_version(&self) -> Result<Option<i64>, StoreError> {
        let table = &self.shared.table;
        let count = Text::new::<Db>(&Db::count_tables(table, "_schema"));
        if self.number(&count).await? == Some(0) {
            return Ok(None);
        }
        let mark = table.quoted("_schema", Db::QUOTE);
        let version = format!("SELECT version FROM {mark} ORDER BY version DESC LIMIT 1");
        self.number(&Text::new::<Db>(&version)).await
    }

    async fn number(&self, query: &Text) -> Result<Option<i64>, StoreError> {
        let no_values: &[Value<'_>] = &[];
        let rows = self.rows(query, no_values).await?;
        let number = rows.first().map(|row| Db::number(row, 0));
        number.transpose().map_err(store_error::<Db>)
    }
}
