//! Waiting no longer than that.

use std::{
    cell::Cell,
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
/// made unless another `within` inside of the work has one that ends no later: when that wakes the task, both are
/// looked at again. A timer costs more than most of what else a call of a store does in this process.
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
            this.sleeper.release(cx.waker());
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
            *this.sleeper = Sleeper(Some(cx.waker().clone()));
        }
        if let Some(timer) = this.timer.as_pin_mut()
            && timer.poll(cx).is_ready()
        {
            this.sleeper.release(cx.waker());
            return Poll::Ready(None);
        }
        match this.sleeper.is(cx.waker()) {
            true => ALARM.set(Some(alarm)),
            // Handed on, or polled with another waker each time: from now on nobody relies on it.
            false => this.sleeper.wake(),
        }
        Poll::Pending
    }
}

thread_local! {
    /// Left by the last [`Within`] that was polled on this thread and is pending with a timer. Each clears it before its
    /// work, so that what it finds afterwards is of its own poll.
    static ALARM: Cell<Option<Alarm>> = const { Cell::new(None) };
}

/// A timer of a [`Within`], and whom it wakes.
#[derive(Clone, Copy)]
struct Alarm {
    end: Instant,
    /// The addresses by which [`Waker::will_wake`] goes. They are of one waker, which is borrowed for all of a poll.
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

/// Who relies on a timer. If it goes away in somebody else's hands, they are woken: another may be needed.
struct Sleeper(Option<Waker>);

impl Sleeper {
    fn is(&self, waker: &Waker) -> bool {
        let Self(sleeper) = self;
        sleeper
            .as_ref()
            .is_some_and(|sleeper| sleeper.will_wake(waker))
    }

    fn wake(&mut self) {
        if let Some(sleeper) = self.0.take() {
            sleeper.wake();
        }
    }

    /// The timer is not needed any more, which one who is being polled can see.
    fn release(&mut self, polled: &Waker) {
        match self.is(polled) {
            true => self.0 = None,
            false => self.wake(),
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.wake();
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
        future::{pending, poll_fn},
        mem,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::Relaxed},
        },
        task::Wake,
    };

    use tokio::{
        runtime::Builder,
        task::{LocalSet, spawn_local, yield_now},
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

    fn relay(waker: &Waker) -> Waker {
        Waker::from(Arc::new(Relay(waker.clone())))
    }

    fn poll_by_nobody(future: Pin<&mut dyn Future<Output = Option<()>>>) {
        let polled = future.poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
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
    async fn nobody_outlasts_a_deadline_for_a_timer_that_is_gone() {
        let dropped = async {
            drop(begun(hanging(LIMIT / 2)).await);
            pending::<()>().await;
        };
        let dropped_elsewhere = async {
            let inner = begun(hanging(LIMIT / 2)).await;
            tokio::spawn(async move {
                yield_now().await;
                drop(inner);
            });
            pending::<()>().await;
        };
        let moved = async {
            let inner = begun(hanging(LIMIT / 2)).await;
            tokio::spawn(inner);
            pending::<()>().await;
        };
        let done_elsewhere = async {
            let is_done = Arc::new(AtomicBool::new(false));
            let done = Arc::clone(&is_done);
            // Nobody is woken when it is.
            let quiet = poll_fn(move |_| match is_done.load(Relaxed) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let inner = async move { within(pin!(quiet), at(LIMIT / 2)).await };
            let inner = begun(Box::pin(inner)).await;
            done.store(true, Relaxed);
            tokio::spawn(inner);
            pending::<()>().await;
        };
        let passed_on = async {
            let mut inner = hanging(LIMIT / 2);
            poll_by_nobody(inner.as_mut());
            let inner = begun(inner).await;
            tokio::spawn(async move { drop(inner) });
            pending::<()>().await;
        };
        let left_alone = async {
            let _inner = begun(hanging(LIMIT / 2)).await;
            pending::<()>().await;
        };
        let of_nobody = async {
            let mut inner = hanging(LIMIT / 2);
            poll_by_nobody(inner.as_mut());
            pending::<()>().await;
        };
        let covered_elsewhere = async {
            let mut is_first = true;
            let mut inner = hanging(LIMIT / 4);
            let work = poll_fn(move |cx| match mem::take(&mut is_first) {
                true => Poll::Pending,
                false => inner.as_mut().poll(cx),
            });
            let inner = async move { within(pin!(work), at(LIMIT / 2)).await };
            tokio::spawn(begun(Box::pin(inner)).await);
            pending::<()>().await;
        };
        let of_others = async {
            let mut inner = hanging(LIMIT / 2);
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                assert!(polls < 5, "each of them was woken for the next");
                if polls == 1 {
                    cx.waker().wake_by_ref();
                }
                inner
                    .as_mut()
                    .poll(&mut Context::from_waker(&relay(cx.waker())))
            })
            .await;
            pending::<()>().await;
        };
        let works: [Pin<Box<dyn Future<Output = ()>>>; 9] = [
            Box::pin(dropped),
            Box::pin(dropped_elsewhere),
            Box::pin(moved),
            Box::pin(done_elsewhere),
            Box::pin(passed_on),
            Box::pin(left_alone),
            Box::pin(of_nobody),
            Box::pin(covered_elsewhere),
            Box::pin(of_others),
        ];
        for (case, mut work) in works.into_iter().enumerate() {
            let start = Instant::now();
            // A task of its own is polled when it is woken, and else never.
            let ended = async move { within(Pin::new(&mut work), at(LIMIT)).await.is_none() };
            let tasks = LocalSet::new();
            let ended = tasks.run_until(timeout(2 * LIMIT, async { spawn_local(ended).await }));
            assert!(ended.await.is_ok_and(Result::unwrap), "case {case}");
            assert_eq!(start.elapsed(), LIMIT, "case {case}");
        }
    }

    #[test]
    fn a_timer_of_another_waker_of_the_same_kind_spares_nobody() {
        let runtime = Builder::new_current_thread().enable_time().build();
        let _entered = runtime.as_ref().unwrap().enter();
        let mut inner = hanging(LIMIT / 2);
        let [others, own] = [relay(Waker::noop()), relay(Waker::noop())];
        let work = pin!(poll_fn(|_| inner
            .as_mut()
            .poll(&mut Context::from_waker(&others))));
        let mut outer = pin!(within(work, at(LIMIT)));
        let polled = outer.as_mut().poll(&mut Context::from_waker(&own));
        assert!(polled.is_pending());
        assert!(outer.timer.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_woken_for_a_timer_that_was_not_needed() {
        let mut polls = 0;
        let mut task = pin!(async {
            let soon = pin!(async { sleep(LIMIT / 2).await });
            within(soon, at(LIMIT)).await;
            sleep(LIMIT).await;
        });
        let counted = poll_fn(|cx| {
            polls += 1;
            task.as_mut().poll(cx)
        });
        counted.await;
        assert_eq!(polls, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_may_be_endless() {
        let work = pin!(async { sleep(LIMIT).await });
        let deadline = || after(Instant::now(), Duration::MAX);
        assert_eq!(within(work, deadline).await, Some(()));
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
