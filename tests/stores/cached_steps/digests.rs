//! What tells two states of a world apart.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use tower_keep::Record;

/// A hash, so long that no two states that are met have the same by chance.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub(super) struct Digest([u64; 2]);

impl Digest {
    pub(super) fn of(value: &impl Hash) -> Self {
        Self([1_u8, 2].map(|key| {
            let mut hasher = DefaultHasher::new();
            (key, value).hash(&mut hasher);
            hasher.finish()
        }))
    }

    /// The payload of each record here names its write; all else of it stays as it was.
    pub(super) fn of_record(record: Option<&Record>) -> Self {
        Self::of(&record.map(|record| {
            let deadline = record.expires_at.as_millis();
            let payload = record.payload.as_bytes();
            (record.version.revision, payload, deadline)
        }))
    }
}

/// What the past has left that can not be looked at.
#[derive(Debug, Hash)]
pub(super) struct Past {
    /// What each actor knows. It is code that does the same if it is told the same: so all that it knows is what
    /// each of its steps has let it see.
    actors: Vec<Digest>,
    /// What has been done to a cache, and how often. With the copy that it has, that is all that there is in one
    /// while its clock stands still.
    done: BTreeMap<(usize, &'static str), u64>,
}

impl Past {
    pub(super) fn new(actors: usize) -> Self {
        Self {
            actors: vec![Digest::default(); actors],
            done: BTreeMap::new(),
        }
    }

    pub(super) fn sees(&mut self, actor: usize, seen: &impl Hash) {
        let knows = &mut self.actors[actor];
        *knows = Digest::of(&(*knows, seen));
    }

    pub(super) fn does(&mut self, cache: usize, what: &'static str) {
        *self.done.entry((cache, what)).or_default() += 1;
    }

    /// What has been done to that cache.
    pub(super) fn of_cache(&self, cache: usize) -> Digest {
        let done: Vec<_> = self.done.range((cache, "")..(cache + 1, "")).collect();
        Digest::of(&done)
    }
}
