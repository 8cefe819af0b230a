//! Beats that rouse whoever waits.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    task::Waker,
    time::Duration,
};

use tokio::{
    runtime::{self, Handle},
    task,
};

/// Wakes that task at the next beat, which is within [`BEAT`]; or answers that it is none of tokio's tasks that asks.
///
/// For what hardly ever takes as long. A timer for each call is several times as dear as this, which remembers a task
/// once for all that it waits for until the next beat, and never takes it back: one that is woken for nothing now and
/// then does not notice.
pub(super) fn rouse(waker: &Waker) -> bool {
    let Some(task) = task::try_id() else {
        return false;
    };
    HERE.with_borrow_mut(|here| {
        if !here.will_rouse(task, waker) {
            here.rouse(task, waker.clone());
        }
    });
    true
}

thread_local! {
    static HERE: RefCell<Here> = RefCell::default();
}

/// The pulse of the runtime that this thread works for. Each of its threads has one, so that they have nothing to
/// contend for.
#[derive(Default)]
struct Here {
    runtime: Option<runtime::Id>,
    pulse: Pulse,
    /// Who will be roused by the beat of this number, by the address of the waker. One address is one waker until then, since
    /// the pulse holds it.
    roused: HashMap<usize, task::Id, BuildHasherDefault<AddressHasher>>,
    beat: u64,
}

impl Here {
    /// A wake before this poll is seen by it, and so is its beat. One during this poll leads to another poll.
    fn will_rouse(&self, task: task::Id, waker: &Waker) -> bool {
        self.beat == self.pulse.next_beat() && self.roused.get(&waker.data().addr()) == Some(&task)
    }

    fn rouse(&mut self, task: task::Id, waker: Waker) {
        let runtime = Handle::current();
        if self.runtime != Some(runtime.id()) {
            *self = Self {
                runtime: Some(runtime.id()),
                ..Self::default()
            };
        }
        let address = waker.data().addr();
        let beat = self.pulse.rouse(waker, &runtime);
        if mem::replace(&mut self.beat, beat) != beat {
            self.roused.clear();
        }
        self.roused.insert(address, task);
    }
}

/// Beats from the first one that waits until nobody has for a while.
#[derive(Clone, Default)]
struct Pulse(Arc<Beats>);

#[derive(Default)]
struct Beats {
    /// The number of the next one. Changes under the lock.
    next: AtomicU64,
    asleep: Mutex<Asleep>,
}

#[derive(Default)]
struct Asleep {
    wakers: Vec<Waker>,
    /// Whether there is a task that will wake them.
    is_beating: bool,
}

impl Pulse {
    fn next_beat(&self) -> u64 {
        self.0.next.load(Acquire)
    }

    /// Returns the number of the beat that will wake it.
    fn rouse(&self, waker: Waker, runtime: &Handle) -> u64 {
        let mut asleep = self.asleep();
        asleep.wakers.push(waker);
        let beat = self.next_beat();
        if !mem::replace(&mut asleep.is_beating, true) {
            drop(asleep);
            runtime.spawn(Beating(self.clone()).run());
        }
        beat
    }

    /// Returns who is to be woken.
    fn beat(&self, goes_on: bool) -> Vec<Waker> {
        let mut asleep = self.asleep();
        asleep.is_beating = goes_on;
        self.0.next.fetch_add(1, Release);
        mem::take(&mut asleep.wakers)
    }

    fn asleep(&self) -> MutexGuard<'_, Asleep> {
        let Beats { asleep, .. } = &*self.0;
        asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that beats.
struct Beating(Pulse);

impl Beating {
    async fn run(self) {
        let Self(pulse) = &self;
        loop {
            tokio::time::sleep(BEAT).await;
            let wakers = pulse.beat(true);
            if wakers.is_empty() {
                return;
            }
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// By its own end, or by that of its runtime. Who has come just then is woken early.
impl Drop for Beating {
    fn drop(&mut self) {
        let Self(pulse) = self;
        pulse.beat(false).into_iter().for_each(Waker::wake);
    }
}

/// Long enough that a server does not notice it.
pub(super) const BEAT: Duration = Duration::from_millis(100);

/// Addresses are chosen by nobody who means harm.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0 ^ u64::from_ne_bytes(word)).wrapping_mul(ODD);
        }
    }

    /// The upper bits depend on all of the address, and the table goes by the lower ones.
    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }
}

/// The golden ratio in 64 bits, after Knuth's multiplicative hashing.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use tokio::{
        runtime::Builder,
        task::{JoinSet, yield_now},
        time::{Instant, sleep},
    };

    use super::*;

    fn tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    /// Asks so many times in one poll, and is over when it is woken.
    async fn roused(times: u32) {
        let mut was_polled = false;
        poll_fn(|cx| {
            if mem::replace(&mut was_polled, true) {
                return Poll::Ready(());
            }
            for _ in 0..times {
                assert!(rouse(cx.waker()));
            }
            Poll::Pending
        })
        .await;
    }

    fn asleep() -> usize {
        HERE.with_borrow(|here| here.pulse.asleep().wakers.len())
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_roused_by_one_beat_and_remembered_once() {
        let start = Instant::now();
        let mut waiting = JoinSet::new();
        for _ in 0..10 {
            waiting.spawn(roused(3));
        }
        yield_now().await;
        assert_eq!(asleep(), 10);
        assert_eq!(tasks(), 11);
        waiting.join_all().await;
        assert_eq!(start.elapsed(), BEAT);
        assert_eq!(asleep(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_beats_as_long_as_somebody_waits() {
        for _ in 0..3 {
            let start = Instant::now();
            for _ in 0..3 {
                let waiting = tokio::spawn(roused(1));
                yield_now().await;
                assert_eq!(tasks(), 2);
                waiting.await.unwrap();
            }
            assert_eq!(start.elapsed(), 3 * BEAT);
            sleep(2 * BEAT).await;
            assert_eq!(tasks(), 0);
        }
    }

    #[tokio::test]
    async fn what_is_no_task_is_not_roused() {
        let asked = poll_fn(|cx| Poll::Ready(rouse(cx.waker())));
        assert!(!asked.await);
        assert_eq!(tasks(), 0);
    }

    /// The first is left alone in the middle of its beat; the second ends with it.
    #[test]
    fn each_runtime_of_a_thread_has_a_pulse_of_its_own() {
        let runtime = || {
            let mut runtime = Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap()
        };
        let begin = async {
            tokio::spawn(roused(1));
            yield_now().await;
            assert_eq!(asleep(), 1);
        };
        let left = runtime();
        left.block_on(begin);
        for _ in 0..2 {
            let next = runtime();
            next.block_on(async {
                tokio::spawn(roused(1)).await.unwrap();
                tokio::spawn(roused(1));
                yield_now().await;
                assert_eq!(tasks(), 2);
            });
        }
    }

    /// Tasks that go from thread to thread and are woken all the time; each is roused in the end.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_is_forgotten_among_threads() {
        let mut waiting = JoinSet::new();
        for task in 0..64_u32 {
            waiting.spawn(async move {
                for turn in 0..4 {
                    for _ in 0..(task * 7 + turn) % 50 {
                        assert!(poll_fn(|cx| Poll::Ready(rouse(cx.waker()))).await);
                        yield_now().await;
                    }
                    roused(1).await;
                }
            });
        }
        waiting.join_all().await;
    }
}
