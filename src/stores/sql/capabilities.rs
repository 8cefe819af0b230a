//! What a database can do besides keeping sessions: find those of a user, sweep, scan.

use async_trait::async_trait;

use super::{
    SqlStore,
    contention::past_contention,
    dialect::{Dialect, Value},
    failure::store_error,
    row::read_id,
};
use crate::{
    error::StoreError,
    id::RecordId,
    store::{Cursor, DeleteExpired, Page, ScanSessions, StoredSession, UserSessions},
    timestamp::Timestamp,
    user::UserId,
};

#[async_trait]
impl<Db: Dialect> UserSessions for SqlStore<Db> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        let now = Value::Number(self.now().as_millis());
        let values = [Value::Text(Some(user.as_str())), now];
        Self::sessions(&self.rows(&self.statements().sessions_of, &values).await?)
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        // No id is empty.
        let keep = keep.map_or(&[][..], |id| id.as_bytes());
        let user = Value::Text(Some(user.as_str()));
        let values = [user, Value::Bytes(keep)];
        let now = self.now();
        let lock = &self.statements().lock_all_of;
        let delete = &self.statements().delete_all_of;
        // Also those that have expired by this clock, but perhaps not by that of another node.
        let run = || Db::delete_matching(&self.pool, lock.sql(), delete.sql(), &values);
        let rows = past_contention::<Db, _, _>(run).await;
        let rows = rows.map_err(store_error::<Db>)?;
        Ok(rows
            .iter()
            .filter_map(|row| live_id::<Db>(row, now))
            .collect())
    }
}

/// The id of a row that was deleted, if a session was alive there. In doubt it was.
fn live_id<Db: Dialect>(row: &Db::Row, now: Timestamp) -> Option<RecordId> {
    let deadline = Db::number(row, 1).unwrap_or(i64::MAX);
    if deadline <= now.as_millis() {
        return None;
    }
    let id = read_id::<Db>(row);
    if id.is_err() {
        tracing::error!("a deleted record had no id that a session can have");
    }
    id.ok()
}

#[async_trait]
impl<Db: Dialect> DeleteExpired for SqlStore<Db> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        let now = Value::Number(self.now().as_millis());
        let limit = Value::Number(i64::try_from(limit).unwrap_or(i64::MAX));
        let text = &self.statements().delete_expired;
        let deleted = self.execute(text, &[now, limit]).await;
        deleted.map_err(store_error::<Db>)
    }
}

#[async_trait]
impl<Db: Dialect> ScanSessions for SqlStore<Db> {
    /// A page in the order of the ids. The cursor is the last id of the page before, and any bytes are
    /// a place among the ids. Expired rows count towards the limit.
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let after = after.map_or(&[][..], Cursor::as_bytes);
        let now = self.now();
        let limit = limit.max(1);
        let limit_value = Value::Number(i64::try_from(limit).unwrap_or(i64::MAX));
        let values = [Value::Bytes(after), limit_value];
        let rows = self.rows(&self.statements().scan, &values).await?;
        let last = rows.last().filter(|_| rows.len() == limit);
        let next = last.map(|row| Db::bytes(row, 0).map(Cursor::from_bytes));
        let next = next.transpose().map_err(store_error::<Db>)?;
        let mut sessions = Self::sessions(&rows)?;
        sessions.retain(|session| !session.record.is_expired(now));
        Ok(Page { sessions, next })
    }
}
