//! A timer that is pending while requests wait for the store.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

/// Makes the timers of requests cheap.
///
/// tokio interrupts its driver, which is a system call, for each timer that is set while none is
/// pending that ends before it. A server whose requests wait for their store together, and are
/// answered together, is in that state each time: a call of the store cost two to four system calls
/// more. So one timer is kept pending, from the first request that waits until none has for a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<AtomicU8>);

impl Pulse {
    /// A request waits.
    pub(crate) fn keep(&self) {
        match self.0.load(Relaxed) {
            WANTED => {}
            // Unless it has just stopped: then the next one starts it.
            BEATING => drop(self.0.compare_exchange(BEATING, WANTED, Relaxed, Relaxed)),
            _ => self.start(),
        }
    }

    #[cold]
    fn start(&self) {
        let started = self.0.compare_exchange(STILL, WANTED, AcqRel, Relaxed);
        if started.is_ok() {
            // From here on, so that a runtime that drops the task at once stops the pulse.
            let beating = Beating(self.clone());
            tokio::spawn(async move { beating.run().await });
        }
    }
}

/// Stops the pulse when it is dropped, by its own end or by that of the runtime.
struct Beating(Pulse);

impl Beating {
    async fn run(&self) {
        let Pulse(state) = &self.0;
        loop {
            tokio::time::sleep(BEAT).await;
            if state.swap(BEATING, Acquire) != WANTED {
                return;
            }
        }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        let Pulse(state) = &self.0;
        state.store(STILL, Release);
    }
}

/// No timer is pending.
const STILL: u8 = 0;

/// It is, and no request has waited since the last beat.
const BEATING: u8 = 1;

/// It is, and a request has.
const WANTED: u8 = 2;

/// Shorter than the timers of stores and layers, which are half a second and more, and long enough
/// that a server does not notice it.
const BEAT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{runtime::Handle, time::Instant};

    fn tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    #[tokio::test(start_paused = true)]
    async fn it_beats_once_however_many_wait_and_stops_when_none_has_for_a_beat() {
        let pulse = Pulse::default();
        for _ in 0..3 {
            for _ in 0..10 {
                pulse.keep();
            }
            assert_eq!(tasks(), 1);
            tokio::time::sleep(BEAT).await;
        }
        let last = Instant::now();
        while tasks() > 0 {
            tokio::time::sleep(BEAT / 10).await;
        }
        assert!(last.elapsed() <= 2 * BEAT);
        pulse.keep();
        assert_eq!(tasks(), 1);
    }

    #[test]
    fn one_that_ended_with_its_runtime_begins_in_another() {
        let pulse = Pulse::default();
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async {
                pulse.keep();
                assert_eq!(tasks(), 1);
            });
        }
    }
}
