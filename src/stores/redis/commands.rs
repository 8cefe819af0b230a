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
use tokio::time::{Instant, error::Elapsed, sleep, timeout_at};

use super::{
    failure::{Fate, out_of_time, store_error},
    link::{Link, Live, Mark},
    script::Script,
};
use crate::error::StoreError;

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
    /// When the command was first to be sent.
    begun: Instant,
    deadline: Instant,
    doubt: Option<RedisError>,
    breaks: u32,
    last: Option<RedisError>,
}

impl Commands {
    /// A command that may be sent twice.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.send_to(command, None).await
    }

    /// The same to one node of a cluster.
    pub(super) async fn send_to(
        &self,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
    ) -> Result<Value, StoreError> {
        let mut course = self.begin();
        let value = self.attempts(command, node, &mut course).await;
        value.map_err(|problem| self.store_error(problem, course))
    }

    /// A script, with what `fill` gives it: the number of keys, the keys, the arguments.
    pub(super) async fn run(
        &self,
        script: &Script,
        fill: impl Fn(&mut Cmd),
    ) -> Result<Reply, StoreError> {
        let mut course = self.begin();
        let mut command = script.by_hash();
        fill(&mut command);
        let mut value = self.attempts(&command, None, &mut course).await;
        if matches!(&value, Err(Problem::Redis(error)) if Fate::of(error) == Fate::UnknownScript) {
            course.begun = Instant::now();
            command = script.by_text();
            fill(&mut command);
            value = Box::pin(self.attempts(&command, None, &mut course)).await;
        }
        match value {
            Ok(value) => Ok(Reply {
                value,
                doubt: course.doubt,
            }),
            Err(problem) => Err(self.store_error(problem, course)),
        }
    }

    fn begin(&self) -> Course {
        let begun = Instant::now();
        Course {
            begun,
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

    /// Sends it until it is answered with more than "not now".
    async fn attempts(
        &self,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
        course: &mut Course,
    ) -> Result<Value, Problem> {
        let mut pause = PAUSE_MIN;
        let mut now = course.begun;
        loop {
            let mut live = if let Some(live) = self.link.live() {
                live
            } else {
                let live = Box::pin(self.link.next_live());
                let live = timeout_at(course.deadline, live).await??;
                now = Instant::now();
                live
            };
            let patience = course.deadline.min(now + SILENCE);
            let mut reply = self
                .attempt(&mut live, command, node, patience, course.deadline)
                .await?;
            if let Err(error) = &reply
                && Fate::of(error) == Fate::Asked
            {
                let asked = Box::pin(live.connection.send_after_ask(command, error));
                reply = timeout_at(course.deadline, asked).await?;
            }
            let error = match reply {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
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
            timeout_at(course.deadline, sleep(pause)).await?;
            now = Instant::now();
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends it once, with less than the whole time for a connection that is silent.
    async fn attempt(
        &self,
        live: &mut Live,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
        patience: Instant,
        deadline: Instant,
    ) -> Result<RedisResult<Value>, Problem> {
        let silent = live.mark();
        let mut sending = pin!(live.connection.send(command, node));
        match timeout_at(patience, sending.as_mut()).await {
            Ok(reply) => Ok(reply),
            Err(elapsed) if patience == deadline => {
                // Who has less time than that does not see it replaced, but the next one does.
                if silent.age() >= SILENCE {
                    self.link.replace(silent);
                }
                Err(elapsed.into())
            }
            Err(_) => Box::pin(self.outlast(sending, silent, deadline)).await,
        }
    }

    /// Waits on, for the reply or for another connection.
    async fn outlast(
        &self,
        sending: Pin<&mut impl Future<Output = RedisResult<Value>>>,
        silent: Mark,
        deadline: Instant,
    ) -> Result<RedisResult<Value>, Problem> {
        self.link.replace(silent);
        let replaced = pin!(self.link.replaced(silent));
        let reply = timeout_at(deadline, either(sending, replaced)).await?;
        let problem = || Err((ErrorKind::Io, "the connection was silent").into());
        Ok(reply.unwrap_or_else(problem))
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
