//! What all requests of one layer share.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::{
    sync::Notify,
    time::{Sleep, sleep},
};

use crate::{
    backend::{Backend, Queues, Side},
    clock::{Clock, SystemClock},
    error::{Error, ErrorKind},
    id::{RandomSource, SystemRandom},
    meter::{Event, count},
    options::{OptionsError, Outage, SessionOptions},
    patience::{Within, within},
    session::pulse::Pulse,
    timestamp::Timestamp,
};

/// The options of a layer, and the parts that are no plain data.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) backend: Backend,
    pub(crate) options: SessionOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn RandomSource>,
    pub(crate) render_error: Option<RenderError>,
    pub(crate) queues: Queues,
    pub(crate) commits: Commits,
    pub(crate) pulse: Pulse,
}

/// Makes the head of the response that reports an error.
pub(crate) type RenderError = Arc<dyn Fn(&Error) -> http::Response<()> + Send + Sync>;

impl Settings {
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            backend,
            options: SessionOptions::default(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            render_error: None,
            queues: Queues::default(),
            commits: Commits::default(),
            pulse: Pulse::default(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    pub(crate) const fn is_in_cookies(&self) -> bool {
        matches!(self.backend.side, Side::Client(_))
    }

    /// Whether a session ends only if the browser forgets it.
    pub(crate) fn is_irrevocable(&self) -> bool {
        match &self.backend.side {
            Side::Server(_) => false,
            Side::Client(client) => !client.is_revocable(),
        }
    }

    /// Whether a request goes on with an empty session though this has happened to its own.
    pub(crate) fn serves_without_store(&self, error: &Error) -> bool {
        let is_outage = matches!(error.kind(), ErrorKind::Store | ErrorKind::Timeout);
        is_outage && self.options.outage == Outage::Anonymous
    }

    /// What contradicts itself, or leaves no room.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        self.options.check()?;
        match &self.backend.side {
            Side::Client(client)
                if client.data_bytes_max(&self.options.cookie) < COOKIE_DATA_BYTES_MIN =>
            {
                Err(OptionsError(
                    "the cookie's path and domain leave no room for a session in the cookie: shorten them",
                ))
            }
            Side::Client(_) | Side::Server(_) => Ok(()),
        }
    }

    /// Bytes of data that a session can have at most.
    pub(crate) fn data_bytes_max(&self) -> usize {
        let limit = self.options.limits.record_bytes_max;
        match &self.backend.side {
            Side::Server(_) => limit,
            Side::Client(client) => limit.min(client.data_bytes_max(&self.options.cookie)),
        }
    }

    /// Waits for the store no longer than the layer's store timeout.
    pub(crate) fn in_time<'a, T>(
        &'a self,
        operation: &'static str,
        work: Pin<&'a mut impl Future<Output = Result<T, Error>>>,
    ) -> impl Future<Output = Result<T, Error>> {
        let limit = self.options.limits.store_timeout;
        let start_timer = move || {
            self.pulse.keep();
            sleep(limit)
        };
        InTime {
            answer: within(work, start_timer),
            settings: self,
            operation,
        }
    }

    #[cold]
    fn out_of_time(&self, operation: &'static str) -> Error {
        let limit = self.options.limits.store_timeout;
        count(Event::StoreError);
        tracing::error!(
            operation,
            ?limit,
            "the session store did not answer in time"
        );
        Error::new(
            ErrorKind::Timeout,
            "the session store did not answer in time",
        )
    }
}

pin_project! {
    /// The future of [`Settings::in_time`]. As an `async fn` it would keep its arguments twice.
    struct InTime<'a, F, S> {
        #[pin]
        answer: Within<'a, F, S>,
        settings: &'a Settings,
        operation: &'static str,
    }
}

impl<T, F, S> Future for InTime<'_, F, S>
where
    F: Future<Output = Result<T, Error>>,
    S: Fn() -> Sleep,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx));
        Poll::Ready(answer.unwrap_or_else(|| Err(this.settings.out_of_time(this.operation))))
    }
}

/// Less is no use to an application.
const COOKIE_DATA_BYTES_MIN: usize = 1024;

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("backend", &self.backend)
            .field("options", &self.options)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// The commits under way, to wait for before a process ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits(Arc<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    count: AtomicUsize,
    none: Notify,
}

impl Commits {
    /// Counts a commit, from this call on until the guard is dropped.
    pub(crate) fn begin(&self) -> CommitGuard {
        self.0.count.fetch_add(1, AcqRel);
        CommitGuard(self.clone())
    }

    /// Waits until none is under way.
    pub(crate) async fn drain(&self) {
        loop {
            // From here on it hears of the last one's end.
            let none = self.0.none.notified();
            if self.0.count.load(Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct CommitGuard(Commits);

impl Drop for CommitGuard {
    fn drop(&mut self) {
        let Commits(under_way) = &self.0;
        if under_way.count.fetch_sub(1, AcqRel) == 1 {
            under_way.none.notify_waiters();
        }
    }
}
