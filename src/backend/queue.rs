//! Writers of one process to one record take turns once they have met.
//!
//! Without it, 64 writers that retry blindly against one record need hundreds of rounds: each round
//! one wins and 63 have read for nothing. In a queue each starts from what the one before it has
//! stored, and needs one write. A record that nobody quarrels about has no queue.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{id::RecordId, record::Record};

/// The queues of a layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues(Arc<Mutex<HashMap<RecordId, Line>>>);

/// The queue of a record, with what the last writer has stored.
type Line = Arc<AsyncMutex<Option<Record>>>;

impl Queues {
    /// Waits for one's turn, if others have met at this record.
    pub(crate) async fn join_existing(&self, id: &RecordId) -> Option<Turn> {
        let line = {
            let lines = self.lines();
            lines.get(id)?.clone()
        };
        // A future of its own: next to nobody waits.
        Some(Box::pin(self.seat(id, line).wait()).await)
    }

    /// Waits for one's turn, in a new queue if there is none.
    pub(crate) async fn join(&self, id: &RecordId) -> Turn {
        let line = self.lines().entry(*id).or_default().clone();
        self.seat(id, line).wait().await
    }

    fn seat(&self, id: &RecordId, line: Line) -> Seat {
        Seat {
            queues: self.clone(),
            id: *id,
            line: Some(line),
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<RecordId, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a queue. The last one to leave closes the queue.
#[derive(Debug)]
struct Seat {
    queues: Queues,
    id: RecordId,
    /// Taken out when the seat is left.
    line: Option<Line>,
}

impl Seat {
    async fn wait(self) -> Turn {
        let line = self.line.clone().unwrap_or_default();
        let latest = line.lock_owned().await;
        Turn {
            latest,
            _seat: self,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut lines = self.queues.lines();
        // Seats are taken and left under this lock: no other reference is on its way.
        drop(self.line.take());
        if lines
            .get(&self.id)
            .is_some_and(|line| Arc::strong_count(line) == 1)
        {
            lines.remove(&self.id);
        }
    }
}

/// The right to write next, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    // In this order: the guard is given back before the seat is left.
    latest: OwnedMutexGuard<Option<Record>>,
    _seat: Seat,
}

impl Turn {
    /// What the writer before has stored, as far as it is known.
    pub(crate) fn latest(&self) -> Option<&Record> {
        self.latest.as_ref()
    }

    /// Tells the next writer what is stored now.
    pub(crate) fn leave(mut self, stored: Record) {
        *self.latest = Some(stored);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const ID: RecordId = RecordId::from_bytes([1; 32]);

    #[tokio::test]
    async fn the_last_one_to_leave_closes_the_queue() {
        let queues = Queues::default();
        assert!(queues.join_existing(&ID).await.is_none());
        let first = queues.join(&ID).await;
        let mut second = pin!(queues.join_existing(&ID));
        assert!(poll_once(second.as_mut()).await.is_none(), "not its turn");
        drop(first);
        drop(second.await);
        assert!(queues.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_that_gives_up_waiting_leaves_nothing_behind() {
        let queues = Queues::default();
        let first = queues.join(&ID).await;
        {
            let mut second = pin!(queues.join(&ID));
            assert!(poll_once(second.as_mut()).await.is_none());
        }
        drop(first);
        assert!(queues.0.lock().unwrap().is_empty());
    }

    #[test]
    fn seats_that_are_left_at_the_same_time_leave_no_queue_behind() {
        let queues = Queues::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for number in 0..20_000_u32 {
                        let mut id = [0; RecordId::LEN];
                        id[..4].copy_from_slice(&number.to_be_bytes());
                        let id = RecordId::from_bytes(id);
                        let line = queues.lines().entry(id).or_default().clone();
                        drop(queues.seat(&id, line));
                    }
                });
            }
        });
        assert_eq!(queues.0.lock().unwrap().len(), 0);
    }

    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            let polled = match future.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            };
            std::task::Poll::Ready(polled)
        })
        .await
    }
}
