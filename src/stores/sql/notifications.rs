//! The triggers with which PostgreSQL tells of every write to the table.

use sqlx::Postgres;

use super::{
    SqlStore,
    contention::past_contention,
    dialect::{Dialect, Value},
    failure::store_error,
    statements::Text,
    table::TableName,
};
use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
};

impl SqlStore<Postgres> {
    /// Makes the triggers that [`near_cache`](Self::near_cache) needs, unless they are there.
    ///
    /// Apart from [`migrate`](Self::migrate), which has to be called before it and leaves them alone, because they
    /// have a price: PostgreSQL lets transactions that notify commit one after the other, in all databases of the
    /// server, and refuses to `PREPARE` them for a two-phase commit.
    ///
    /// It can be called at each start, and by many nodes at once. If the triggers are in place it takes one query
    /// and no right to change anything. Otherwise it takes the owner of the table, and locks the table for a moment.
    ///
    /// The triggers fire for whoever writes: other nodes, sweeps, statements by hand, `TRUNCATE`, and also for
    /// sessions of the database that have set `session_replication_role`. What they tell are the ids of records,
    /// which are hashes, to whoever may log in to the database and listens.
    ///
    /// Works with PostgreSQL 12 and later. To remove the triggers, drop the function:
    /// `DROP FUNCTION tower_keep_sessions_tell CASCADE`. Caches then turn themselves off.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Other`] if the table is not there, is somebody else's, or has partitions or heirs; otherwise
    /// whatever keeps the database from making them.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use sqlx::PgPool;
    /// use tower_keep::PostgresStore;
    ///
    /// let store = PostgresStore::new(PgPool::connect("postgres://app@localhost/app").await?);
    /// store.migrate().await?;
    /// store.migrate_notifications().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn migrate_notifications(&self) -> Result<(), StoreError> {
        if self.find_triggers().await?.is_some() {
            return Ok(());
        }
        let schema = Text::new::<Postgres>(&Self::notification_schema(&self.shared.table));
        let made = past_contention::<Postgres, _, _>(|| Postgres::run(&self.pool, schema.sql()));
        made.await.map_err(store_error::<Postgres>)
    }

    /// The statements that [`migrate_notifications`](Self::migrate_notifications) runs, for those who run their own:
    /// in one transaction, so that no write goes untold meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_keep::{PostgresStore, TableName};
    ///
    /// let schema = PostgresStore::notification_schema(&TableName::default());
    /// assert!(schema.contains("CREATE TRIGGER \"tower_keep_sessions_tell\""));
    /// ```
    #[must_use]
    pub fn notification_schema(table: &TableName) -> String {
        let [sessions, tell] = ["", ROWS].map(|ending| table.quoted(ending, Postgres::QUOTE));
        let name = table.name();
        let id_len = RecordId::LEN;
        let function = format!(
            "CREATE OR REPLACE FUNCTION {tell}() RETURNS trigger LANGUAGE plpgsql AS $tell$\n\
             DECLARE\n  \
               channel text := '{CHANNEL}' || TG_RELID;\n\
             BEGIN\n  \
               IF TG_OP = 'TRUNCATE' THEN\n    \
                 PERFORM pg_catalog.pg_notify(channel, '{EVERYTHING}');\n  \
               ELSIF octet_length(OLD.id) <> {id_len} THEN\n    \
                 NULL; -- No session has such an id, and it could be too long to be told.\n  \
               ELSIF TG_OP = 'UPDATE' AND NEW.id = OLD.id\n    \
                 AND OLD.revision >= 0 AND NEW.revision > OLD.revision THEN\n    \
                 PERFORM pg_catalog.pg_notify(\n      \
                   channel, pg_catalog.encode(OLD.id, 'hex') || ':' || NEW.revision);\n  \
               ELSE\n    \
                 PERFORM pg_catalog.pg_notify(channel, pg_catalog.encode(OLD.id, 'hex'));\n  \
               END IF;\n  \
               RETURN NULL;\n\
             END $tell$;\n"
        );
        let trigger = |ending: &str, events: &str| {
            format!(
                "DROP TRIGGER IF EXISTS \"{name}{ending}\" ON {sessions};\n\
                 CREATE TRIGGER \"{name}{ending}\" AFTER {events}\n  \
                   EXECUTE FUNCTION {tell}();\n\
                 ALTER TABLE {sessions} ENABLE ALWAYS TRIGGER \"{name}{ending}\";\n"
            )
        };
        let rows = trigger(
            ROWS,
            &format!("UPDATE OR DELETE ON {sessions} FOR EACH ROW"),
        );
        let table_as_a_whole =
            trigger(WHOLE, &format!("TRUNCATE ON {sessions} FOR EACH STATEMENT"));
        format!(
            "SELECT pg_advisory_xact_lock(hashtextextended('tower-keep {table}', 0));\n\
             {function}{rows}{table_as_a_whole}"
        )
    }

    /// The table as this pool finds it, if it tells of its writes.
    ///
    /// # Errors
    ///
    /// If there is no such table, it cannot be asked for, or triggers cannot tell of all its writes.
    pub(super) async fn find_triggers(&self) -> Result<Option<ToldTable>, StoreError> {
        let table = &self.shared.table;
        let quoted = table.quoted("", Postgres::QUOTE);
        let triggers = triggers(table.name());
        let query = format!(
            "SELECT c.oid::bigint, n.nspname::text, ({triggers})::bigint, ({HEIRS})::bigint FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = to_regclass('{quoted}')"
        );
        let no_values: &[Value<'_>] = &[];
        let rows = self.rows(&Text::new::<Postgres>(&query), no_values).await?;
        let Some(row) = rows.first() else {
            let problem = format!("the table `{table}` is not there: call `migrate` first");
            return Err(StoreError::new(
                Postgres::STORE,
                StoreErrorKind::Other,
                problem,
            ));
        };
        let read = || -> Result<_, sqlx::Error> {
            let schema = Postgres::text(row, 1)?.unwrap_or_default().to_owned();
            let numbers = [0, 2, 3].map(|column| Postgres::number(row, column));
            let [oid, triggers, heirs] = numbers;
            Ok((oid?, schema, triggers?, heirs?))
        };
        let (oid, schema, triggers, heirs) = read().map_err(store_error::<Postgres>)?;
        if heirs > 0 {
            let problem = format!(
                "the table `{table}` has partitions or heirs, and triggers do not tell of all that is written there"
            );
            return Err(StoreError::new(
                Postgres::STORE,
                StoreErrorKind::Other,
                problem,
            ));
        }
        let name = table.name().to_owned();
        Ok((triggers == TRIGGERS).then_some(ToldTable { oid, schema, name }))
    }
}

