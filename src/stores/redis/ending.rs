//! The end of a session.

use redis::Value;

use super::{NOTE_TTL_MILLIS, RedisStore, commands::Reply, script, unexpected};
use crate::{
    error::StoreError,
    id::RecordId,
    stores::keyed::{Kept, Keys},
    user::UserId,
};

/// What became of a deletion.
pub(super) enum Ended {
    Live,
    /// What may have been the target of a rotation that had not happened yet, and is none any more.
    Pending,
    Nothing,
    Moved(RecordId),
}

impl RedisStore {
    /// Ends a session; of nobody but that user, if one is named.
    pub(super) async fn end(
        &self,
        id: &RecordId,
        user: Option<&UserId>,
    ) -> Result<Ended, StoreError> {
        let key = self.prefix.session(id);
        let note = Kept::Ended.to_bytes();
        let mut pending_too = "";
        loop {
            let now = self.now();
            let reply = self.commands.run(&script::DELETE, |command| {
                Self::fill_keys(command, &key);
                let now = now.as_millis().to_be_bytes();
                command
                    .arg(&now)
                    .arg(&note)
                    .arg(NOTE_TTL_MILLIS)
                    .arg(pending_too);
                if let Some(user) = user {
                    command.arg(user.as_str());
                }
            });
            let Reply { value, doubt } = reply.await?;
            match value {
                Value::Int(1) => return Ok(Ended::Live),
                Value::Int(0) if pending_too.is_empty() => return Ok(Ended::Nothing),
                Value::Int(0) => return Ok(Ended::Pending),
                // By the first of two that were sent, perhaps.
                Value::Int(-2) if doubt.is_some() => return Ok(Ended::Live),
                Value::Int(-2) => return Ok(Ended::Nothing),
                Value::Int(_) => {
                    let kept = self.get_undamaged(id).await?.flatten();
                    if self.settled_undamaged(id, kept).await?.is_none() {
                        pending_too = "pending";
                    }
                }
                Value::BulkString(to) => {
                    let to = to.try_into().map_err(|_| unexpected())?;
                    return Ok(Ended::Moved(RecordId::from_bytes(to)));
                }
                _ => return Err(unexpected()),
            }
        }
    }
}
