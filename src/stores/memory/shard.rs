//! A part of the store under one lock: records in the order of their use, and an index by user.

use std::collections::{HashMap, HashSet};

use hashlink::LinkedHashMap;

use crate::{
    id::RecordId, record::Record, store::StoredSession, timestamp::Timestamp, user::UserId,
};

/// Records, the least recently used first. Never over its bounds.
#[derive(Debug, Default)]
pub(super) struct Shard {
    records: LinkedHashMap<RecordId, Record>,
    users: HashMap<UserId, HashSet<RecordId>>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Shard {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            entries_max,
            bytes_max,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// The record, which counts as used now.
    pub(super) fn get(&mut self, id: &RecordId) -> Option<&Record> {
        self.records.to_back(id).map(|record| &*record)
    }

    /// The same, for its times to be changed.
    pub(super) fn get_mut(&mut self, id: &RecordId) -> Option<&mut Record> {
        self.records.to_back(id)
    }

    pub(super) fn peek(&self, id: &RecordId) -> Option<&Record> {
        self.records.get(id)
    }

    /// Puts a record in, in place of one that is there, and makes room for it.
    pub(super) fn put(&mut self, id: RecordId, record: Record) {
        self.remove(&id);
        let size = size_of(&record);
        while self.records.len() >= self.entries_max || self.bytes + size > self.bytes_max {
            let Some(oldest) = self.records.front().map(|(id, _)| *id) else {
                break;
            };
            self.remove(&oldest);
            tracing::debug!(record = ?oldest, "the memory store is full and evicts a session");
        }
        if let Some(user) = &record.user {
            self.users.entry(user.clone()).or_default().insert(id);
        }
        self.bytes += size;
        self.records.insert(id, record);
        debug_assert!(self.bytes <= self.bytes_max && self.records.len() <= self.entries_max);
    }

    pub(super) fn remove(&mut self, id: &RecordId) -> Option<Record> {
        let record = self.records.remove(id)?;
        self.bytes -= size_of(&record);
        if let Some(user) = &record.user
            && let Some(ids) = self.users.get_mut(user)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.users.remove(user);
            }
        }
        Some(record)
    }

    pub(super) fn of_user(&self, user: &UserId) -> impl Iterator<Item = StoredSession> {
        let ids = self.users.get(user).into_iter().flatten();
        ids.filter_map(|id| {
            let record = self.records.get(id)?.clone();
            Some(StoredSession { id: *id, record })
        })
    }

    pub(super) fn live_ids(&self, now: Timestamp) -> impl Iterator<Item = &RecordId> {
        let live = move |(id, record): (_, &Record)| is_live(record, now).then_some(id);
        self.records.iter().filter_map(live)
    }

    /// Removes up to `limit` expired records and answers how many.
    pub(super) fn remove_expired(&mut self, now: Timestamp, limit: usize) -> usize {
        let expired = |(id, record): (&RecordId, &Record)| (!is_live(record, now)).then_some(*id);
        let expired: Vec<_> = self
            .records
            .iter()
            .filter_map(expired)
            .take(limit)
            .collect();
        for id in &expired {
            self.remove(id);
        }
        expired.len()
    }
}

pub(super) fn is_live(record: &Record, now: Timestamp) -> bool {
    !record.is_expired(now)
}

/// What a record counts for: a little more than what it takes.
pub(super) fn size_of(record: &Record) -> usize {
    let user = record.user.as_ref().map_or(0, |user| user.as_str().len());
    ENTRY_OVERHEAD + user + record.payload.len()
}

/// The record itself, its id in both maps, their links and free places.
pub(super) const ENTRY_OVERHEAD: usize = 256;
