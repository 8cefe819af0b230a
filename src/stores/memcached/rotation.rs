//! A session gets another key, perhaps at another node.

use async_trait::async_trait;

use super::{If, Item, MemcachedStore, NOTE_SECONDS, Stored, read, seconds};
use crate::{
    error::StoreError,
    id::RecordId,
    record::{Record, Version},
    stores::keyed::{Kept, Keys, Placed, Retired},
    timestamp::Timestamp,
};

#[async_trait]
impl Keys for MemcachedStore {
    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    async fn kept(&self, id: &RecordId) -> Result<Option<Kept>, StoreError> {
        self.slot(id).kept().await
    }

    async fn place(
        &self,
        new: &RecordId,
        old: &RecordId,
        record: &Record,
    ) -> Result<Placed, StoreError> {
        let slot = self.slot(new);
        let now = self.now();
        let ttl = seconds(record.expires_at, now);
        let (from, version) = (*old, record.version);
        let record = record.clone();
        let pending = Kept::Pending { from, record }.to_bytes();
        loop {
            let condition = match slot.item().await? {
                None => If::Absent,
                Some(Item { value, cas }) => match read(value)? {
                    Kept::Ended | Kept::Moved { .. } => return Ok(Placed::Left),
                    Kept::Record(present)
                    | Kept::Pending {
                        record: present, ..
                    } if present.version == version => {
                        return Ok(Placed::Done);
                    }
                    Kept::Record(present) if present.is_expired(now) => If::Cas(cas),
                    Kept::Record(_) | Kept::Pending { .. } => return Ok(Placed::Taken),
                },
            };
            if slot.set(&pending, ttl, condition).await? == Stored::Done {
                return Ok(Placed::Done);
            }
        }
    }

    /// There is no index.
    async fn note(&self, _new: &RecordId, _record: &Record) -> Result<(), StoreError> {
        Ok(())
    }

    async fn retire(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Retired, StoreError> {
        let slot = self.slot(old);
        let now = self.now();
        let (version, to) = (record.version, *new);
        let moved = Kept::Moved { version, to }.to_bytes();
        let ttl = seconds(record.expires_at, now);
        loop {
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(Retired::Gone);
            };
            match read(value)? {
                Kept::Moved { version: moved, .. } if moved == version => return Ok(Retired::Done),
                Kept::Moved { .. } | Kept::Ended => return Ok(Retired::Gone),
                Kept::Record(present) if present.is_expired(now) => return Ok(Retired::Gone),
                Kept::Record(present) if present.version == expected => {}
                kept => return Ok(Retired::Present(kept)),
            }
            if slot.set(&moved, ttl, If::Cas(cas)).await? == Stored::Done {
                return Ok(Retired::Done);
            }
        }
    }

    async fn confirm(&self, new: &RecordId, version: Version) -> Result<Option<Kept>, StoreError> {
        let slot = self.slot(new);
        loop {
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(None);
            };
            let record = match read(value)? {
                Kept::Pending { record, .. } if record.version == version => record,
                kept => return Ok(Some(kept)),
            };
            let ttl = seconds(record.expires_at, self.now());
            if slot.set(&record.to_bytes(), ttl, If::Cas(cas)).await? == Stored::Done {
                return Ok(Some(Kept::Record(record)));
            }
        }
    }

    async fn take_back(&self, new: &RecordId, version: Version) -> Result<(), StoreError> {
        let slot = self.slot(new);
        loop {
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(());
            };
            match read(value)? {
                Kept::Pending { record, .. } if record.version == version => {}
                _ => return Ok(()),
            }
            if slot.remove(cas).await? {
                return Ok(());
            }
        }
    }

    async fn forget_soon(
        &self,
        old: &RecordId,
        _new: &RecordId,
        record: &Record,
    ) -> Result<(), StoreError> {
        let slot = self.slot(old);
        loop {
            let Some(Item { value, cas }) = slot.item().await? else {
                return Ok(());
            };
            match Kept::from_bytes(value.clone()) {
                Ok(Kept::Moved { version, .. }) if version == record.version => {}
                _ => return Ok(()),
            }
            if slot.set(&value, NOTE_SECONDS, If::Cas(cas)).await? == Stored::Done {
                return Ok(());
            }
        }
    }
}
