//! Waiting no longer than that.

mod pulse;

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::{coop::Unconstrained, unconstrained},
    time::{Instant, Sleep, sleep_until},
};

/// What the work comes to, or `None` if it is not done by then.
///
/// Work that is done at once reads no clock, and work that is done soon has no timer: only the
/// second time that it is not done, which is at the next [beat](pulse::rouse) at the latest, a timer is made. Nearly all
/// work of servers is done by then. The work is pinned by the caller, so that it is kept once and not twice.
pub(crate) const fn within<F>(work: Pin<&mut F>, limit: Duration) -> Within<'_, F> {
    Within {
        work,
        limit,
        begun: None,
        has_waited: false,
        timer: None,
    }
}

pin_project! {
    /// The future of [`within`].
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Within<'a, F> {
        work: Pin<&'a mut F>,
        limit: Duration,
        begun: Option<Instant>,
        has_waited: bool,
        // Unconstrained, so that it also ends work that uses up the whole turn of its task each time.
        #[pin]
        timer: Option<Unconstrained<Sleep>>,
    }
}

impl<F> Within<'_, F> {
    /// For a caller who has just read the clock.
    pub(crate) const fn since(mut self, begun: Instant) -> Self {
        self.begun = Some(begun);
        self
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let is_first = !mem::replace(this.has_waited, true);
        let begun = *this.begun.get_or_insert_with(Instant::now);
        if is_first && *this.limit > SHORT && pulse::rouse(cx.waker()) {
            return Poll::Pending;
        }
        if this.timer.is_none() {
            let timer = sleep_until(after(begun, *this.limit));
            this.timer.set(Some(unconstrained(timer)));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

/// So long after that, or as good as never.
pub(crate) fn after(begun: Instant, limit: Duration) -> Instant {
    begun.checked_add(limit).unwrap_or_else(|| begun + NEVER)
}

/// What is no longer than this has a timer of its own, or a beat could come too late.
const SHORT: Duration = pulse::BEAT.saturating_mul(2);

/// A clock can be asked for what is thirty years away.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin};

    use tokio::time::sleep;

    use super::*;

    async fn try_all(limit: Duration) {
        assert_eq!(within(pin!(async { 1 }), limit).await, Some(1));

        let soon = pin!(async { sleep(limit / 2).await });
        assert_eq!(within(soon, limit).await, Some(()));

        let begun = Instant::now();
        assert_eq!(within(pin!(pending::<()>()), limit).await, None);
        assert_eq!(begun.elapsed(), limit);

        let begun = Instant::now();
        sleep(limit / 4).await;
        let never = pin!(pending::<()>());
        assert_eq!(within(never, limit).since(begun).await, None);
        assert_eq!(begun.elapsed(), limit);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_not_done_in_time_is_given_up_to_the_millisecond() {
        for millis in [1, 99, 100, 101, 199, 200, 201, 350, 2000] {
            let limit = Duration::from_millis(millis);
            try_all(limit).await;
            tokio::spawn(try_all(limit)).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_may_be_endless() {
        let work = pin!(async { sleep(Duration::from_secs(3600)).await });
        assert_eq!(within(work, Duration::MAX).await, Some(()));
    }

    #[tokio::test]
    async fn work_that_uses_up_each_turn_of_its_task_is_given_up_too() {
        for limit in [Duration::from_millis(1), 2 * SHORT] {
            let greedy = async move {
                let greedy = pin!(async {
                    loop {
                        tokio::task::consume_budget().await;
                    }
                });
                within(greedy, limit).await
            };
            let never: Option<()> = tokio::spawn(greedy).await.unwrap();
            assert_eq!(never, None);
        }
    }
}
