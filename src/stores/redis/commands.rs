//! Commands, sent until they are answered or their time is over.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use redis::{
    Cmd, ErrorKind, RedisError, RedisResult, Value, cluster_routing::SingleNodeRoutingInfo,
};
use tokio::time::{Instant, error::Elapsed, sleep, sleep_until, timeout_at};

use super::{
    failure::{Fate, out_of_time, store_error},
    link::{Link, Live, Mark},
    script::Script,
};
use crate::{error::StoreError, patience::within};

/// Sends commands through a link. Cheap to clone.
#[derive(Clone)]
pub(super) struct Commands {
    pub(super) link: Arc<Link>,
    pub(super) timeout: Duration,
}

/// A reply of the server.
pub(super) struct Reply {
    pub(super) value: Value,
    /// Why it was sent again, if an earlier one may have been carried out.
    pub(super) doubt: Option<RedisError>,
}

/// What has come of the attempts so far.
struct Course {
    deadline: Instant,
    doubt: Option<RedisError>,
    breaks: u32,
    last: Option<RedisError>,
}

/// A first attempt without an answer: by which connection, and why. `None` if there was no connection.
type Tried = Option<(Live, Problem)>;

impl Commands {
    /// A command that may be sent twice.
    pub(super) fn send(&self, command: &Cmd) -> impl Future<Output = Result<Value, StoreError>> {
        self.send_to(command, None)
    }

    /// The same to one node of a cluster.
    pub(super) async fn send_to(
        &self,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
    ) -> Result<Value, StoreError> {
        let begun = Instant::now();
        match self.try_first(command, node, begun).await {
            Ok(value) => Ok(value),
            Err(tried) => Box::pin(self.send_on(command, node, begun, tried)).await,
        }
    }

    async fn send_on(
        &self,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
        begun: Instant,
        tried: Tried,
    ) -> Result<Value, StoreError> {
        let mut course = self.course(begun);
        let value = self.try_on(command, node, &mut course, tried).await;
        value.map_err(|problem| self.store_error(problem, course))
    }

    /// A script, with what `fill` gives it: the number of keys, the keys, the arguments.
    pub(super) async fn run(
        &self,
        script: &Script,
        fill: impl Fn(&mut Cmd),
    ) -> Result<Reply, StoreError> {
        let mut command = script.by_hash();
        fill(&mut command);
        let begun = Instant::now();
        match self.try_first(&command, None, begun).await {
            Ok(value) => Ok(Reply { value, doubt: None }),
            Err(tried) => Box::pin(self.run_on(script, fill, &command, begun, tried)).await,
        }
    }

    async fn run_on(
        &self,
        script: &Script,
        fill: impl Fn(&mut Cmd),
        by_hash: &Cmd,
        begun: Instant,
        tried: Tried,
    ) -> Result<Reply, StoreError> {
        let mut course = self.course(begun);
        let mut value = self.try_on(by_hash, None, &mut course, tried).await;
        if matches!(&value, Err(Problem::Redis(error)) if Fate::of(error) == Fate::UnknownScript) {
            let mut by_text = script.by_text();
            fill(&mut by_text);
            value = self.try_on(&by_text, None, &mut course, None).await;
        }
        match value {
            Ok(value) => Ok(Reply {
                value,
                doubt: course.doubt,
            }),
            Err(problem) => Err(self.store_error(problem, course)),
        }
    }

    fn course(&self, begun: Instant) -> Course {
        Course {
            deadline: begun + self.timeout,
            doubt: None,
            breaks: 0,
            last: None,
        }
    }

    fn store_error(&self, problem: Problem, course: Course) -> StoreError {
        match problem {
            Problem::Redis(error) => store_error(error),
            Problem::OutOfTime => out_of_time(course.last.or_else(|| self.link.problem())),
        }
    }

