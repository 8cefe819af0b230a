//! Waiting no longer than that.

use std::{
    cell::Cell,
    mem,
    pin::Pin,
    ptr,
    task::{Context, Poll, Waker},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::{coop::Unconstrained, unconstrained},
    time::{Instant, Sleep, sleep_until},
};

/// What the work comes to, or `None` if it is not done by then.
///
/// The deadline is asked for when the work was not done at once, so that no clock is read for work that is. A timer is
/// made unless there is one that ends before, of another `within` inside of the work: when that wakes the task, the two
/// are looked at again. Timers cost more than most of what else a call of a store does in this process.
///
/// The work is polled once each time: tokio's own `timeout` would poll work that has been tried once a second time. It
/// is pinned by the caller, so that it is kept once and not twice.
pub(crate) const fn within<F, D>(work: Pin<&mut F>, deadline: D) -> Within<'_, F, D> {
    Within {
        work,
        ask_deadline: deadline,
        deadline: None,
        timer: None,
        sleeper: Sleeper(None),
    }
}

pin_project! {
    /// The future of [`within`].
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Within<'a, F, D> {
        work: Pin<&'a mut F>,
        ask_deadline: D,
        deadline: Option<Instant>,
        // Unconstrained, so that it also ends work that uses up the whole turn of its task each time.
        #[pin]
        timer: Option<Unconstrained<Sleep>>,
        sleeper: Sleeper,
    }
}

impl<F: Future, D: Fn() -> Instant> Future for Within<'_, F, D> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        ALARM.set(None);
        let polled = this.work.as_mut().poll(cx).map(Some);
        if polled.is_ready() {
            this.sleeper.is_up(cx.waker());
            return polled;
        }
        let deadline = *this.deadline.get_or_insert_with(&*this.ask_deadline);
        let alarm = Alarm::new(deadline, cx.waker());
        if ALARM.get().is_some_and(|inner| inner.is_before(&alarm)) {
            return Poll::Pending;
        }
        if this.timer.is_none() {
            let timer = unconstrained(sleep_until(deadline));
            this.timer.set(Some(timer));
        }
        if let Some(timer) = this.timer.as_pin_mut()
            && timer.poll(cx).is_ready()
        {
            this.sleeper.is_up(cx.waker());
            return Poll::Ready(None);
        }
        this.sleeper.is(cx.waker());
        ALARM.set(Some(alarm));
        Poll::Pending
    }
}

thread_local! {
    /// What the task that is being polled will be woken by, if it is pending in a [`Within`].
    static ALARM: Cell<Option<Alarm>> = const { Cell::new(None) };
}

/// A timer of a [`Within`], and whom it wakes.
#[derive(Clone, Copy)]
struct Alarm {
    end: Instant,
    /// The addresses by which [`Waker::will_wake`] goes.
    wakes: [usize; 2],
}

impl Alarm {
    fn new(end: Instant, waker: &Waker) -> Self {
        let vtable = ptr::from_ref(waker.vtable());
        Self {
            end,
            wakes: [waker.data().addr(), vtable.addr()],
        }
    }

    fn is_before(&self, other: &Self) -> bool {
        self.wakes == other.wakes && self.end <= other.end
    }
}

/// Who has been told of a timer. Whatever becomes of the timer, they are woken: another may be needed.
#[derive(Default)]
struct Sleeper(Option<Waker>);

impl Sleeper {
    fn is(&mut self, waker: &Waker) {
        if !self.is_known(waker) {
            drop(Self(self.0.replace(waker.clone())));
        }
    }

    /// Ends it, for one who is being polled and need not be woken.
    fn is_up(&mut self, waker: &Waker) {
        match self.is_known(waker) {
            true => self.0 = None,
            false => drop(mem::take(self)),
        }
    }

    fn is_known(&self, waker: &Waker) -> bool {
        let Self(sleeper) = self;
        sleeper.as_ref().is_some_and(|known| known.will_wake(waker))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

/// So long after that, or as good as never.
pub(crate) fn after(begun: Instant, limit: Duration) -> Instant {
    begun.checked_add(limit).unwrap_or_else(|| begun + NEVER)
}

/// Thirty years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::{
        future::{Pending, pending, poll_fn},
        pin::pin,
        sync::Arc,
        task::Wake,
    };

    use tokio::{
        sync::oneshot,
        task::yield_now,
        time::{sleep, timeout},
    };

    use super::*;

    fn at(limit: Duration) -> impl Fn() -> Instant {
        move || Instant::now() + limit
    }

    const LIMIT: Duration = Duration::from_secs(2);

