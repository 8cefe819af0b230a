//! A store that fails on demand.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::{Record, Version},
    store::{
        Created, Cursor, DeleteExpired, Page, Rotated, ScanSessions, SessionStore, StoredSession,
        Updated, UserSessions,
    },
    timestamp::Timestamp,
    user::UserId,
};

/// Passes calls on to another store, until it is told to do something worse. It has the capabilities
/// of that store.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_keep::{MemoryStore, SessionLayer, testing::{Fault, FaultyStore, Operation}};
///
/// let store = Arc::new(FaultyStore::new(MemoryStore::new()));
/// let sessions = SessionLayer::new(Arc::clone(&store));
///
/// store.inject(Fault::Hang); // whatever it is asked, it does not answer
/// store.inject_on(&[Operation::Update], Fault::LoseReply); // only updates, which are done
/// store.inject_after(3, Fault::Fail); // three more calls go through
/// store.inject_once(Operation::Rotate, Fault::LoseReply); // only the next rotation
/// store.heal();
/// ```
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    plan: Mutex<Plan>,
}

/// What a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An error, and the store has not been asked.
    Fail,
    /// No answer, ever, and the store has not been asked.
    Hang,
    /// An error, although the store has done what it was asked.
    LoseReply,
    /// The store does what it is asked twice, as when a client library sends a call again. The
    /// second answer is returned.
    SendTwice,
}

/// An operation of [`SessionStore`] or of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the operation of its name")]
#[non_exhaustive]
pub enum Operation {
    Load,
    Create,
    Update,
    Rotate,
    Touch,
    Delete,
    SessionsOf,
    DeleteAllOf,
    DeleteExpired,
    Scan,
}

#[derive(Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    /// `None` means all.
    on: Option<Vec<Operation>>,
    /// How many calls go through first.
    calls_left: usize,
    /// How many calls meet the fault; `None` means all.
    faults_left: Option<usize>,
}

impl<S> FaultyStore<S> {
    /// A healthy store.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            plan: Mutex::default(),
        }
    }

    /// From now on every call meets this fault.
    pub fn inject(&self, fault: Fault) {
        self.inject_after(0, fault);
    }

    /// From now on calls of these operations meet this fault.
    pub fn inject_on(&self, operations: &[Operation], fault: Fault) {
        *self.plan() = Plan {
            fault: Some(fault),
            on: Some(operations.to_vec()),
            ..Plan::default()
        };
    }

    /// The next call of this operation meets this fault, and none after it.
    pub fn inject_once(&self, operation: Operation, fault: Fault) {
        *self.plan() = Plan {
            fault: Some(fault),
            on: Some(vec![operation]),
            faults_left: Some(1),
            ..Plan::default()
        };
    }

    /// After so many more calls, every call meets this fault.
    pub fn inject_after(&self, calls: usize, fault: Fault) {
        *self.plan() = Plan {
            fault: Some(fault),
            calls_left: calls,
            ..Plan::default()
        };
    }

    /// From now on every call goes through.
    pub fn heal(&self) {
        *self.plan() = Plan::default();
    }

    /// The store behind it.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, operation: Operation) -> Option<Fault> {
        let mut plan = self.plan();
        let concerned = plan.on.as_ref().is_none_or(|on| on.contains(&operation));
        if plan.calls_left > 0 {
            plan.calls_left -= 1;
            return None;
        }
        let fault = plan.fault.filter(|_| concerned)?;
        match &mut plan.faults_left {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None => {}
        }
        Some(fault)
    }

    async fn pass<T, F>(
        &self,
        operation: Operation,
        mut call: impl FnMut() -> F + Send,
    ) -> Result<T, StoreError>
    where
        T: Send,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        match self.meet(operation) {
            None => call().await,
            Some(Fault::Fail) => Err(injected()),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::LoseReply) => {
                call().await?;
                Err(injected())
            }
            Some(Fault::SendTwice) => {
                call().await?;
                call().await
            }
        }
    }
}

fn injected() -> StoreError {
    StoreError::new("faulty", StoreErrorKind::Unavailable, "injected fault")
}

#[async_trait]
impl<S: SessionStore> SessionStore for FaultyStore<S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.pass(Operation::Load, || self.inner.load(id)).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        let call = || self.inner.create(id, record);
        self.pass(Operation::Create, call).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let call = || self.inner.update(id, record, expected);
        self.pass(Operation::Update, call).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        let call = || self.inner.rotate(old, new, record, expected);
        self.pass(Operation::Rotate, call).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let call = || self.inner.touch(id, expires_at, expected);
        self.pass(Operation::Touch, call).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.pass(Operation::Delete, || self.inner.delete(id)).await
    }
}

#[async_trait]
impl<S: UserSessions> UserSessions for FaultyStore<S> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        let call = || self.inner.sessions_of(user);
        self.pass(Operation::SessionsOf, call).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        let call = || self.inner.delete_all_of(user, keep);
        self.pass(Operation::DeleteAllOf, call).await
    }
}

#[async_trait]
impl<S: DeleteExpired> DeleteExpired for FaultyStore<S> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        let call = || self.inner.delete_expired(limit);
        self.pass(Operation::DeleteExpired, call).await
    }
}

#[async_trait]
impl<S: ScanSessions> ScanSessions for FaultyStore<S> {
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let call = || self.inner.scan(after, limit);
        self.pass(Operation::Scan, call).await
    }
}