    /// Sends it for the first time, which is nearly always all that there is to do. What else may have to be done is
    /// a future of its own: a large one.
    async fn try_first(
        &self,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
        begun: Instant,
    ) -> Result<Value, Tried> {
        let mut live = self.link.live().ok_or(None)?;
        let deadline = begun + self.timeout;
        let reply = self
            .attempt(&mut live, command, node, begun, deadline)
            .await;
        reply.map_err(|problem| Some((live, problem)))
    }

    /// Goes on after that attempt: sends it until it is answered with more than "not now".
    async fn try_on(
        &self,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
        course: &mut Course,
        mut tried: Tried,
    ) -> Result<Value, Problem> {
        let deadline = course.deadline;
        let mut pause = PAUSE_MIN;
        loop {
            let (live, problem) = if let Some(tried) = tried.take() {
                tried
            } else {
                let mut live = match self.link.live() {
                    Some(live) => live,
                    None => timeout_at(deadline, self.link.next_live()).await??,
                };
                let now = Instant::now();
                match self.attempt(&mut live, command, node, now, deadline).await {
                    Ok(value) => return Ok(value),
                    Err(problem) => (live, problem),
                }
            };
            let Problem::Redis(mut error) = problem else {
                return Err(problem);
            };
            if Fate::of(&error) == Fate::Asked {
                let asked = live.connection.send_after_ask(command, &error);
                error = match timeout_at(deadline, asked).await? {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
            }
            match Fate::of(&error) {
                Fate::Final | Fate::UnknownScript => return Err(error.into()),
                Fate::WrongServer => self.link.lost(&live, &error),
                Fate::Unknown => {
                    self.link.lost(&live, &error);
                    course.breaks += 1;
                    if course.breaks > BREAKS_MAX {
                        return Err(error.into());
                    }
                    course.doubt = Some(error.clone());
                }
                Fate::Refused | Fate::Asked => {}
            }
            course.last = Some(error);
            timeout_at(deadline, sleep(pause)).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends it once, with less than the whole time for a connection that is silent.
    async fn attempt(
        &self,
        live: &mut Live,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Value, Problem> {
        let patience = deadline.min(now + SILENCE);
        let silent = live.mark();
        let mut sending = pin!(live.connection.send(command, node));
        match within(sending.as_mut(), || sleep_until(patience)).await {
            Some(reply) => Ok(reply?),
            None if patience == deadline => {
                // Who has less time than that does not see it replaced, but the next one does.
                if silent.age() >= SILENCE {
                    self.link.replace(silent);
                }
                Err(Problem::OutOfTime)
            }
            None => Box::pin(self.outlast(sending, silent, deadline)).await,
        }
    }

    /// Waits on, for the reply or for another connection.
    async fn outlast(
        &self,
        sending: Pin<&mut impl Future<Output = RedisResult<Value>>>,
        silent: Mark,
        deadline: Instant,
    ) -> Result<Value, Problem> {
        self.link.replace(silent);
        let replaced = pin!(self.link.replaced(silent));
        let reply = timeout_at(deadline, either(sending, replaced)).await?;
        let problem = || Err((ErrorKind::Io, "the connection was silent").into());
        Ok(reply.unwrap_or_else(problem)?)
    }
}

/// Why a command has no answer.
enum Problem {
    Redis(RedisError),
    OutOfTime,
}

impl From<RedisError> for Problem {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Elapsed> for Problem {
    fn from(_: Elapsed) -> Self {
        Self::OutOfTime
    }
}

/// What the first answers, unless the second ends before.
pub(super) async fn either<F: Future>(
    mut first: Pin<&mut F>,
    mut second: Pin<&mut impl Future<Output = ()>>,
) -> Option<F::Output> {
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => second.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// How long a server may be silent before another connection is made beside, on which a command is sent again: longer
/// than most pauses of a server, and short enough for an operation with the usual time to succeed.
const SILENCE: Duration = Duration::from_millis(500);

/// How often a command is sent anew because its connection broke.
const BREAKS_MAX: u32 = 8;

/// The first pause before a command is sent again.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_millis(50);
