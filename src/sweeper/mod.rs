//! Removing expired records in the background.

mod pace;

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use self::pace::{after_batch, back_off, first_rest, next_rest, random};
use crate::{
    error::StoreError,
    meter::{Event, add, count},
    store::DeleteExpired,
};

/// Removes the expired records of a store, again and again, beside the requests.
///
/// A store never serves an expired record, but without a sweeper most stores keep it for ever.
///
/// # What it does
///
/// 1. The first sweep comes after a random part of the period, so that nodes that start together
///    do not sweep together. The next one comes a period after the end of the one before, give or
///    take a tenth.
/// 2. A sweep deletes in batches (1000 records, see [`with_batch`](Self::with_batch)), until one is
///    not full. After each full batch it rests as long as the batch took: requests wait for one
///    batch at most, and the store has half of the time for them alone.
/// 3. A batch that fails, panics, or takes longer than a minute is told as an event and counted as a
///    store error, and tried again: after a second at first, then after twice as long each time, up
///    to five minutes and never longer than the period. It goes on for ever.
/// 4. It stops when its [`Sweeping`] is dropped or [stopped](Sweeping::stop), or the runtime ends.
///
/// Any number of nodes may sweep one store. More than one is not needed, and costs little.
///
/// # Where it is not needed
///
/// Over a store that forgets expired records by itself; such a store has no [`DeleteExpired`], and
/// this does not compile.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use axum::Router;
/// use tower_keep::{MemoryStore, SessionLayer, Sweeper};
///
/// # async fn serve() -> std::io::Result<()> {
/// let store = MemoryStore::new();
/// let sweeping = Sweeper::new(store.clone())
///     .with_report(|sweep| println!("{} sessions had expired", sweep.deleted))
///     .every(Duration::from_secs(10 * 60));
///
/// let app: Router = Router::new().layer(SessionLayer::new(store));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// axum::serve(listener, app)
///     .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap() })
///     .await?;
/// sweeping.stop().await;
/// # Ok(()) }
/// ```
pub struct Sweeper<S> {
    store: S,
    batch: usize,
    report: Option<Report>,
}

type Report = Box<dyn Fn(&Sweep) + Send + Sync>;

impl<S: DeleteExpired> Sweeper<S> {
    /// A sweeper of a store, or of an `Arc` of one. It does nothing before [`every`](Self::every).
    #[must_use]
    pub fn new(store: S) -> Self {
        Self {
            store,
            batch: BATCH_DEFAULT,
            report: None,
        }
    }

    /// Deletes so many records at a time: fewer where a batch holds up requests, or does not end
    /// within a minute.
    ///
    /// # Panics
    ///
    /// If it is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, Sweeper};
    /// let sweeper = Sweeper::new(MemoryStore::new()).with_batch(100);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_batch(mut self, records: usize) -> Self {
        assert!(
            records > 0,
            "Sweeper: a batch of no records deletes none; give 1 at least"
        );
        self.batch = records;
        self
    }

    /// Calls a function at the end of each sweep, also of one that found nothing: the time of the
    /// last call tells a health check that sweeping works.
    ///
    /// It runs in the task that sweeps and should not block. A panic of it is told as an event and
    /// ends nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, Sweeper};
    /// let sweeper = Sweeper::new(MemoryStore::new())
    ///     .with_report(|sweep| println!("{} deleted in {:?}", sweep.deleted, sweep.took));
    /// ```
    #[must_use]
    pub fn with_report(mut self, report: impl Fn(&Sweep) + Send + Sync + 'static) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// Starts a task that sweeps once in that time, until what this returns is dropped or stopped.
    ///
    /// What is expired takes room for a period longer, and no more: ten minutes are a good choice,
    /// a day is not too long.
    ///
    /// # Panics
    ///
    /// If the period is less than a millisecond, outside of a tokio runtime, and in one whose timers
    /// are not enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_keep::{MemoryStore, Sweeper};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let sweeping = Sweeper::new(MemoryStore::new()).every(Duration::from_secs(10 * 60));
    /// // … as long as the server runs …
    /// let total = sweeping.stop().await;
    /// println!("{} sessions had expired", total.deleted);
    /// # }
    /// ```
    #[track_caller]
    pub fn every(self, period: Duration) -> Sweeping {
        assert!(
            period >= PERIOD_MIN,
            "Sweeper: with a period of {period:?} it would sweep without a pause; give a \
             millisecond at least, ten minutes rather: `Duration::from_secs(10 * 60)`"
        );
        // Of a runtime without timers this panics here, and not unseen in the task.
        drop(sleep(Duration::ZERO));
        let shared = Arc::new(Shared::default());
        let work = Work {
            sweeper: self,
            period,
            shared: Arc::clone(&shared),
        };
        let task = tokio::spawn(async move {
            let Err(Stopped) = work.run().await;
        });
        Sweeping { task, shared }
    }
}

/// Shows no more of the store than the store itself does.
impl<S: fmt::Debug> fmt::Debug for Sweeper<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeper")
            .field("store", &self.store)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

