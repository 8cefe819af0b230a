//! A cache that keeps its contract in the simplest way, ones that break it, and any behind the board.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_keep::{
    Cached, MemoryCache, Record, RecordCache, RecordId, StoreError, Timestamp, Version,
};

use super::{
    board::{Board, Call},
    sheet::SESSION,
};

/// What is left out of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// A fill is done whatever has happened since its ticket was handed out (K2).
    FillsAnyhow,
    /// A replacement is put in whatever is there (K3).
    ReplacesAnyhow,
    /// A removal leaves the tickets that are outstanding (K4).
    RemovesTheCopyAlone,
    /// Copies are found later than it says (K6).
    OutlivesItsTime,
}

/// A cache of one record. Clones are the same cache.
#[derive(Clone, Debug)]
pub(super) struct TicketCache {
    flaw: Flaw,
    slot: Arc<Mutex<Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    copy: Option<Record>,
    /// What has happened so far.
    events: u64,
}

impl TicketCache {
    pub(super) fn new(flaw: Flaw) -> Self {
        let slot = Arc::default();
        Self { flaw, slot }
    }

    fn slot(&self, id: &RecordId) -> Option<std::sync::MutexGuard<'_, Slot>> {
        (*id == SESSION).then(|| self.slot.lock().unwrap())
    }
}

impl RecordCache for TicketCache {
    type Ticket = u64;

    async fn get(&self, id: &RecordId) -> Result<Cached<u64>, StoreError> {
        let slot = self.slot(id);
        Ok(match slot {
            Some(slot) => match &slot.copy {
                Some(copy) => Cached::Hit(copy.clone()),
                None => Cached::Miss(Some(slot.events)),
            },
            None => Cached::Miss(None),
        })
    }

    async fn fill(&self, id: &RecordId, record: &Record, ticket: u64) -> Result<(), StoreError> {
        if let Some(mut slot) = self.slot(id) {
            let is_valid = slot.copy.is_none() && slot.events == ticket;
            if is_valid || self.flaw == Flaw::FillsAnyhow {
                slot.copy = Some(record.clone());
            }
        }
        Ok(())
    }

    async fn replace(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<(), StoreError> {
        if let Some(mut slot) = self.slot(id) {
            slot.events += 1;
            let present = slot.copy.as_ref().map(|copy| copy.version);
            if present == Some(expected) || self.flaw == Flaw::ReplacesAnyhow {
                slot.copy = Some(record.clone());
            } else if present.is_some_and(|v| v.revision < record.version.revision) {
                slot.copy = None;
            }
        }
        Ok(())
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<(), StoreError> {
        if let Some(mut slot) = self.slot(id)
            && let Some(copy) = &mut slot.copy
            && copy.version == expected
        {
            copy.expires_at = copy.expires_at.max(expires_at);
        }
        Ok(())
    }

    async fn remove(&self, id: &RecordId) -> Result<(), StoreError> {
        if let Some(mut slot) = self.slot(id) {
            if self.flaw != Flaw::RemovesTheCopyAlone {
                slot.events += 1;
            }
            slot.copy = None;
        }
        Ok(())
    }

    fn time_to_live(&self) -> Duration {
        match self.flaw {
            Flaw::OutlivesItsTime => Duration::from_millis(1),
            _ => MemoryCache::TIME_TO_LIVE_DEFAULT,
        }
    }

    fn part_of(&self, _: &RecordId) -> usize {
        0
    }
}

/// What the tests need of a cache beside its contract.
pub(super) trait Testable: RecordCache<Ticket: 'static> + Clone {
    /// Loses its copies, as by an eviction or a restart.
    fn lose(&self);
}

impl Testable for TicketCache {
    fn lose(&self) {
        let mut slot = self.slot.lock().unwrap();
        slot.events += 1;
        slot.copy = None;
    }
}

impl Testable for MemoryCache {
    fn lose(&self) {
        at_once(self.remove(&SESSION)).unwrap();
    }
}

/// The output of a future that never waits.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => unreachable!("it does not wait"),
    }
}

/// A cache behind the board.
#[derive(Debug)]
pub(super) struct SteppedCache<C> {
    pub(super) inner: C,
    pub(super) number: usize,
    pub(super) board: Board,
    /// On which node it is called.
    pub(super) node: usize,
}

impl<C: Testable> SteppedCache<C> {
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnOnce(&C) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        let effect = move |_| effect(&inner);
        self.board.call(self.node, call, effect).await?
    }

    async fn alter(
        &self,
        name: &'static str,
        effect: impl FnOnce(&C) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.call(Call::Alter(self.number, name), effect).await
    }
}

impl<C: Testable> RecordCache for SteppedCache<C> {
    type Ticket = C::Ticket;

    async fn get(&self, id: &RecordId) -> Result<Cached<C::Ticket>, StoreError> {
        let id = *id;
        let get = move |inner: &C| at_once(inner.get(&id));
        self.call(Call::Get(self.number), get).await
    }

    async fn fill(
        &self,
        id: &RecordId,
        record: &Record,
        ticket: C::Ticket,
    ) -> Result<(), StoreError> {
        let (id, record) = (*id, record.clone());
        let fill = move |inner: &C| at_once(inner.fill(&id, &record, ticket));
        self.alter("fill", fill).await
    }

    async fn replace(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<(), StoreError> {
        let (id, record) = (*id, record.clone());
        let replace = move |inner: &C| at_once(inner.replace(&id, &record, expected));
        self.alter("replace", replace).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<(), StoreError> {
        let id = *id;
        let touch = move |inner: &C| at_once(inner.touch(&id, expires_at, expected));
        self.alter("touch", touch).await
    }

    async fn remove(&self, id: &RecordId) -> Result<(), StoreError> {
        let id = *id;
        let remove = move |inner: &C| at_once(inner.remove(&id));
        self.alter("remove", remove).await
    }

    fn time_to_live(&self) -> Duration {
        self.inner.time_to_live()
    }

    fn part_of(&self, id: &RecordId) -> usize {
        self.inner.part_of(id)
    }
}
