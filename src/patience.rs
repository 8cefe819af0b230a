//! Waiting no longer than that.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::{task::unconstrained, time::sleep};

/// What the work comes to, or `None` if it takes longer than that.
///
/// The time runs from when the work was not done at once, so that no timer is made and no clock is
/// read for work that is; then `waits` is told. It is polled once each time: tokio's own `timeout`
/// would read the clock for all, and around work that has been tried once poll it a second time.
/// The work is pinned by the caller, so that it is kept once and not twice.
pub(crate) async fn within<T>(
    limit: Duration,
    mut work: Pin<&mut impl Future<Output = T>>,
    waits: impl Fn(),
) -> Option<T> {
    let mut timer = pin!(None);
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if timer.is_none() {
            waits();
            // So that it also ends work that uses up the whole turn of its task each time.
            timer.set(Some(unconstrained(sleep(limit))));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

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
        assert_eq!(within::<()>(limit, greedy, || ()).await, None);
    }
}