/// A [`Sweeper`] at work, in a task of its own. Dropping this stops it at once; a batch that runs is
/// dropped, and the store left with some of its records deleted.
#[derive(Debug)]
#[must_use = "dropping it stops the sweeping: keep it as long as the server runs"]
pub struct Sweeping {
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl Sweeping {
    /// How many records it has deleted so far.
    #[must_use]
    pub fn deleted(&self) -> u64 {
        self.shared.total().deleted
    }

    /// Stops, and returns the total of all sweeps.
    ///
    /// A batch that runs is waited for, a minute at most, and no other is begun. If the returned
    /// future is dropped, it stops at once.
    pub async fn stop(mut self) -> Sweep {
        self.shared.stop.notify_one();
        // It can only fail if the runtime has ended, and the sweeping with it.
        let _ = (&mut self.task).await;
        *self.shared.total()
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a sweep has done, or all sweeps of a [`Sweeping`] together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sweep {
    /// How many records it deleted, as far as the store has answered: a batch that failed may have
    /// deleted some that nobody has counted.
    pub deleted: u64,
    /// How many batches it asked the store for.
    pub batches: u64,
    /// How many of them failed, and were tried again.
    pub failures: u64,
    /// How long the store worked for it. The rests are not counted.
    pub took: Duration,
}

impl Sweep {
    fn add(&mut self, batch: &Batch) {
        self.batches += 1;
        self.took = self.took.saturating_add(batch.took);
        match batch.result {
            Ok(deleted) => self.deleted = self.deleted.saturating_add(deleted),
            Err(_) => self.failures += 1,
        }
    }
}

/// What the task and its guard share.
#[derive(Debug, Default)]
struct Shared {
    total: Mutex<Sweep>,
    stop: Notify,
}

impl Shared {
    fn total(&self) -> MutexGuard<'_, Sweep> {
        // No code of others runs under this lock.
        self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task.
struct Work<S> {
    sweeper: Sweeper<S>,
    period: Duration,
    shared: Arc<Shared>,
}

/// One call to the store.
struct Batch {
    result: Result<u64, Failure>,
    took: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no answer within {:?}; are its batches too large?", BATCH_TIME_MAX)]
    Silent,
    #[error("the store panicked")]
    Panicked,
}

/// The guard has asked for the end.
struct Stopped;

impl<S: DeleteExpired> Work<S> {
    async fn run(&self) -> Result<Infallible, Stopped> {
        self.rest(first_rest(self.period, random())).await?;
        loop {
            let sweep = self.sweep().await?;
            self.report(&sweep);
            self.rest(next_rest(self.period, random())).await?;
        }
    }

    /// Batches until one is not full.
    async fn sweep(&self) -> Result<Sweep, Stopped> {
        let mut sweep = Sweep::default();
        let mut failures_in_a_row = 0_u32;
        loop {
            let batch = self.batch().await;
            sweep.add(&batch);
            self.shared.total().add(&batch);
            let rest = match batch.result {
                Ok(deleted) if deleted < self.sweeper.batch as u64 => return Ok(sweep),
                Ok(_) => {
                    failures_in_a_row = 0;
                    after_batch(batch.took)
                }
                Err(failure) => {
                    failures_in_a_row = failures_in_a_row.saturating_add(1);
                    let rest = back_off(failures_in_a_row, self.period, random());
                    tell(&failure, rest);
                    rest
                }
            };
            self.rest(rest).await?;
        }
    }

    async fn batch(&self) -> Batch {
        let start = Instant::now();
        // In a block, so that a panic of the call itself is caught too.
        let call = async { self.sweeper.store.delete_expired(self.sweeper.batch).await };
        let result = match timeout(BATCH_TIME_MAX, caught(call)).await {
            Ok(Some(answer)) => answer.map_err(Failure::Store),
            Ok(None) => Err(Failure::Panicked),
            Err(_) => Err(Failure::Silent),
        };
        if let Ok(deleted) = result {
            add(Event::ExpiredDelete, deleted);
        }
        Batch {
            result,
            took: start.elapsed(),
        }
    }

    async fn rest(&self, rest: Duration) -> Result<(), Stopped> {
        match timeout(rest, self.shared.stop.notified()).await {
            Ok(()) => Err(Stopped),
            Err(_) => Ok(()),
        }
    }

    fn report(&self, sweep: &Sweep) {
        if sweep.deleted > 0 {
            let Sweep { deleted, took, .. } = sweep;
            tracing::debug!(deleted, ?took, "expired sessions were deleted");
        }
        if let Some(report) = &self.sweeper.report
            && catch_unwind(AssertUnwindSafe(|| report(sweep))).is_err()
        {
            tracing::error!("the report of a sweep panicked");
        }
    }
}

fn tell(failure: &Failure, rest: Duration) {
    count(Event::StoreError);
    let error = failure as &dyn std::error::Error;
    match failure {
        Failure::Store(_) | Failure::Silent => tracing::warn!(
            error,
            try_again_in = ?rest,
            "expired sessions could not be deleted"
        ),
        Failure::Panicked => tracing::error!(
            error,
            try_again_in = ?rest,
            "the session store panicked when it was to delete expired sessions"
        ),
    }
}

/// What comes of some work, or `None` if it panics.
async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

/// Few enough for a statement of some milliseconds, so many that the round trips between them do not
/// count.
const BATCH_DEFAULT: usize = 1000;

/// A batch that takes longer waits for something, a lock or a network, that may never come.
const BATCH_TIME_MAX: Duration = Duration::from_secs(60);

/// What a timer of tokio can tell from nothing.
const PERIOD_MIN: Duration = Duration::from_millis(1);
