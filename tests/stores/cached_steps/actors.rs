//! What requests do.

use std::sync::Arc;

use tower_keep::{Record, RecordId, Rotated, SessionStore, StoreError, Timestamp, Updated};

use super::{
    judge::Judge,
    sheet::{FAR, SESSION, record},
};

/// What one request does with the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    Load,
    /// And what they find is written over, once more if somebody else was faster.
    Update,
    Rotate,
    /// Loads, and moves the deadline.
    Touch,
    Delete,
    LoadTwice,
}

impl Act {
    /// Without the last, which says nothing that two loads do not.
    pub(super) const ALL: [Self; 5] = [
        Self::Load,
        Self::Update,
        Self::Rotate,
        Self::Touch,
        Self::Delete,
    ];

    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Update | Self::Rotate | Self::Delete)
    }
}

/// A request.
pub(super) struct Actor {
    pub(super) number: usize,
    pub(super) node: usize,
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) judge: Judge,
}

impl Actor {
    pub(super) async fn run(self, act: Act) {
        // Who meets an error goes home.
        let _ = match act {
            Act::Load => self.load().await.map(drop),
            Act::LoadTwice => match self.load().await {
                Ok(_) => self.load().await.map(drop),
                Err(error) => Err(error),
            },
            Act::Update => self.update().await,
            Act::Rotate => self.rotate().await,
            Act::Touch => self.touch().await,
            Act::Delete => self.delete().await,
        };
    }

    async fn load(&self) -> Result<Option<Record>, StoreError> {
        let began = self.judge.begins(self.node);
        let answer = self.store.load(&SESSION).await?;
        self.judge.answered(&began, answer.as_ref());
        Ok(answer)
    }

    async fn update(&self) -> Result<(), StoreError> {
        let mut present = self.load().await?;
        for attempt in 0..ATTEMPTS {
            let Some(before) = present.take() else {
                break;
            };
            let next = self.next(&before, attempt);
            match self.store.update(&SESSION, &next, before.version).await? {
                Updated::Done => self.judge.acknowledged(self.node, Some(&next)),
                Updated::Gone => self.judge.acknowledged(self.node, None),
                Updated::Conflict(newer) => present = Some(newer),
            }
        }
        Ok(())
    }

    async fn rotate(&self) -> Result<(), StoreError> {
        let mut present = self.load().await?;
        for attempt in 0..ATTEMPTS {
            let Some(before) = present.take() else {
                break;
            };
            let next = self.next(&before, attempt);
            let new = RecordId::from_bytes([self.name(); RecordId::LEN]);
            let rotated = self.store.rotate(&SESSION, &new, &next, before.version);
            match rotated.await? {
                Rotated::Done | Rotated::Gone => self.judge.acknowledged(self.node, None),
                Rotated::Conflict(newer) => present = Some(newer),
                Rotated::Exists => unreachable!("each has its own new id"),
            }
        }
        Ok(())
    }

    async fn touch(&self) -> Result<(), StoreError> {
        if let Some(present) = self.load().await? {
            let later = Timestamp::from_millis(FAR + i64::from(self.name()));
            let touch = self.store.touch(&SESSION, later, present.version);
            touch.await?;
        }
        Ok(())
    }

    async fn delete(&self) -> Result<(), StoreError> {
        self.store.delete(&SESSION).await?;
        self.judge.acknowledged(self.node, None);
        Ok(())
    }

    fn next(&self, before: &Record, attempt: u8) -> Record {
        let next = record(before.version.revision + 1, [self.name(), attempt]);
        Record {
            expires_at: before.expires_at,
            ..next
        }
    }

    fn name(&self) -> u8 {
        100 + u8::try_from(self.number).unwrap()
    }
}

const ATTEMPTS: u8 = 2;
