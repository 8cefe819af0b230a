//! Work that runs to its end, even if whoever waits for it goes away.

use std::{
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::{
    error::{Error, ErrorKind},
    session::settings::Commits,
};

/// A future that, once it is polled, runs to its end.
///
/// The first poll runs it in place, which nothing can cut short; a store in memory needs no more,
/// and is spared the way through the scheduler. What that poll does not finish goes on as a task.
/// A panic, in place or in the task, is an error of whoever waits.
pub(crate) enum Detached<T> {
    Here(Work<T>, Commits),
    Task(JoinHandle<T>),
    Over,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T: Send + 'static> Detached<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static, commits: &Commits) -> Self {
        Self::Here(Box::pin(work), commits.clone())
    }

    /// Has it run without anybody to wait for it.
    pub(crate) fn run_alone(self) {
        if let Self::Here(work, commits) = self {
            spawn(work, &commits);
        }
    }

    fn poll_here(work: &mut Work<T>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(interrupted())),
        }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let mut task = match mem::replace(&mut *self, Self::Over) {
            Self::Here(mut work, commits) => match Self::poll_here(&mut work, cx) {
                Poll::Ready(output) => return Poll::Ready(output),
                Poll::Pending => spawn(work, &commits),
            },
            Self::Task(task) => task,
            Self::Over => return Poll::Ready(Err(interrupted())),
        };
        let joined = Pin::new(&mut task).poll(cx);
        if joined.is_pending() {
            *self = Self::Task(task);
        }
        joined.map_err(|_| interrupted())
    }
}

/// Shows how far it has come.
impl<T> fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here(..) => "Detached::Here",
            Self::Task(_) => "Detached::Task",
            Self::Over => "Detached::Over",
        })
    }
}

/// Counted, so that `drain` waits for it.
fn spawn<T: Send + 'static>(work: Work<T>, commits: &Commits) -> JoinHandle<T> {
    let commit = commits.begin();
    let work = async move {
        let output = work.await;
        drop(commit);
        output
    };
    tokio::spawn(work.in_current_span())
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

    #[tokio::test]
    async fn work_that_is_done_at_once_needs_no_task() {
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let before = tasks();
        let work = Detached::new(async move { tasks() }, &Commits::default());
        assert_eq!(work.await.unwrap(), before);
    }

    #[tokio::test]
    async fn work_that_is_polled_once_and_dropped_runs_to_its_end() {
        let commits = Commits::default();
        let (go, gone) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let work = async move {
            gone.await.unwrap();
            done.send(()).unwrap();
        };
        let mut work = Box::pin(Detached::new(work, &commits));
        std::future::poll_fn(|cx| {
            assert!(work.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(work);
        go.send(()).unwrap();
        commits.drain().await;
        is_done.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_in_place_and_in_a_task() {
        for turns in [0, 1] {
            let work = async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                panic!("a store that panics");
            };
            let work: Detached<()> = Detached::new(work, &Commits::default());
            assert_eq!(work.await.unwrap_err().kind(), ErrorKind::Interrupted);
        }
    }
}
