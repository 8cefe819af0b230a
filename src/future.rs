//! A request on its way through the handler, and then through the commit.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::{
    caching::{keep_private, vary_by_cookie},
    cookie,
    error::Error,
    session::{Closing, Committed, CookieChange, Detached, Ending, LazySession},
};

pin_project! {
    /// The future of a [`SessionService`](crate::SessionService).
    ///
    /// Dropped before the handler is through, it discards what the handler changed, and still ends a
    /// session that was flushed. Dropped during the commit, it lets the commit run to its end.
    pub struct ResponseFuture<F, B> {
        #[pin]
        stage: Stage<F, B>,
        session: Guard,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<F, B> {
        Handling {
            #[pin]
            inner: F,
        },
        Committing {
            commit: Detached<Committed>,
            response: Option<Response<B>>,
        },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(crate) fn new(inner: F, session: LazySession) -> Self {
        Self {
            stage: Stage::Handling { inner },
            session: Guard {
                session,
                closed: false,
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        loop {
            match this.stage.as_mut().project() {
                StageProj::Handling { inner } => {
                    // An error has no headers, so its session is closed by the guard's drop.
                    let mut response = ready!(inner.poll(cx))?;
                    match this.session.close(ending_of(&response)) {
                        Closing::Untouched => return Poll::Ready(Ok(response)),
                        Closing::Done(cookie) => {
                            this.session.tell(&cookie, &mut response);
                            return Poll::Ready(Ok(response));
                        }
                        Closing::Committing(commit) => this.stage.set(Stage::Committing {
                            commit,
                            response: Some(response),
                        }),
                    }
                }
                StageProj::Committing { commit, response } => {
                    let committed =
                        ready!(Pin::new(commit).poll(cx)).unwrap_or_else(|error| Committed {
                            cookie: this.session.session.take_cookie(),
                            result: Err(error),
                        });
                    let handled = response.take().unwrap_or_default();
                    let mut response = match &committed.result {
                        Ok(()) => handled,
                        Err(error) => this.session.refuse(error),
                    };
                    this.session.tell(&committed.cookie, &mut response);
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A client error is an answer like any other; a server error means that the handler did not do
/// what it set out to.
fn ending_of<B>(response: &Response<B>) -> Ending {
    // Status codes above 599 are nobody's, and no success.
    match response.status().as_u16() >= 500 {
        true => Ending::Failure,
        false => Ending::Success,
    }
}

/// Closes the session, at the latest when it is dropped.
struct Guard {
    session: LazySession,
    closed: bool,
}

impl Guard {
    fn close(&mut self, ending: Ending) -> Closing {
        self.closed = true;
        self.session.close(ending)
    }

    /// Tells the client and the caches what became of the session.
    fn tell<B>(&self, change: &CookieChange, response: &mut Response<B>) {
        let headers = response.headers_mut();
        vary_by_cookie(headers);
        let sent = || self.session.cookies_sent();
        if cookie::apply(change, self.session.cookie_options(), sent, headers) {
            keep_private(headers);
        }
    }

    /// The answer to a request whose changes could not be committed.
    fn refuse<B: Default>(&self, error: &Error) -> Response<B> {
        let (mut head, ()) = self.session.render(error).into_parts();
        head.extensions.insert(error.clone());
        Response::from_parts(head, B::default())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        // Without a runtime, as when a process ends, there is nothing to run a commit on.
        if let (Closing::Committing(commit), Some(runtime)) =
            (self.session.close(Ending::Failure), self.session.runtime())
        {
            let _inside = runtime.enter();
            commit.run_alone();
        }
    }
}
