//! Waiting no longer than that.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::{coop::Unconstrained, unconstrained},
    time::{Sleep, sleep},
};

/// What the work comes to, or `None` if it takes longer than that.
///
/// The time runs from when the work was not done at once, so that no timer is made and no clock is
/// read for work that is; then `waits` is told. It is polled once each time: tokio's own `timeout`
/// would read the clock for all, and around work that has been tried once poll it a second time.
/// The work is pinned by the caller, so that it is kept once and not twice.
pub(crate) const fn within<F, W>(limit: Duration, work: Pin<&mut F>, waits: W) -> Within<'_, F, W> {
    Within {
        work,
        limit,
        waits,
        timer: None,
    }
}

pin_project! {
    /// The future of [`within`].
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Within<'a, F, W> {
        work: Pin<&'a mut F>,
        limit: Duration,
        waits: W,
        #[pin]
        timer: Option<Unconstrained<Sleep>>,
    }
}

impl<F: Future, W: Fn()> Future for Within<'_, F, W> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if this.timer.is_none() {
            (this.waits)();
            // So that it also ends work that uses up the whole turn of its task each time.
            this.timer.set(Some(unconstrained(sleep(*this.limit))));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending, pin::pin};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_is_not_done_in_time_is_given_up_and_its_wait_told_once() {
        let limit = Duration::from_secs(2);
        let told = Cell::new(0);
        let tell = || told.set(told.get() + 1);

        assert_eq!(within(limit, pin!(async { 1 }), tell).await, Some(1));
        assert_eq!(told.get(), 0, "it was done at once");

        let soon = pin!(async { sleep(limit / 2).await });
        assert_eq!(within(limit, soon, tell).await, Some(()));
        assert_eq!(told.get(), 1);

        let start = tokio::time::Instant::now();
        assert_eq!(within(limit, pin!(pending::<()>()), tell).await, None);
        assert_eq!(start.elapsed(), limit);
        assert_eq!(told.get(), 2);
    }

    #[tokio::test]
    async fn work_that_uses_up_each_turn_of_its_task_is_given_up_too() {
        let greedy = pin!(async {
            loop {
                tokio::task::consume_budget().await;
            }
        });
        let limit = Duration::from_millis(1);
        let never: Option<()> = within(limit, greedy, || ()).await;
        assert_eq!(never, None);
    }
}
