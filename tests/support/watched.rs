//! A store that works in small steps, and tells a test what it was asked.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use tokio::{sync::watch, task::yield_now};
use tower_keep::{
    Created, Record, RecordId, Rotated, SessionStore, StoreError, Timestamp, Updated, Version,
    testing::Operation,
};

/// Passes every call on to another store, and yields to the runtime several times before it and
/// after it, so that a test can interrupt or interleave it anywhere.
///
/// It remembers every id that it was told to store, so that a test can ask which of them live. A
/// clone is the same store.
#[derive(Debug)]
pub struct WatchedStore<S>(Arc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    store: Arc<S>,
    yields: usize,
    ids: Mutex<BTreeSet<RecordId>>,
    held: watch::Sender<Option<Operation>>,
    waiting: AtomicUsize,
    writing: AtomicUsize,
}

impl<S: SessionStore> WatchedStore<S> {
    /// Yields so many times before each call, and as often after it.
    pub fn new(store: &Arc<S>, yields: usize) -> Self {
        Self(Arc::new(Inner {
            store: Arc::clone(store),
            yields,
            ids: Mutex::default(),
            held: watch::Sender::new(None),
            waiting: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
        }))
    }

    /// What lives of all that was ever stored through this, in the order of the ids.
    pub async fn live(&self) -> Vec<(RecordId, Record)> {
        let ids = self.0.ids.lock().unwrap().clone();
        let mut live = Vec::new();
        for id in ids {
            live.extend(self.0.store.load(&id).await.unwrap().map(|r| (id, r)));
        }
        live
    }

    /// How many ids it was told to store something under.
    pub fn ids(&self) -> usize {
        self.0.ids.lock().unwrap().len()
    }

    /// From now on calls of this operation wait at the door.
    pub fn hold(&self, operation: Operation) {
        self.0.held.send_replace(Some(operation));
    }

    /// Lets in what waits at the door.
    pub fn release(&self) {
        self.0.held.send_replace(None);
    }

    /// How many calls wait at the door.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(SeqCst)
    }

    /// How many calls other than loads are between their first step and their last.
    pub fn writing(&self) -> usize {
        self.0.writing.load(SeqCst)
    }

    async fn step<T>(&self, operation: Operation, call: impl Future<Output = T>) -> T {
        let _writing = (operation != Operation::Load).then(|| Counted::new(&self.0.writing));
        {
            let _waiting = Counted::new(&self.0.waiting);
            let mut held = self.0.held.subscribe();
            held.wait_for(|held| *held != Some(operation))
                .await
                .unwrap();
        }
        yields(self.0.yields).await;
        let answer = call.await;
        yields(self.0.yields).await;
        answer
    }

    fn note(&self, id: &RecordId) {
        self.0.ids.lock().unwrap().insert(*id);
    }
}

impl<S> Clone for WatchedStore<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for WatchedStore<S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let call = self.0.store.load(id);
        self.step(Operation::Load, call).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.note(id);
        let call = self.0.store.create(id, record);
        self.step(Operation::Create, call).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let call = self.0.store.update(id, record, expected);
        self.step(Operation::Update, call).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.note(new);
        let call = self.0.store.rotate(old, new, record, expected);
        self.step(Operation::Rotate, call).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let call = self.0.store.touch(id, expires_at, expected);
        self.step(Operation::Touch, call).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let call = self.0.store.delete(id);
        self.step(Operation::Delete, call).await
    }
}

/// One more, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Lets all other tasks take a step, so many times.
pub async fn yields(times: usize) {
    for _ in 0..times {
        yield_now().await;
    }
}
