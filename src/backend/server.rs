//! Sessions in a store on the server's side: the contract's calls, counted and reported.

use std::sync::Arc;

use crate::{
    error::{Error, StoreError, StoreErrorKind},
    id::RecordId,
    meter::{Event, count},
    record::{Record, Version},
    store::{Created, Rotated, SessionStore, Updated},
    timestamp::Timestamp,
};

#[derive(Clone, Debug)]
pub(crate) struct Server {
    store: Arc<dyn SessionStore>,
}

impl Server {
    pub(crate) fn new(store: Arc<dyn SessionStore>) -> Self {
        Self { store }
    }

    /// Not through the `Arc`, which is a store too, and boxes each call once more.
    fn store(&self) -> &dyn SessionStore {
        &*self.store
    }

    pub(crate) async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        count(Event::Load);
        let loaded = self.store().load(id).await;
        loaded.inspect_err(|error| report("load", id, error))
    }

    pub(crate) async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, Error> {
        count(Event::Create);
        let created = self.store().create(id, record).await;
        Ok(created.inspect_err(|error| report("create", id, error))?)
    }

    pub(crate) async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, Error> {
        count(Event::Update);
        let update = || self.store().update(id, record, expected);
        let updated = match sent_again("update", id, update).await {
            // Somebody has written since, perhaps over the first one. To make the change again
            // over that could make it twice.
            (Some(first), Ok(Updated::Conflict(_))) => Err(first),
            (_, updated) => updated,
        };
        Ok(updated.inspect_err(|error| report("update", id, error))?)
    }

    pub(crate) async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, Error> {
        count(Event::Rotate);
        let rotate = || self.store().rotate(old, new, record, expected);
        // A record that is still under its old id has not been rotated: a conflict is just that.
        let (_, rotated) = sent_again("rotate", old, rotate).await;
        Ok(rotated.inspect_err(|error| report("rotate", old, error))?)
    }

    pub(crate) async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, Error> {
        count(Event::Touch);
        let touched = self.store().touch(id, expires_at, expected).await;
        Ok(touched.inspect_err(|error| report("touch", id, error))?)
    }

    pub(crate) async fn delete(&self, id: &RecordId) -> Result<bool, Error> {
        count(Event::Delete);
        let deleted = self.store().delete(id).await;
        Ok(deleted.inspect_err(|error| report("delete", id, error))?)
    }
}

/// Sends a write once more if the store could not be reached.
///
/// It may have done the first one and lost the reply. Then the client would be told 503, and after a
/// rotation have an id that is dead and not know the new one. Sent again with the same token the
/// write is applied once, and answered `Done` (clause C5). Returns the first error beside the answer.
async fn sent_again<T, F>(
    operation: &'static str,
    id: &RecordId,
    send: impl Fn() -> F,
) -> (Option<StoreError>, Result<T, StoreError>)
where
    F: Future<Output = Result<T, StoreError>>,
{
    let first = match send().await {
        Err(first) if first.kind() == StoreErrorKind::Unavailable => first,
        answer => return (None, answer),
    };
    report(operation, id, &first);
    (Some(first), send().await)
}

fn report(operation: &'static str, record: &RecordId, error: &StoreError) {
    count(Event::StoreError);
    tracing::error!(
        operation,
        ?record,
        error = error as &dyn std::error::Error,
        "the session store failed"
    );
}
