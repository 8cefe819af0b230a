//! A session gets another key.

use async_trait::async_trait;
use redis::Value;

use super::{
    NOTE_TTL_MILLIS, RedisStore, failure::out_of_time, reading::read, script, ttl, unexpected,
};
use crate::{
    error::StoreError,
    id::RecordId,
    record::{Record, Version},
    store::Rotated,
    stores::keyed::{self, Kept, Keys, Placed, Retired, version_bytes},
    timestamp::Timestamp,
};

impl RedisStore {
    /// In one script.
    pub(super) async fn rotate_at_once(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        let [old_key, new_key] = [old, new].map(|id| self.prefix.session(id));
        let index = self.index(record);
        let bytes = record.to_bytes();
        let moved = moved(new, record);
        loop {
            let now = self.now();
            let reply = self.commands.run(&script::ROTATE, |command| {
                match &index {
                    Some(index) => Self::fill_keys(command, (&old_key, &new_key, &index.key)),
                    None => Self::fill_keys(command, (&old_key, &new_key)),
                }
                Self::fill_write(command, &bytes, now, ttl(record.expires_at, now));
                command
                    .arg(&version_bytes(&expected))
                    .arg(&moved)
                    .arg(NOTE_TTL_MILLIS);
                if let Some(index) = &index {
                    command.arg(old.as_bytes());
                    index.fill(command, new);
                }
            });
            let kept = match reply.await?.value {
                Value::Int(0) => return Ok(Rotated::Gone),
                Value::Int(-1) => return Ok(Rotated::Exists),
                Value::Int(done) => {
                    self.tidy_if_due(record, done - 1);
                    return Ok(Rotated::Done);
                }
                value => read(value)?,
            };
            match keyed::settled(self, old, kept).await? {
                None => return Ok(Rotated::Gone),
                // It has just become what it was expected to be.
                Some(present) if present.version == expected => {}
                Some(present) => return Ok(Rotated::Conflict(present)),
            }
        }
    }

    /// Key by key. A task does it, which goes on if the caller is dropped.
    pub(super) async fn rotate_in_steps(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        let limit = self.commands.timeout;
        let rotated = keyed::rotate_apart(self, old, new, record, expected, limit).await;
        rotated.unwrap_or_else(|| Err(out_of_time(self.commands.link.problem())))
    }
}

#[async_trait]
impl Keys for RedisStore {
    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    async fn kept(&self, id: &RecordId) -> Result<Option<Kept>, StoreError> {
        self.get(id).await
    }

    async fn place(
        &self,
        new: &RecordId,
        old: &RecordId,
        record: &Record,
    ) -> Result<Placed, StoreError> {
        let now = self.now();
        let key = self.prefix.session(new);
        let (from, record) = (*old, record.clone());
        let ttl = ttl(record.expires_at, now);
        let pending = Kept::Pending { from, record }.to_bytes();
        let reply = self.commands.run(&script::PLACE, |command| {
            Self::fill_keys(command, &key);
            Self::fill_write(command, &pending, now, ttl);
        });
        match reply.await?.value {
            Value::Int(1) => Ok(Placed::Done),
            Value::Int(0) => Ok(Placed::Taken),
            Value::Int(_) => Ok(Placed::Left),
            _ => Err(unexpected()),
        }
    }

    async fn note(&self, new: &RecordId, record: &Record) -> Result<(), StoreError> {
        let Some(index) = self.index(record) else {
            return Ok(());
        };
        let reply = self.commands.run(&script::NOTE, |command| {
            Self::fill_keys(command, &index.key);
            index.fill(command, new);
        });
        match reply.await?.value {
            Value::Int(entries) => self.tidy_if_due(record, entries),
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    async fn retire(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Retired, StoreError> {
        let now = self.now();
        let key = self.prefix.session(old);
        let moved = moved(new, record);
        let reply = self.commands.run(&script::RETIRE, |command| {
            Self::fill_keys(command, &key);
            Self::fill_write(command, &moved, now, ttl(record.expires_at, now));
            command.arg(&version_bytes(&expected));
        });
        match reply.await?.value {
            Value::Int(0) => Ok(Retired::Gone),
            Value::Int(_) => Ok(Retired::Done),
            value => Ok(read(value)?.map_or(Retired::Gone, Retired::Present)),
        }
    }

    async fn confirm(&self, new: &RecordId, version: Version) -> Result<Option<Kept>, StoreError> {
        let key = self.prefix.session(new);
        let reply = self.commands.run(&script::CONFIRM, |command| {
            Self::fill_keys(command, &key);
            command.arg(&version_bytes(&version));
        });
        read(reply.await?.value)
    }

    async fn take_back(&self, new: &RecordId, version: Version) -> Result<(), StoreError> {
        let key = self.prefix.session(new);
        let reply = self.commands.run(&script::TAKE_BACK, |command| {
            Self::fill_keys(command, &key);
            command.arg(&version_bytes(&version));
        });
        reply.await.map(drop)
    }

    async fn forget_soon(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
    ) -> Result<(), StoreError> {
        let key = self.prefix.session(old);
        let moved = moved(new, record);
        let reply = self.commands.run(&script::FORGET, |command| {
            Self::fill_keys(command, &key);
            command.arg(&moved).arg(NOTE_TTL_MILLIS);
        });
        reply.await?;
        match &record.user {
            Some(user) => self.remove_entries(user, &[*old]).await,
            None => Ok(()),
        }
    }
}

fn moved(new: &RecordId, record: &Record) -> Vec<u8> {
    let (version, to) = (record.version, *new);
    Kept::Moved { version, to }.to_bytes()
}
