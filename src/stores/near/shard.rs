//! A part of the cache under one lock.

use std::time::Duration;

use hashlink::LinkedHashMap;
use tokio::time::Instant;

use crate::{
    id::RecordId,
    record::{Record, Version},
    timestamp::Timestamp,
};

/// Copies, the least recently used first. Never over its bounds.
#[derive(Debug)]
pub(super) struct Shard {
    copies: LinkedHashMap<RecordId, Copy>,
    bytes: usize,
    bytes_max: usize,
    /// Each counts what has happened to the ids that fall to it.
    generations: Box<[u64; GENERATIONS]>,
}

#[derive(Debug)]
struct Copy {
    record: Record,
    /// Of the ticket that brought it, or its first predecessor.
    since: Instant,
}

/// What a fill has to show: that nothing has happened to its id since.
#[derive(Clone, Debug)]
#[expect(unnameable_types, reason = "only the cache makes and reads it")]
pub struct Ticket {
    generation: u64,
    since: Instant,
}

impl Shard {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            copies: LinkedHashMap::new(),
            bytes: 0,
            bytes_max,
            generations: Box::new([0; GENERATIONS]),
        }
    }

    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.make_room(0);
    }

    pub(super) fn len(&self) -> usize {
        self.copies.len()
    }

    /// The copy, which counts as used now, unless it is older than that.
    pub(super) fn get(
        &mut self,
        id: &RecordId,
        age_max: Duration,
        now: Instant,
    ) -> Option<&Record> {
        let age = |copy: &Copy| now.saturating_duration_since(copy.since);
        let is_outdated = |copy: &mut Copy| age(copy) >= age_max;
        if self.copies.to_back(id).is_some_and(is_outdated) {
            self.take(id);
        }
        self.copies.get(id).map(|copy| &copy.record)
    }

    pub(super) fn ticket(&self, id: &RecordId) -> Ticket {
        Ticket {
            generation: self.generations[generation_of(id)],
            since: Instant::now(),
        }
    }

    pub(super) fn fill(&mut self, id: &RecordId, record: &Record, ticket: &Ticket) {
        let is_valid = self.generations[generation_of(id)] == ticket.generation;
        if is_valid && !self.copies.contains_key(id) {
            self.put(*id, record.clone(), ticket.since);
        }
    }

    pub(super) fn replace(&mut self, id: &RecordId, record: &Record, expected: Version) {
        self.void_tickets(id);
        let Some(present) = self.copies.get(id) else {
            return;
        };
        if present.record.version == expected {
            let since = present.since;
            self.take(id);
            self.put(*id, record.clone(), since);
        } else if present.record.version.revision < record.version.revision {
            self.take(id);
        }
    }

    pub(super) fn touch(&mut self, id: &RecordId, expires_at: Timestamp, expected: Version) {
        if let Some(copy) = self.copies.get_mut(id)
            && copy.record.version == expected
        {
            copy.record.expires_at = copy.record.expires_at.max(expires_at);
        }
    }

    pub(super) fn remove(&mut self, id: &RecordId) {
        self.void_tickets(id);
        self.take(id);
    }

    /// Lets go of a copy that is older than that revision, and of all tickets.
    pub(super) fn remove_older(&mut self, id: &RecordId, revision: u64) {
        self.void_tickets(id);
        let is_older = |copy: &Copy| copy.record.version.revision < revision;
        if self.copies.get(id).is_some_and(is_older) {
            self.take(id);
        }
    }

    pub(super) fn clear(&mut self) {
        self.copies.clear();
        self.bytes = 0;
        for generation in self.generations.iter_mut() {
            *generation += 1;
        }
    }

    fn void_tickets(&mut self, id: &RecordId) {
        self.generations[generation_of(id)] += 1;
    }

    fn take(&mut self, id: &RecordId) {
        if let Some(copy) = self.copies.remove(id) {
            self.bytes -= size_of(&copy.record);
        }
    }

    /// Makes room for it. One that would need more than there is has no copy.
    fn put(&mut self, id: RecordId, record: Record, since: Instant) {
        let size = size_of(&record);
        if size > self.bytes_max {
            return;
        }
        self.make_room(size);
        self.bytes += size;
        self.copies.insert(id, Copy { record, since });
        debug_assert!(self.bytes <= self.bytes_max);
    }

    fn make_room(&mut self, size: usize) {
        while self.bytes + size > self.bytes_max {
            let Some((_, oldest)) = self.copies.pop_front() else {
                break;
            };
            self.bytes -= size_of(&oldest.record);
        }
    }
}

/// Ids are uniformly distributed; the first bytes choose the shard.
fn generation_of(id: &RecordId) -> usize {
    let bytes = id.as_bytes();
    usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) % GENERATIONS
}

/// What a copy counts for: a little more than what it takes.
pub(super) fn size_of(record: &Record) -> usize {
    let user = record.user.as_ref().map_or(0, |user| user.as_str().len());
    COPY_OVERHEAD + user + record.payload.len()
}

/// The record itself, its id, their links and free places.
pub(super) const COPY_OVERHEAD: usize = 256;

/// Two ids that share one disturb each other's fills, which then are left out. With 16 shards there are
/// 4096 of them, and a fill takes a round trip.
const GENERATIONS: usize = 256;
