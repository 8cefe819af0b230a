//! A store that answers a sweeper by a script, and keeps a journal of its calls.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tower_keep::{
    Created, DeleteExpired, Record, RecordId, Rotated, SessionStore, StoreError, StoreErrorKind,
    Timestamp, Updated, Version,
};

/// What a call to `delete_expired` meets. After the last one of a script nothing is expired.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Deletes(u64),
    DeletesAfter(Duration, u64),
    Fails,
    Panics,
    PanicsAfter(Duration),
    Hangs,
}

/// A clone is the same store.
#[derive(Clone, Debug)]
pub(super) struct Scripted(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    script: Mutex<VecDeque<Answer>>,
    calls: watch::Sender<Vec<Call>>,
}

/// One call to `delete_expired`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Call {
    /// Since the store was made.
    pub(super) at: Duration,
    pub(super) limit: usize,
    /// Whether it was answered, and not dropped before.
    pub(super) answered: bool,
}

impl Scripted {
    pub(super) fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        Self(Arc::new(Inner {
            start: Instant::now(),
            script: Mutex::new(script.into_iter().collect()),
            calls: watch::Sender::new(Vec::new()),
        }))
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.0.calls.borrow().clone()
    }

    /// Waits until there were so many calls in all, and not for ever.
    pub(super) async fn called(&self, times: usize) {
        let mut calls = self.0.calls.subscribe();
        let enough = calls.wait_for(|calls| calls.len() >= times);
        let called = timeout(PATIENCE, enough).await;
        assert!(called.is_ok(), "{} of {times} calls", self.calls().len());
    }

    /// How long it was from the beginning of each call to that of the next.
    pub(super) fn gaps(&self) -> Vec<Duration> {
        let gap = |pair: &[Call]| pair[1].at - pair[0].at;
        self.calls().windows(2).map(gap).collect()
    }
}

#[async_trait]
impl DeleteExpired for Scripted {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        let mut place = 0;
        self.0.calls.send_modify(|calls| {
            place = calls.len();
            calls.push(Call {
                at: self.0.start.elapsed(),
                limit,
                answered: false,
            });
        });
        let answer = self.0.script.lock().unwrap().pop_front();
        let deleted = match answer.unwrap_or(Answer::Deletes(0)) {
            Answer::Deletes(count) => count,
            Answer::DeletesAfter(time, count) => {
                sleep(time).await;
                count
            }
            Answer::Fails => {
                let kind = StoreErrorKind::Unavailable;
                return Err(StoreError::new("scripted", kind, "as the script wants"));
            }
            Answer::Panics => panic!("as the script wants"),
            Answer::PanicsAfter(time) => {
                sleep(time).await;
                panic!("as the script wants")
            }
            Answer::Hangs => std::future::pending().await,
        };
        let calls = &self.0.calls;
        calls.send_modify(|calls| calls[place].answered = true);
        Ok(deleted)
    }
}

/// A sweeper deletes what is expired, and calls for nothing else.
#[async_trait]
impl SessionStore for Scripted {
    async fn load(&self, _: &RecordId) -> Result<Option<Record>, StoreError> {
        unreachable!()
    }

    async fn create(&self, _: &RecordId, _: &Record) -> Result<Created, StoreError> {
        unreachable!()
    }

    async fn update(&self, _: &RecordId, _: &Record, _: Version) -> Result<Updated, StoreError> {
        unreachable!()
    }

    async fn rotate(
        &self,
        _: &RecordId,
        _: &RecordId,
        _: &Record,
        _: Version,
    ) -> Result<Rotated, StoreError> {
        unreachable!()
    }

    async fn touch(&self, _: &RecordId, _: Timestamp, _: Version) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn delete(&self, _: &RecordId) -> Result<bool, StoreError> {
        unreachable!()
    }
}

/// Of paused time, which costs nothing.
const PATIENCE: Duration = Duration::from_secs(100 * 24 * 60 * 60);
