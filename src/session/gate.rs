//! One conversation with the store at a time.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

/// Held by the one that talks to the store for a request.
#[derive(Debug, Default)]
pub(super) struct Gate {
    held: Mutex<()>,
    turns: AtomicU64,
}

impl Gate {
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        let turn = self.held.lock().await;
        self.turns.fetch_add(1, Relaxed);
        turn
    }

    /// The same, or `None` if one has it for as long as that. Whoever has it is bounded by a time of its own; but one
    /// that nobody polls any more does not know when that is over.
    pub(super) async fn turn_behind(&self, limit: Duration) -> Option<MutexGuard<'_, ()>> {
        if let Ok(turn) = self.held.try_lock() {
            self.turns.fetch_add(1, Relaxed);
            return Some(turn);
        }
        // The one who has it may give up at the same moment.
        let limit = limit.saturating_add(SLACK);
        let mut turn = pin!(self.turn());
        loop {
            let turns = self.turns.load(Relaxed);
            match timeout(limit, turn.as_mut()).await {
                Ok(turn) => return Some(turn),
                Err(_) if self.turns.load(Relaxed) == turns => return None,
                // That was another one.
                Err(_) => {}
            }
        }
    }
}

const SLACK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_many_waits_for_all_of_them() {
        let gate = Gate::default();
        let holder = async || {
            let _turn = gate.turn().await;
            sleep(LIMIT * 3 / 4).await;
        };
        let began = Instant::now();
        let waiter = async {
            let turn = gate.turn_behind(LIMIT).await;
            assert!(turn.is_some());
            began.elapsed()
        };
        let ((), (), (), waited) = tokio::join!(holder(), holder(), holder(), waiter);
        assert!(waited > LIMIT, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_one_that_nobody_polls() {
        let gate = Gate::default();
        let mut stuck = pin!(async {
            let _turn = gate.turn().await;
            sleep(LIMIT / 2).await;
        });
        poll_fn(|cx| {
            assert!(stuck.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let began = Instant::now();
        assert!(gate.turn_behind(LIMIT).await.is_none());
        assert_eq!(began.elapsed(), LIMIT + SLACK);
        stuck.await;
        assert!(gate.turn_behind(LIMIT).await.is_some());
    }
}
