//! Leaves a cache that fails alone for a while.

use std::{
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// One for each part of the cache.
#[derive(Debug, Default)]
pub(super) struct Breakers([Breaker; Self::COUNT]);

impl Breakers {
    /// More parts than that share breakers.
    pub(super) const COUNT: usize = 16;

    pub(super) fn of(&self, part: usize) -> &Breaker {
        &self.0[part % Self::COUNT]
    }
}

/// Lets everybody through until a call fails; then nobody, but for one caller now and then who tries.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// A copy of the other, to be asked without a lock.
    is_open: AtomicBool,
    /// When the next caller may try.
    next_try: Mutex<Option<Instant>>,
}

impl Breaker {
    /// Whether this caller may ask the cache.
    pub(super) fn lets_through(&self) -> bool {
        if !self.is_open.load(Relaxed) {
            return true;
        }
        let mut next_try = self.next_try();
        let now = Instant::now();
        match *next_try {
            Some(time) if time > now => false,
            Some(_) => {
                *next_try = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    /// Answers whether it was the first failure after a success.
    pub(super) fn failed(&self) -> bool {
        let mut next_try = self.next_try();
        self.is_open.store(true, Relaxed);
        let now = Instant::now();
        let is_first = next_try.is_none();
        // A try that is about to come is not put off: who pays debts tries more often than that.
        if next_try.is_none_or(|time| time <= now) {
            *next_try = Some(now + PAUSE);
        }
        is_first
    }

    pub(super) fn succeeded(&self) {
        if self.is_open.load(Relaxed) {
            let mut next_try = self.next_try();
            self.is_open.store(false, Relaxed);
            *next_try = None;
        }
    }

    fn next_try(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next_try.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long nobody tries after a failure. Of a cache that is back, this is all that is lost; a cache that
/// hangs costs one caller its time limit this often.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_caller_tries_now_and_then_until_one_succeeds() {
        let breaker = Breaker::default();
        assert!(breaker.lets_through());
        assert!(breaker.failed());
        for _ in 0..3 {
            assert!(!breaker.lets_through());
            tokio::time::advance(PAUSE).await;
            assert!(breaker.lets_through(), "one tries");
            assert!(!breaker.lets_through(), "the others do not");
            assert!(!breaker.failed());
        }
        // Failures of others do not put the next try off.
        tokio::time::advance(PAUSE / 2).await;
        assert!(!breaker.failed());
        tokio::time::advance(PAUSE / 2).await;
        assert!(breaker.lets_through());
        breaker.succeeded();
        assert!(breaker.lets_through());
        assert!(breaker.lets_through());
        assert!(breaker.failed());
    }
}
