//! A store that keeps its contract in the simplest way, and remembers what it has held.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use tower_keep::{
    Created, Payload, Record, RecordId, Rotated, SessionStore, StoreError, Timestamp, Updated,
    Version, WriteToken,
};

use super::{
    board::{Board, Call},
    digests::Digest,
};

/// The session that all is about.
pub(super) const SESSION: RecordId = RecordId::from_bytes([7; RecordId::LEN]);

/// Clones are the same sheet.
#[derive(Clone, Debug, Default)]
pub(super) struct Sheet(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) records: HashMap<RecordId, Record>,
    /// What the session has been, one after another; `None` is its end. Touches are none of it.
    pub(super) history: Vec<Option<Record>>,
}

impl Sheet {
    /// With the session in it.
    pub(super) fn new() -> Self {
        let sheet = Self::default();
        let first = record(1, [0; 2]);
        sheet.lines().put(&SESSION, Some(first));
        sheet
    }

    pub(super) fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap()
    }

    /// What is stored of the session.
    pub(super) fn present(&self) -> Digest {
        Digest::of_record(self.lines().records.get(&SESSION))
    }

    /// What is stored of the session, and was before.
    pub(super) fn digest(&self) -> Digest {
        let lines = self.lines();
        let history = lines.history.iter();
        let history: Vec<_> = history
            .map(|then| Digest::of_record(then.as_ref()))
            .collect();
        Digest::of(&(Digest::of_record(lines.records.get(&SESSION)), history))
    }
}

impl Lines {
    fn put(&mut self, id: &RecordId, record: Option<Record>) {
        match &record {
            Some(record) => self.records.insert(*id, record.clone()),
            None => self.records.remove(id),
        };
        if *id == SESSION {
            self.history.push(record);
        }
    }

    fn update(&mut self, id: &RecordId, record: &Record, expected: Version) -> Updated {
        match self.records.get(id) {
            None => Updated::Gone,
            Some(present) if present.version == record.version => Updated::Done,
            Some(present) if present.version != expected => Updated::Conflict(present.clone()),
            Some(_) => {
                self.put(id, Some(record.clone()));
                Updated::Done
            }
        }
    }

    fn rotate(
        &mut self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Rotated {
        match self.records.get(old) {
            None => Rotated::Gone,
            Some(present) if present.version != expected => Rotated::Conflict(present.clone()),
            Some(_) => {
                self.put(new, Some(record.clone()));
                self.put(old, None);
                Rotated::Done
            }
        }
    }

    fn touch(&mut self, id: &RecordId, expires_at: Timestamp, expected: Version) -> bool {
        let Some(present) = self.records.get_mut(id) else {
            return false;
        };
        if present.version == expected {
            present.expires_at = present.expires_at.max(expires_at);
        }
        present.version == expected
    }

    fn delete(&mut self, id: &RecordId) -> bool {
        let was_there = self.records.contains_key(id);
        if was_there {
            self.put(id, None);
        }
        was_there
    }
}

/// A record of that revision, by that attempt of that actor.
pub(super) fn record(revision: u64, by: [u8; 2]) -> Record {
    let mut token = [0; WriteToken::LEN];
    token[..2].copy_from_slice(&by);
    let token = WriteToken::from_bytes(token);
    Record {
        version: Version { revision, token },
        user: None,
        created_at: Timestamp::from_millis(0),
        expires_at: Timestamp::from_millis(FAR),
        absolute_deadline: Timestamp::from_millis(i64::MAX),
        payload: Payload::from(by.to_vec()),
    }
}

/// Later than any of these tests runs: in the year 2128.
pub(super) const FAR: i64 = 5_000_000_000_000;

/// A sheet behind the board.
#[derive(Clone, Debug)]
pub(super) struct SteppedStore {
    pub(super) sheet: Sheet,
    pub(super) board: Board,
    /// On which node it is called.
    pub(super) node: usize,
}

impl SteppedStore {
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut Lines) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let sheet = self.sheet.clone();
        let effect = move |_| effect(&mut sheet.lines());
        self.board.call(self.node, call, effect).await
    }
}

#[async_trait]
impl SessionStore for SteppedStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let id = *id;
        let load = move |lines: &mut Lines| lines.records.get(&id).cloned();
        self.call(Call::Load, load).await
    }

    async fn create(&self, _: &RecordId, _: &Record) -> Result<Created, StoreError> {
        unreachable!("the session is there")
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let (id, record) = (*id, record.clone());
        let update = move |lines: &mut Lines| lines.update(&id, &record, expected);
        self.call(Call::Write("update"), update).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        let (old, new, record) = (*old, *new, record.clone());
        let rotate = move |lines: &mut Lines| lines.rotate(&old, &new, &record, expected);
        self.call(Call::Write("rotate"), rotate).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let id = *id;
        let touch = move |lines: &mut Lines| lines.touch(&id, expires_at, expected);
        self.call(Call::Write("touch"), touch).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let id = *id;
        let delete = move |lines: &mut Lines| lines.delete(&id);
        self.call(Call::Write("delete"), delete).await
    }
}
