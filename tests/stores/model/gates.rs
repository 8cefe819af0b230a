//! Places where a test holds requests and commits back, to let them overlap as it wants.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::{sync::oneshot, task::yield_now};
use tower_keep::{
    Created, Record, RecordId, Rotated, SessionStore, StoreError, Timestamp, Updated, Version,
};

/// Gates that are open until they are [shut](Gates::shut). Clones are the same gates.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// `None` while the gates are open; else those who wait, in the order they came.
    waiting: Mutex<Option<Vec<oneshot::Sender<()>>>>,
    /// Calls that are with the store at this moment.
    busy: AtomicUsize,
}

impl Gates {
    /// From now on everybody who comes by waits.
    pub(super) fn shut(&self) {
        self.waiting().get_or_insert_default();
    }

    /// Lets everybody through, now and from now on.
    pub(super) fn open(&self) {
        drop(self.waiting().take());
    }

    /// Lets one of those who wait through.
    pub(super) fn open_one(&self, which: usize) {
        if let Some(waiting) = self.waiting().as_mut() {
            waiting.retain(|waiter| !waiter.is_closed());
            if !waiting.is_empty() {
                drop(waiting.remove(which % waiting.len()));
            }
        }
    }

    /// Yields once where the gates are open, else until this one is opened.
    pub(super) async fn pass(&self) {
        let ticket = self.waiting().as_mut().map(|waiting| {
            let (waiter, ticket) = oneshot::channel();
            waiting.push(waiter);
            ticket
        });
        match ticket {
            // A waiter is let through by being dropped.
            Some(ticket) => drop(ticket.await),
            None => yield_now().await,
        }
    }

    /// Waits until everybody waits at a gate, or is through.
    pub(super) async fn settle(&self) {
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            yield_now().await;
            let busy = self.0.busy.load(Ordering::SeqCst) > 0;
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }

    fn busy(&self) -> Busy<'_> {
        self.0.busy.fetch_add(1, Ordering::SeqCst);
        Busy(&self.0.busy)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Vec<oneshot::Sender<()>>>> {
        self.0.waiting.lock().unwrap()
    }
}

struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A store with a gate before and a gate behind each call.
#[derive(Debug)]
pub(super) struct GatedStore {
    inner: Arc<dyn SessionStore>,
    gates: Gates,
}

impl GatedStore {
    pub(super) fn new(inner: Arc<dyn SessionStore>, gates: Gates) -> Self {
        Self { inner, gates }
    }

    async fn between_gates<T>(&self, call: impl Future<Output = T>) -> T {
        self.gates.pass().await;
        let output = {
            let _busy = self.gates.busy();
            call.await
        };
        self.gates.pass().await;
        output
    }
}

#[async_trait]
impl SessionStore for GatedStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.between_gates(self.inner.load(id)).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.between_gates(self.inner.create(id, record)).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        self.between_gates(self.inner.update(id, record, expected))
            .await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.between_gates(self.inner.rotate(old, new, record, expected))
            .await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        self.between_gates(self.inner.touch(id, expires_at, expected))
            .await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.between_gates(self.inner.delete(id)).await
    }
}

/// More than the tasks that wake one another between two gates.
const QUIET_ROUNDS: usize = 12;
