//! What happened how often, told to the `metrics` facade where the feature is on.

/// Something that is counted. The name of its counter is `tower_keep_<event>_total`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Load,
    Create,
    Update,
    Rotate,
    Touch,
    Delete,
    Conflict,
    Replay,
    Gone,
    StoreError,
    ExpiredDelete,
    CacheHit,
    CacheMiss,
    CacheError,
}

#[cfg(feature = "metrics")]
pub(crate) fn add(event: Event, times: u64) {
    let name = match event {
        Event::Load => "tower_keep_loads_total",
        Event::Create => "tower_keep_creates_total",
        Event::Update => "tower_keep_updates_total",
        Event::Rotate => "tower_keep_rotates_total",
        Event::Touch => "tower_keep_touches_total",
        Event::Delete => "tower_keep_deletes_total",
        Event::Conflict => "tower_keep_conflicts_total",
        Event::Replay => "tower_keep_replays_total",
        Event::Gone => "tower_keep_gone_total",
        Event::StoreError => "tower_keep_store_errors_total",
        Event::ExpiredDelete => "tower_keep_expired_deletes_total",
        Event::CacheHit => "tower_keep_cache_hits_total",
        Event::CacheMiss => "tower_keep_cache_misses_total",
        Event::CacheError => "tower_keep_cache_errors_total",
    };
    metrics::counter!(name).increment(times);
}

#[cfg(not(feature = "metrics"))]
pub(crate) fn add(_: Event, _: u64) {}

/// Counts what has happened once.
pub(crate) fn count(event: Event) {
    add(event, 1);
}

/// Measures a commit from now on, until it is [stopped](CommitTimer::stop).
#[cfg(feature = "metrics")]
#[derive(Debug)]
pub(crate) struct CommitTimer(std::time::Instant);

#[cfg(feature = "metrics")]
impl CommitTimer {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn stop(self) {
        metrics::histogram!("tower_keep_commit_seconds").record(self.0.elapsed());
    }
}

#[cfg(not(feature = "metrics"))]
#[derive(Debug)]
pub(crate) struct CommitTimer;

#[cfg(not(feature = "metrics"))]
impl CommitTimer {
    pub(crate) fn start() -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the same call as with the feature")]
    pub(crate) fn stop(self) {}
}
