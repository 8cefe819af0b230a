//! Until when a cache is known to have heard of all writes.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use tokio::time::Instant;

/// A time that is moved on by each sign of life of the server.
///
/// Not a flag that is set when the connection breaks: a connection that is cut silently, or a process that
/// was stopped for a while, would go on to serve what it has.
#[derive(Debug)]
pub(super) struct Freshness {
    epoch: Instant,
    /// In milliseconds after the epoch; 0 if it is not fresh.
    until: AtomicU64,
}

impl Freshness {
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.millis(now) < self.until.load(Acquire)
    }

    pub(super) fn extend(&self, until: Instant) {
        self.until.fetch_max(self.millis(until), Release);
    }

    pub(super) fn end(&self) {
        self.until.store(0, Release);
    }

    fn millis(&self, time: Instant) -> u64 {
        let millis = time.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            until: AtomicU64::new(0),
        }
    }
}
