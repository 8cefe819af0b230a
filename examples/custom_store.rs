//! A store of one's own, whole. It keeps bytes under keys, as any key-value store with
//! compare-and-set does; the map stands in for one.
//!
//! `cargo test --all-features --example custom_store` runs the contract's tests against it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use axum::{Router, routing::get};
use tower_keep::{
    Created, Error, Record, RecordId, Rotated, Session, SessionLayer, SessionStore, StoreError,
    Timestamp, Updated, Version,
};

/// Sessions as bytes in a map.
#[derive(Default)]
struct MapStore {
    records: Mutex<HashMap<RecordId, Vec<u8>>>,
}

impl MapStore {
    fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, Vec<u8>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there and has not expired. Damage is an error, and never "not there".
fn live(records: &HashMap<RecordId, Vec<u8>>, id: &RecordId) -> Result<Option<Record>, StoreError> {
    let Some(bytes) = records.get(id) else {
        return Ok(None);
    };
    let record = Record::from_bytes(bytes.as_slice())
        .map_err(|error| StoreError::new("map", error.kind(), error))?;
    let now = Timestamp::from(SystemTime::now());
    Ok(Some(record).filter(|record| !record.is_expired(now)))
}

#[async_trait]
impl SessionStore for MapStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        live(&self.lock(), id)
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        let mut records = self.lock();
        if let Some(present) = live(&records, id)? {
            return Ok(match present.version == record.version {
                true => Created::Done,
                false => Created::Exists,
            });
        }
        records.insert(*id, record.to_bytes());
        Ok(Created::Done)
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let mut records = self.lock();
        match live(&records, id)? {
            None => Ok(Updated::Gone),
            Some(present) if present.version == record.version => Ok(Updated::Done),
            Some(present) if present.version != expected => Ok(Updated::Conflict(present)),
            Some(_) => {
                records.insert(*id, record.to_bytes());
                Ok(Updated::Done)
            }
        }
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        let mut records = self.lock();
        match live(&records, new)? {
            Some(present) if old != new && present.version == record.version => {
                return Ok(Rotated::Done);
            }
            Some(_) => return Ok(Rotated::Exists),
            None => {}
        }
        match live(&records, old)? {
            None => Ok(Rotated::Gone),
            Some(present) if present.version != expected => Ok(Rotated::Conflict(present)),
            Some(_) => {
                records.remove(old);
                records.insert(*new, record.to_bytes());
                Ok(Rotated::Done)
            }
        }
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let mut records = self.lock();
        let present = live(&records, id)?;
        let Some(mut record) = present.filter(|present| present.version == expected) else {
            return Ok(false);
        };
        record.expires_at = record.expires_at.max(expires_at);
        records.insert(*id, record.to_bytes());
        Ok(true)
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let mut records = self.lock();
        let present = live(&records, id);
        records.remove(id);
        // A damaged record is gone now as well.
        Ok(present.is_ok_and(|present| present.is_some()))
    }
}

/// Shows no record.
impl fmt::Debug for MapStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStore").finish_non_exhaustive()
    }
}

async fn counter(session: Session) -> Result<String, Error> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(format!("visits: {visits}\n"))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sessions = SessionLayer::new(MapStore::default());
    let app = Router::new().route("/", get(counter)).layer(sessions);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000");
    axum::serve(listener, app).await
}

#[cfg(test)]
mod tests {
    use super::MapStore;

    tower_keep::testing::conformance_tests!(MapStore::default());
}
