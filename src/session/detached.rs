//! Work that runs to its end, even if whoever waits for it goes away.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{runtime::Handle, task::JoinHandle};
use tracing::{Instrument, Span};

use crate::{
    error::{Error, ErrorKind},
    session::settings::{CommitGuard, Commits},
};

/// A future that, once it is polled, runs to its end.
///
/// It runs in place as long as somebody waits: it is spared the way through the scheduler, which
/// costs as much as all else that a commit does in this process. What is not finished when it is
/// dropped goes on as a task. A panic, in place or in the task, is an error of whoever waits.
pub(crate) struct Detached<T: Send + 'static> {
    /// `None` when it is over.
    work: Option<Work<T>>,
    commits: Commits,
    /// Since it has not been finished at once.
    pending: Option<Pending>,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What work that is to be finished needs.
struct Pending {
    /// Counted, so that `drain` waits for it.
    commit: CommitGuard,
    /// Where it goes on, from whatever thread it is dropped.
    runtime: Handle,
    /// Of the request: where it is dropped, another may be the current one.
    span: Span,
}

impl<T: Send + 'static> Detached<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static, commits: &Commits) -> Self {
        Self {
            work: Some(Box::pin(work)),
            commits: commits.clone(),
            pending: None,
        }
    }

    /// Has it run without anybody to wait for it.
    pub(crate) fn run_alone(mut self) {
        self.pending = Some(self.begin());
    }

    /// Has it go on as a task at once if it cannot be finished at once.
    ///
    /// For a caller that may leave a future alone without dropping it, as code of an application
    /// may: work that stood still would keep what others wait for.
    pub(crate) async fn apart(mut self) -> Result<T, Error> {
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut self).poll(cx)));
        if let Poll::Ready(output) = first.await {
            return output;
        }
        match self.spawn() {
            Some(task) => task.await.map_err(|_| interrupted()),
            None => Err(interrupted()),
        }
    }

    fn begin(&self) -> Pending {
        Pending {
            commit: self.commits.begin(),
            runtime: Handle::current(),
            span: Span::current(),
        }
    }

    fn spawn(&mut self) -> Option<JoinHandle<T>> {
        let (work, pending) = (self.work.take()?, self.pending.take()?);
        let Pending {
            commit,
            runtime,
            span,
        } = pending;
        let work = async move {
            let output = work.await;
            drop(commit);
            output
        };
        Some(runtime.spawn(work.instrument(span)))
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(Err(interrupted()));
        };
        let polled = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Ready(output)) => Ok(output),
            Ok(Poll::Pending) => {
                if self.pending.is_none() {
                    self.pending = Some(self.begin());
                }
                return Poll::Pending;
            }
            Err(_) => Err(interrupted()),
        };
        self.work = None;
        self.pending = None;
        Poll::Ready(polled)
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        drop(self.spawn());
    }
}

/// Shows how far it has come.
impl<T: Send + 'static> fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.work, &self.pending) {
            (None, _) => "Detached::Over",
            (Some(_), None) => "Detached::New",
            (Some(_), Some(_)) => "Detached::Pending",
        })
    }
}

const fn interrupted() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "what saves or commits the session was stopped",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    async fn poll_once<T: Send + 'static>(work: &mut Detached<T>) {
        std::future::poll_fn(|cx| {
            assert!(Pin::new(&mut *work).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn work_that_somebody_waits_for_needs_no_task() {
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let work = async move {
            tokio::task::yield_now().await;
            tasks()
        };
        let work = Detached::new(work, &Commits::default());
        assert_eq!(work.await.unwrap(), before);
    }

    #[tokio::test]
    async fn work_that_is_polled_once_and_dropped_anywhere_runs_to_its_end() {
        for within_the_runtime in [true, false] {
            let commits = Commits::default();
            let (go, gone) = oneshot::channel::<()>();
            let (done, is_done) = oneshot::channel();
            let work = async move {
                gone.await.unwrap();
                done.send(()).unwrap();
            };
            let mut work = Detached::new(work, &commits);
            poll_once(&mut work).await;
            match within_the_runtime {
                true => drop(work),
                false => std::thread::spawn(|| drop(work)).join().unwrap(),
            }
            go.send(()).unwrap();
            commits.drain().await;
            is_done.await.unwrap();
        }
    }

    #[tokio::test]
    async fn work_that_is_not_polled_is_not_done_and_work_that_is_done_is_not_done_again() {
        let commits = Commits::default();
        drop(Detached::new(async { unreachable!() }, &commits));
        let mut work = Detached::new(async {}, &commits);
        (&mut work).await.unwrap();
        drop(work);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test]
    async fn work_apart_goes_on_while_its_future_is_left_alone() {
        let (done, is_done) = oneshot::channel();
        let work = async move {
            tokio::task::yield_now().await;
            done.send(()).unwrap();
        };
        let mut work = Box::pin(Detached::new(work, &Commits::default()).apart());
        std::future::poll_fn(|cx| {
            assert!(work.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        is_done.await.unwrap();
        work.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_at_once_later_and_apart() {
        for (turns, apart) in [(0, false), (1, false), (0, true), (1, true)] {
            let work = async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                panic!("a store that panics");
            };
            let work: Detached<()> = Detached::new(work, &Commits::default());
            let result = match apart {
                true => work.apart().await,
                false => work.await,
            };
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
        }
    }
}
