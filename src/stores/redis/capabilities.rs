//! What Redis can do besides keeping sessions: find those of a user.

use async_trait::async_trait;

use super::RedisStore;
use crate::{
    error::StoreError,
    id::RecordId,
    store::{StoredSession, UserSessions},
    user::UserId,
};

#[async_trait]
impl UserSessions for RedisStore {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        self.live_sessions(user).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        self.end_sessions(user, keep).await
    }
}
