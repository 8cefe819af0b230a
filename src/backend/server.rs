//! Sessions in a store on the server's side: the contract's calls, counted and reported.

use std::sync::Arc;

use crate::{
    error::{Error, StoreError},
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

    pub(crate) async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        count(Event::Load);
        let loaded = self.store.load(id).await;
        loaded.inspect_err(|error| report("load", id, error))
    }

    pub(crate) async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, Error> {
        count(Event::Create);
        let created = self.store.create(id, record).await;
        Ok(created.inspect_err(|error| report("create", id, error))?)
    }

    pub(crate) async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, Error> {
        count(Event::Update);
        let updated = self.store.update(id, record, expected).await;
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
        let rotated = self.store.rotate(old, new, record, expected).await;
        Ok(rotated.inspect_err(|error| report("rotate", old, error))?)
    }

    pub(crate) async fn touch(&self, id: &RecordId, expires_at: Timestamp) -> Result<bool, Error> {
        count(Event::Touch);
        let touched = self.store.touch(id, expires_at).await;
        Ok(touched.inspect_err(|error| report("touch", id, error))?)
    }

    pub(crate) async fn delete(&self, id: &RecordId) -> Result<bool, Error> {
        count(Event::Delete);
        let deleted = self.store.delete(id).await;
        Ok(deleted.inspect_err(|error| report("delete", id, error))?)
    }
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
