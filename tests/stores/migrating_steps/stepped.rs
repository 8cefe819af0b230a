//! A store that lets others go first before each of its calls, and every order in which that can happen.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use tower_keep::{
    Created, MemoryStore, Record, RecordId, Rotated, SessionStore, StoreError, StoredSession,
    Timestamp, Updated, UserId, UserSessions, Version,
};

use super::{Place, now};

/// Waits for one more turn before each call.
#[derive(Debug)]
pub(super) struct Stepped(pub(super) Arc<MemoryStore>);

pub(super) async fn turn() {
    let mut waited = false;
    poll_fn(|_| match std::mem::replace(&mut waited, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

#[async_trait]
impl SessionStore for Stepped {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        turn().await;
        self.0.load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        turn().await;
        self.0.create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        turn().await;
        self.0.update(id, record, expected).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        turn().await;
        self.0.rotate(old, new, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        turn().await;
        self.0.touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        turn().await;
        self.0.delete(id).await
    }
}

#[async_trait]
impl UserSessions for Stepped {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        turn().await;
        self.0.sessions_of(user).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        turn().await;
        self.0.delete_all_of(user, keep).await
    }
}

pub(super) type Actor = Pin<Box<dyn Future<Output = ()>>>;

/// Runs the actors in every order of their turns, each time from the start, and then `judge`. Answers how many orders there are.
pub(super) fn explore<J: AsyncFn(&Place)>(
    actors: impl Fn(&Place) -> Vec<Actor>,
    judge: &J,
) -> usize {
    let mut schedule: Vec<(usize, usize)> = Vec::new();
    let mut runs = 0;
    loop {
        let place = now(Place::new());
        let mut running: Vec<Actor> = actors(&place);
        // As far as the first call of each, which the others do not see.
        running.retain_mut(|actor| !poll_once(actor));
        let mut depth = 0;
        while !running.is_empty() {
            if depth == schedule.len() {
                schedule.push((0, running.len()));
            }
            let (choice, choices) = schedule[depth];
            assert_eq!(
                choices,
                running.len(),
                "the same schedule runs the same way"
            );
            if poll_once(&mut running[choice]) {
                drop(running.remove(choice));
            }
            depth += 1;
        }
        now(judge(&place));
        runs += 1;
        while schedule
            .last()
            .is_some_and(|(choice, choices)| choice + 1 == *choices)
        {
            schedule.pop();
        }
        match schedule.last_mut() {
            Some((choice, _)) => *choice += 1,
            None => return runs,
        }
    }
}

pub(super) fn poll_once(actor: &mut Actor) -> bool {
    let polled = actor.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    polled.is_ready()
}