/// A table that tells of its writes.
///
/// Found by its name through the pool of the store, whose connections may have a search path of their own;
/// from then on it is known by its number, so that another connection means the same table.
#[derive(Debug)]
pub(super) struct ToldTable {
    oid: i64,
    schema: String,
    name: String,
}

impl ToldTable {
    /// Where it tells: in a channel that belongs to the table, whatever name it is called by.
    pub(super) fn channel(&self) -> String {
        format!("{CHANNEL}{}", self.oid)
    }

    /// A statement that tells one thing more there, its first parameter, and answers with a row.
    ///
    /// If the table no longer is what its name stands for, or one of its triggers is gone or disabled, it tells
    /// nothing and answers with none. The second parameter is the table's schema.
    pub(super) fn beat(&self) -> Text {
        let Self { oid, name, .. } = self;
        let triggers = triggers(name);
        Text::new::<Postgres>(&format!(
            "SELECT pg_catalog.pg_notify('{CHANNEL}{oid}', ?) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = {oid} AND c.relname = '{name}' AND n.nspname = ? \
             AND ({triggers}) = {TRIGGERS} AND ({HEIRS}) = 0"
        ))
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }
}

/// What a trigger has told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The record was written over an older one, and now has that revision.
    Written(RecordId, u64),
    /// The record was moved, touched or deleted.
    Changed(RecordId),
    /// The table was emptied, or nobody knows: another version of this crate may tell more.
    Anything,
}

impl Told {
    pub(super) fn parse(payload: &str) -> Self {
        let (id, revision) = match payload.split_once(':') {
            Some((id, revision)) => (id, Some(revision)),
            None => (payload, None),
        };
        let mut bytes = [0; RecordId::LEN];
        let hex = data_encoding::HEXLOWER;
        let is_id =
            id.len() == 2 * RecordId::LEN && hex.decode_mut(id.as_bytes(), &mut bytes).is_ok();
        if !is_id {
            return Self::Anything;
        }
        let id = RecordId::from_bytes(bytes);
        match revision.map(str::parse) {
            Some(Ok(revision)) => Self::Written(id, revision),
            Some(Err(_)) | None => Self::Changed(id),
        }
    }
}

/// A query that counts those of the triggers that are there, and fire for everybody.
fn triggers(name: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid \
         AND t.tgname IN ('{name}{ROWS}', '{name}{WHOLE}') AND t.tgenabled = 'A'"
    )
}

/// A query that counts the tables that hold a part of its rows. A trigger for rows fires there, if it does at all, and
/// tells in the channel of that table.
const HEIRS: &str = "SELECT count(*) FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid";

/// How many triggers there are: [`ROWS`] and [`WHOLE`].
const TRIGGERS: i64 = 2;

/// What the name of the function, and of the trigger for each row, has behind the table's.
///
/// A version that tells in another way needs other names, or nodes of this one would take its triggers for theirs.
const ROWS: &str = "_tell";

/// What the name of the trigger for the table as a whole has behind the table's.
const WHOLE: &str = "_tell_truncate";

const _: () = assert!(
    TableName::LEN_MAX + WHOLE.len() <= 63,
    "PostgreSQL cuts off what is longer"
);

/// What the name of a channel begins with; the number of the table follows.
const CHANNEL: &str = "tower_keep_";

/// What is told of a `TRUNCATE`.
const EVERYTHING: &str = "all";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trigger_tells_is_understood_and_anything_else_counts_for_everything() {
        let id = RecordId::from_bytes([0xab; RecordId::LEN]);
        let hex = "ab".repeat(RecordId::LEN);
        assert_eq!(Told::parse(&hex), Told::Changed(id));
        assert_eq!(Told::parse(&format!("{hex}:7")), Told::Written(id, 7));
        assert_eq!(Told::parse(&format!("{hex}:-7")), Told::Changed(id));
        assert_eq!(Told::parse(&format!("{hex}:x")), Told::Changed(id));
        for other in [
            EVERYTHING,
            "",
            ":",
            "ab",
            "ä",
            &hex.to_uppercase(),
            &hex[1..],
        ] {
            assert_eq!(Told::parse(other), Told::Anything, "{other:?}");
        }
    }
}
