//! A clock that goes when it is told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use crate::{clock::Clock, timestamp::Timestamp};

/// Stands still until it is [advanced](ManualClock::advance). Clones are the same clock, so that the
/// layer, the store and the test share one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_keep::{Clock, MemoryStore, SessionLayer, testing::ManualClock};
///
/// let clock = ManualClock::new();
/// let store = MemoryStore::new().with_clock(clock.clone());
/// let sessions = SessionLayer::new(store).with_clock(clock.clone());
///
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60 * 60));
/// assert_eq!(clock.now().duration_since(before)?, Duration::from_secs(60 * 60));
/// # Ok::<(), std::time::SystemTimeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows the present time, to the millisecond.
    #[must_use]
    pub fn new() -> Self {
        let now = Timestamp::from(SystemTime::now());
        Self(Arc::new(AtomicI64::new(now.as_millis())))
    }

    /// Moves it forward, by whole milliseconds.
    pub fn advance(&self, duration: Duration) {
        let millis = Timestamp::from_millis(0).saturating_add(duration);
        self.0.fetch_add(millis.as_millis(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst)).into()
    }
}
