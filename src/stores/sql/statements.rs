//! The statements of a store, written once for all dialects.

use std::sync::Arc;

use sqlx::AssertSqlSafe;

use super::{
    dialect::{Dialect, Sql},
    table::TableName,
};

/// The texts, for one table. Each is complete in itself, but for the one that says what it goes with.
#[derive(Clone)]
pub(super) struct Statements {
    pub(super) load: Text,
    pub(super) load_either: Text,
    pub(super) insert: Text,
    pub(super) update: Text,
    pub(super) rotate: Text,
    pub(super) touch: Text,
    pub(super) delete_if_live: Text,
    pub(super) delete: Text,
    pub(super) delete_if_expired: Text,
    pub(super) sessions_of: Text,
    /// For a database that cannot return what it deletes: `Dialect::delete_matching` runs both.
    pub(super) lock_all_of: Text,
    pub(super) delete_all_of: Text,
    pub(super) delete_expired: Text,
    pub(super) scan: Text,
}

impl Statements {
    pub(super) fn new<Db: Dialect>(table: &TableName) -> Self {
        let table = table.quoted("", Db::QUOTE);
        let text = |text: &str| Text::new::<Db>(text);
        // The condition of every write to a session: it lives, and in the version that was seen.
        let seen = "id = ? AND revision = ? AND token = ? AND expires_at > ?";
        let others_of_user = "user_id = ? AND id <> ?";
        let returning = match Db::HAS_RETURNING {
            true => format!(" RETURNING {ENDED}"),
            false => String::new(),
        };
        Self {
            load: text(&format!("SELECT {COLUMNS} FROM {table} WHERE id = ?")),
            load_either: text(&format!("SELECT {COLUMNS} FROM {table} WHERE id IN (?, ?)")),
            insert: text(&format!(
                "INSERT INTO {table} ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            )),
            update: text(&format!("UPDATE {table} SET {ASSIGNMENTS} WHERE {seen}")),
            rotate: text(&format!(
                "UPDATE {table} SET id = ?, {ASSIGNMENTS} WHERE {seen}"
            )),
            touch: text(&format!(
                "UPDATE {table} SET expires_at = \
                 CASE WHEN expires_at < ? THEN ? ELSE expires_at END WHERE {seen}"
            )),
            delete_if_live: text(&format!(
                "DELETE FROM {table} WHERE id = ? AND expires_at > ?"
            )),
            delete: text(&format!("DELETE FROM {table} WHERE id = ?")),
            delete_if_expired: text(&format!(
                "DELETE FROM {table} WHERE id = ? AND expires_at <= ?"
            )),
            sessions_of: text(&format!(
                "SELECT {COLUMNS} FROM {table} WHERE user_id = ? AND expires_at > ?"
            )),
            lock_all_of: text(&format!(
                "SELECT {ENDED} FROM {table} WHERE {others_of_user} FOR UPDATE"
            )),
            delete_all_of: text(&format!(
                "DELETE FROM {table} WHERE {others_of_user}{returning}"
            )),
            delete_expired: text(&Db::delete_expired(&table)),
            scan: text(&format!(
                "SELECT {COLUMNS} FROM {table} WHERE id > ? ORDER BY id LIMIT ?"
            )),
        }
    }
}

/// A statement's text, shared with the driver instead of copied for it.
#[derive(Clone)]
pub(super) struct Text(Arc<str>);

impl Text {
    /// Takes a text with `?` for its parameters, which are bound in order.
    pub(super) fn new<Db: Dialect>(written: &str) -> Self {
        let mut parts = written.split('?');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for (index, part) in parts.enumerate() {
            text += &Db::parameter(index + 1);
            text += part;
        }
        Self(text.into())
    }

    /// Safe, because it is made of constants and names that were parsed.
    pub(super) fn sql(&self) -> Sql {
        AssertSqlSafe(Arc::clone(&self.0))
    }
}

/// In the order in which they are read and bound.
const COLUMNS: &str =
    "id, revision, token, user_id, created_at, expires_at, absolute_deadline, payload";

/// What is asked of a row that is deleted.
const ENDED: &str = "id, expires_at";

/// All columns but the id, in the order of `COLUMNS`.
const ASSIGNMENTS: &str = "revision = ?, token = ?, user_id = ?, created_at = ?, expires_at = ?, \
                           absolute_deadline = ?, payload = ?";