    /// One that has been polled once, so that it has told of its timer.
    async fn begun<F: Future + Unpin>(mut future: F) -> F {
        poll_fn(|cx| {
            assert!(Pin::new(&mut future).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        future
    }

    /// Wakes another, as the wakers of futures in a set do.
    struct Relay(Waker);

    impl Wake for Relay {
        fn wake(self: Arc<Self>) {
            self.0.wake_by_ref();
        }
    }

    fn hanging(limit: Duration) -> Pin<Box<dyn Future<Output = Option<()>> + Send>> {
        Box::pin(async move { within(pin!(pending::<()>()), at(limit)).await })
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_not_done_in_time_is_given_up_at_its_deadline() {
        let asked = Cell::new(0);
        let deadline = || {
            asked.set(asked.get() + 1);
            Instant::now() + LIMIT
        };
        assert_eq!(within(pin!(async { 1 }), deadline).await, Some(1));
        assert_eq!(asked.get(), 0, "it was done at once");

        let soon = pin!(async { sleep(LIMIT / 2).await });
        assert_eq!(within(soon, deadline).await, Some(()));
        assert_eq!(asked.get(), 1);

        let start = Instant::now();
        let never = pin!(async {
            yield_now().await;
            pending::<()>().await;
        });
        assert_eq!(within(never, deadline).await, None);
        assert_eq!(start.elapsed(), LIMIT);
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_spares_those_around_it_that_end_later() {
        for (inner_limit, is_spared) in [
            (LIMIT / 2, true),
            (LIMIT, true),
            (LIMIT + Duration::from_millis(1), false),
        ] {
            let start = Instant::now();
            let work = pin!(async {
                within(pin!(pending::<()>()), at(inner_limit)).await;
                // One that is gone at once, and then none.
                drop(begun(hanging(2 * LIMIT)).await);
                pending::<()>().await;
            });
            let mut outer = pin!(within(work, at(LIMIT)));
            poll_fn(|cx| {
                assert!(outer.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(outer.timer.is_none(), is_spared);
            assert_eq!(outer.await, None);
            assert_eq!(start.elapsed(), LIMIT);
        }
    }

    /// Whatever becomes of the timer inside that somebody relies on.
    #[tokio::test(start_paused = true)]
    async fn nobody_outlasts_the_own_deadline_for_a_timer_that_is_gone() {
        let dropped = async {
            drop(begun(hanging(LIMIT / 2)).await);
            pending().await
        };
        let dropped_elsewhere = async {
            let inner = begun(hanging(LIMIT / 2)).await;
            tokio::spawn(async move {
                yield_now().await;
                drop(inner);
            });
            pending().await
        };
        let moved = async {
            let inner = begun(hanging(LIMIT / 2)).await;
            tokio::spawn(inner);
            pending().await
        };
        let done_elsewhere = async {
            let (done, waits) = oneshot::channel::<()>();
            let inner = async move { within(pin!(waits), at(LIMIT / 2)).await };
            let inner = begun(Box::pin(inner)).await;
            tokio::spawn(inner);
            done.send(()).unwrap();
            pending().await
        };
        let left_alone = async {
            let _inner = begun(hanging(LIMIT / 2)).await;
            pending().await
        };
        let of_nobody = async {
            let mut inner = hanging(LIMIT / 2);
            let mut cx = Context::from_waker(Waker::noop());
            assert!(inner.as_mut().poll(&mut cx).is_pending());
            pending().await
        };
        let of_others = async {
            let mut inner = hanging(LIMIT / 2);
            poll_fn(|cx| {
                let relay = Waker::from(Arc::new(Relay(cx.waker().clone())));
                inner.as_mut().poll(&mut Context::from_waker(&relay))
            })
            .await;
            pending().await
        };
        let works: [Pin<Box<dyn Future<Output = Pending<()>>>>; 7] = [
            Box::pin(dropped),
            Box::pin(dropped_elsewhere),
            Box::pin(moved),
            Box::pin(done_elsewhere),
            Box::pin(left_alone),
            Box::pin(of_nobody),
            Box::pin(of_others),
        ];
        for (case, mut work) in works.into_iter().enumerate() {
            let start = Instant::now();
            let outer = within(Pin::new(&mut work), at(LIMIT));
            let ended = timeout(2 * LIMIT, outer).await;
            assert!(ended.is_ok_and(|ended| ended.is_none()), "case {case}");
            assert_eq!(start.elapsed(), LIMIT, "case {case}");
        }
    }

    #[tokio::test]
    async fn work_that_uses_up_each_turn_of_its_task_is_given_up_too() {
        let greedy = pin!(async {
            loop {
                tokio::task::consume_budget().await;
            }
        });
        let never: Option<()> = within(greedy, at(Duration::from_millis(1))).await;
        assert_eq!(never, None);
    }
}
