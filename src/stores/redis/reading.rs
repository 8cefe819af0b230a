//! What is under a key. Lists go on past records that cannot be read.

use redis::{Cmd, Value};

use super::{RedisStore, STORE, unexpected};
use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::Record,
    stores::keyed::{self, Kept},
};

impl RedisStore {
    /// What is under that key, expired or not.
    pub(super) async fn get(&self, id: &RecordId) -> Result<Option<Kept>, StoreError> {
        let key = self.prefix.session(id);
        // Room for all of it, or it would be copied to grow.
        let mut command = Cmd::with_capacity(2, "GET".len() + key.len());
        command.arg("GET").arg(key);
        read(self.commands.send(&command).await?)
    }

    /// The same; a damaged record is an event, and `None`.
    pub(super) async fn get_undamaged(
        &self,
        id: &RecordId,
    ) -> Result<Option<Option<Kept>>, StoreError> {
        unless_damaged(id, self.get(id).await)
    }

    /// The record, if that is a live session; nor is what it came from to be damaged, if it has to be settled.
    pub(super) async fn settled_undamaged(
        &self,
        id: &RecordId,
        kept: Option<Kept>,
    ) -> Result<Option<Record>, StoreError> {
        let settled = keyed::settled(self, id, kept).await;
        Ok(unless_damaged(id, settled)?.flatten())
    }
}

fn unless_damaged<T>(id: &RecordId, found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Err(error)
            if matches!(
                error.kind(),
                StoreErrorKind::Corrupt | StoreErrorKind::Unsupported
            ) =>
        {
            tracing::error!(
                record = ?id,
                error = &error as &dyn std::error::Error,
                "a damaged record was left out"
            );
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// Of a reply to `GET`, or of a script that answers what is there.
pub(super) fn read(value: Value) -> Result<Option<Kept>, StoreError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
        Value::BulkString(bytes) => match Kept::from_bytes(bytes) {
            Ok(kept) => Ok(Some(kept)),
            Err(error) => Err(StoreError::new(STORE, error.kind(), error)),
        },
        _ => Err(unexpected()),
    }
}
