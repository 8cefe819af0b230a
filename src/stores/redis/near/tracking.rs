//! The connection by which the server tells of writes.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use redis::{
    Client, Cmd, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, RedisResult, Value,
    aio::{AsyncPushSender, MultiplexedConnection, SendError},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    super::{
        commands::either,
        connection::run_id,
        keys::Prefix,
        link::{self, Company, Mark},
    },
    Feed,
};
use crate::stores::near::Follower;

/// A connection that every write to a session is told by.
pub(super) struct Tracking {
    connection: MultiplexedConnection,
    /// Told when the connection is closed.
    closed: Arc<Notify>,
    /// The store's connection to the same server.
    company: Mark,
    beat: Beat,
}

impl Tracking {
    /// Connects to the server that the store is connected to, and makes the cache fresh. The caller bounds the wait.
    ///
    /// A connection of the store that is `suspect` is replaced first; and the one that the server was found by is so
    /// until this succeeds. If it stayed with a server that is gone, so would the cache; and if it were to another
    /// server than this one, loads would bring copies that nobody tells about.
    pub(super) async fn start(feed: &Feed, suspect: &mut Option<Mark>) -> RedisResult<Self> {
        let Company {
            mark,
            server,
            connection: mut store,
        } = feed.link.company(*suspect).await?;
        *suspect = Some(mark);
        let closed = Arc::new(Notify::new());
        let ear = Ear {
            prefix: feed.prefix.clone(),
            follower: Arc::clone(&feed.follower),
            closed: Arc::clone(&closed),
        };
        let config = link::config().set_push_sender(ear);
        let client = with_pushes(&server)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        let mut tracking = Self {
            connection: connection.await?,
            closed,
            company: mark,
            beat: Beat::new(feed.link.changes_servers()),
        };
        let mut command = redis::cmd("CLIENT");
        command.arg(&["TRACKING", "ON", "BCAST", "PREFIX"]);
        command.arg(feed.prefix.sessions());
        tracking.send(&command).await?;
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let here = run_id(&tracking.send(&info).await?)?;
        if run_id(&store.send(&info, None).await?)? != here {
            // Neither connection is at fault.
            *suspect = None;
            let problem = "the address leads to another server than that of the store's connection";
            return Err((ErrorKind::Io, problem).into());
        }
        // What was written before has not been told.
        feed.follower.flush();
        for _ in 0..2 {
            tracking.beat(&feed.follower).await?;
        }
        Ok(tracking)
    }

    /// The store's connection to the same server.
    pub(super) fn mark(&self) -> Mark {
        self.company
    }

    /// Keeps the cache fresh until it is not needed any more. Fails when the connection does.
    pub(super) async fn keep_up(&mut self, feed: &Feed) -> RedisResult<()> {
        let closed = Arc::clone(&self.closed);
        let apart = feed.link.left(self.company);
        let mut end = pin!(async {
            either(pin!(closed.notified()), pin!(apart)).await;
        });
        while feed.follower.is_needed() {
            before(end.as_mut(), self.beat(&feed.follower)).await??;
            before(end.as_mut(), sleep(BEAT)).await?;
        }
        Ok(())
    }

    /// Asks for a sign of life, and tells the cache how long that makes it fresh.
    ///
    /// The driver hears the server's answers and its news in the order in which they are sent, and gives the
    /// news to the [`Ear`] before it looks further; so with an answer, everything that was sent before it has been
    /// done. What that says is about the time of the question *before*: a server sends the news of one turn of
    /// its event loop at the end of the turn, so they may come after an answer of the same turn, and a
    /// server with several threads may let a writer know sooner. The question that is sent once the answer to the
    /// former is there belongs to a later turn.
    async fn beat(&mut self, follower: &Follower) -> RedisResult<()> {
        let asked = Instant::now();
        let command = self.beat.command();
        let Ok(answer) = timeout(STALENESS_MAX, self.send(&command)).await else {
            return Err((ErrorKind::Io, "the server gave no sign of life").into());
        };
        let answer = answer?;
        if let Some(previous) = self.beat.answered(asked, &answer)? {
            follower.fresh_until(previous + STALENESS_MAX);
        }
        Ok(())
    }

    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let reply = self.connection.send_packed_command(command).await?;
        reply.extract_error()
    }
}

/// The signs of life of one connection.
struct Beat {
    /// Whether it has to be a primary's.
    is_primary: bool,
    /// When the last question that has been answered was sent.
    answered: Option<Instant>,
}

impl Beat {
    fn new(is_primary: bool) -> Self {
        Self {
            is_primary,
            answered: None,
        }
    }

    fn command(&self) -> Cmd {
        redis::cmd(if self.is_primary { "ROLE" } else { "PING" })
    }

    /// Since when everything was told; nothing is known from the first answer.
    fn answered(&mut self, asked: Instant, answer: &Value) -> RedisResult<Option<Instant>> {
        let is_primary = || matches!(answer, Value::Array(role) if link::is_primary(role));
        if self.is_primary && !is_primary() {
            return Err(link::no_primary());
        }
        Ok(self.answered.replace(asked))
    }
}

/// Hears what the server tells without having been asked.
///
/// It is called by the driver while it reads, so nothing ever queues up, and is done when the next answer is given
/// out.
struct Ear {
    prefix: Prefix,
    follower: Arc<Follower>,
    closed: Arc<Notify>,
}

impl AsyncPushSender for Ear {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        match push.kind {
            PushKind::Invalidate => match push.data.first() {
                Some(Value::Array(keys)) => self.changed(keys),
                // The server was emptied, or says something new.
                _ => self.follower.flush(),
            },
            PushKind::Disconnection => self.closed.notify_one(),
            _ => {}
        }
        Ok(())
    }
}

impl Ear {
    fn changed(&self, keys: &[Value]) {
        let ids = keys.iter().filter_map(|key| match key {
            Value::BulkString(key) => self.prefix.id_of(key),
            _ => None,
        });
        ids.for_each(|id| self.follower.changed(&id));
    }
}

/// The same server, in the version of the protocol that has pushes.
fn with_pushes(server: &Client) -> RedisResult<Client> {
    let info = server.get_connection_info().clone();
    let settings = info.redis_settings().clone();
    let settings = settings.set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings))
}

/// What comes of it, unless the connection ends before.
async fn before<T>(
    end: Pin<&mut impl Future<Output = ()>>,
    future: impl Future<Output = T>,
) -> RedisResult<T> {
    let ended = || RedisError::from((ErrorKind::Io, "the connection is closed"));
    either(pin!(future), end).await.ok_or_else(ended)
}

/// How often a sign of life is asked for.
const BEAT: Duration = Duration::from_millis(250);

/// How long before it is served a copy may have become outdated at most: time for some signs of life that are late, and
/// less than a person notices.
const STALENESS_MAX: Duration = Duration::from_secs(1);
