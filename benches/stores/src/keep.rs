//! A store of tower-keep.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use tower_keep::{
    Created, Payload, Record, RecordId, SessionStore, Timestamp, Updated, UserId, Version,
    WriteToken,
};

use crate::contender::{Contender, IDLE, PAYLOAD_LEN, USER, id_of, millis_from_now, token_of};

pub struct Keep<S> {
    store: S,
    revisions: Vec<AtomicI64>,
    payload: Payload,
}

impl<S: SessionStore> Keep<S> {
    pub fn new(store: S, sessions: usize) -> Self {
        Self {
            store,
            revisions: (0..sessions).map(|_| AtomicI64::new(1)).collect(),
            payload: vec![b'x'; PAYLOAD_LEN].into(),
        }
    }

    fn record(&self, revision: i64) -> Record {
        let after = |later| Timestamp::from_millis(millis_from_now(later));
        Record {
            version: version(revision),
            user: UserId::parse(USER),
            created_at: after(Duration::ZERO),
            expires_at: after(IDLE),
            absolute_deadline: after(2 * IDLE),
            payload: self.payload.clone(),
        }
    }
}

#[async_trait]
impl<S: SessionStore> Contender for Keep<S> {
    async fn create(&self, number: usize) {
        let created = self.store.create(&record_id(number), &self.record(1)).await;
        assert_eq!(created.expect("the store"), Created::Done);
    }

    async fn load(&self, number: usize) {
        let record = self.store.load(&record_id(number)).await;
        let record = record.expect("the store").expect("a record");
        assert_eq!(record.payload.len(), PAYLOAD_LEN);
    }

    async fn update(&self, number: usize) {
        let seen = self.revisions[number].fetch_add(1, Ordering::Relaxed);
        let record = self.record(seen + 1);
        let updated = self
            .store
            .update(&record_id(number), &record, version(seen))
            .await;
        assert_eq!(updated.expect("the store"), Updated::Done);
    }

    async fn delete(&self, number: usize) {
        let deleted = self.store.delete(&record_id(number)).await;
        assert!(deleted.expect("the store"));
    }
}

fn record_id(number: usize) -> RecordId {
    RecordId::from_bytes(id_of(number))
}

fn version(revision: i64) -> Version {
    Version {
        revision: revision.cast_unsigned(),
        token: WriteToken::from_bytes(token_of(revision)),
    }
}
