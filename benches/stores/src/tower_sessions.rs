//! A store of tower-sessions.

use std::collections::HashMap;

use async_trait::async_trait;
use time::OffsetDateTime;
use tower_sessions_core::{
    SessionStore,
    session::{Id, Record},
};

use crate::contender::{Contender, IDLE, PAYLOAD_LEN, id_of};

pub struct TowerSessions<S>(pub S);

#[async_trait]
impl<S: SessionStore> Contender for TowerSessions<S> {
    async fn create(&self, number: usize) {
        let mut record = record(number);
        self.0.create(&mut record).await.expect("the store");
        assert_eq!(record.id, id(number));
    }

    async fn load(&self, number: usize) {
        let record = self.0.load(&id(number)).await;
        let record = record.expect("the store").expect("a record");
        assert_eq!(record.data[KEY].as_str().map(str::len), Some(PAYLOAD_LEN));
    }

    async fn update(&self, number: usize) {
        self.0.save(&record(number)).await.expect("the store");
    }

    async fn delete(&self, number: usize) {
        self.0.delete(&id(number)).await.expect("the store");
    }
}

/// One value, which is nearly all of what is kept.
fn record(number: usize) -> Record {
    Record {
        id: id(number),
        data: HashMap::from([(KEY.to_owned(), "x".repeat(PAYLOAD_LEN).into())]),
        expiry_date: OffsetDateTime::now_utc() + IDLE,
    }
}

fn id(number: usize) -> Id {
    let bytes = id_of(number);
    Id(i128::from_be_bytes(*bytes.first_chunk().expect("16 bytes")))
}

const KEY: &str = "value";
