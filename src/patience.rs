//! Waiting no longer than that.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::{
    task::{coop::Unconstrained, unconstrained},
    time::Sleep,
};

/// What the work comes to, or `None` if the timer ends before.
///
/// The timer is asked for when the work was not done at once, so that none is made and no clock is
/// read for work that is. The work is polled once each time: tokio's own `timeout` would read the
/// clock for all, and around work that has been tried once poll it a second time. It is pinned by
/// the caller, so that it is kept once and not twice.
pub(crate) const fn within<F, T>(work: Pin<&mut F>, start_timer: T) -> Within<'_, F, T> {
    Within {
        work,
        start_timer,
        timer: None,
    }
}

pin_project! {
    /// The future of [`within`].
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Within<'a, F, T> {
        work: Pin<&'a mut F>,
        start_timer: T,
        #[pin]
        timer: Option<Unconstrained<Sleep>>,
    }
}

impl<F: Future, T: Fn() -> Sleep> Future for Within<'_, F, T> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if this.timer.is_none() {
            // So that it also ends work that uses up the whole turn of its task each time.
            this.timer.set(Some(unconstrained((this.start_timer)())));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending, pin::pin, time::Duration};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_is_not_done_in_time_is_given_up_and_its_timer_made_once() {
        let limit = Duration::from_secs(2);
        let made = Cell::new(0);
        let timer = || {
            made.set(made.get() + 1);
            sleep(limit)
        };

        assert_eq!(within(pin!(async { 1 }), timer).await, Some(1));
        assert_eq!(made.get(), 0, "it was done at once");

        let soon = pin!(async { sleep(limit / 2).await });
        assert_eq!(within(soon, timer).await, Some(()));
        assert_eq!(made.get(), 1);

        let start = tokio::time::Instant::now();
        assert_eq!(within(pin!(pending::<()>()), timer).await, None);
        assert_eq!(start.elapsed(), limit);
        assert_eq!(made.get(), 2);
    }

    #[tokio::test]
    async fn work_that_uses_up_each_turn_of_its_task_is_given_up_too() {
        let greedy = pin!(async {
            loop {
                tokio::task::consume_budget().await;
            }
        });
        let limit = Duration::from_millis(1);
        let never: Option<()> = within(greedy, || sleep(limit)).await;
        assert_eq!(never, None);
    }
}
