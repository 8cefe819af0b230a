//! A connection that is made anew, in the background, when it is lost.

#[cfg(feature = "memory")]
mod company;

use std::{
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, Value,
    cluster::ClusterClient, sentinel::SentinelClient,
};
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

#[cfg(feature = "memory")]
pub(super) use self::company::Company;
use super::{
    connection::Connection,
    failure::{Fate, store_error},
};

/// How connections are made.
pub(super) enum Origin {
    Server(Client),
    /// Asks a Sentinel each time who the primary is.
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

impl Origin {
    fn connect_timeout(&self) -> Duration {
        match self {
            Self::Server(_) => CONNECT_TIMEOUT,
            Self::Sentinel(_) | Self::Cluster(_) => DETOUR_CONNECT_TIMEOUT,
        }
    }

    /// A connection, and the server it leads to, if that is one.
    async fn connect(&self) -> RedisResult<(Connection, Option<Client>)> {
        let client = match self {
            Self::Server(client) => client.clone(),
            Self::Sentinel(client) => client.lock().await.async_get_client().await?,
            Self::Cluster(client) => {
                let connection = client.get_async_connection().await?;
                return Ok((Connection::Cluster(connection), None));
            }
        };
        let config = config();
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        Ok((Connection::Server(connection.await?), Some(client)))
    }
}

/// Of each connection. Callers count their own time; a timeout of the driver's would come on top.
pub(super) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

/// The present connection, if there is one.
enum State {
    Down(Option<RedisError>),
    Up {
        live: Live,
        #[cfg_attr(
            not(feature = "memory"),
            expect(dead_code, reason = "only a near cache asks")
        )]
        server: Option<Box<Client>>,
    },
}

/// A connection that was up when it was handed out.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: Connection,
    since: Instant,
}

/// Which connection of a link it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(Instant);

impl Mark {
    /// How long ago that connection was made.
    pub(super) fn age(self) -> Duration {
        self.0.elapsed()
    }
}

impl Live {
    pub(super) fn new(connection: Connection) -> Self {
        let since = Instant::now();
        Self { connection, since }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.since)
    }
}

/// Hands out one connection to all callers, and replaces it when it is lost or silent.
pub(super) struct Link {
    /// `None` where the application made the connection and looks after it.
    origin: Option<Origin>,
    state: watch::Sender<State>,
    effort: std::sync::Mutex<Effort>,
}

/// What is done to get a connection.
#[derive(Default)]
struct Effort {
    /// When the attempt that is under way began.
    attempt: Option<Instant>,
    /// When there last was a connection.
    success: Option<Instant>,
}

impl Link {
    pub(super) fn new(origin: Origin) -> Arc<Self> {
        Self::with(Some(origin), State::Down(None))
    }

    pub(super) fn given(connection: Connection) -> Arc<Self> {
        let (live, server) = (Live::new(connection), None);
        Self::with(None, State::Up { live, server })
    }

    fn with(origin: Option<Origin>, state: State) -> Arc<Self> {
        Arc::new(Self {
            origin,
            state: watch::Sender::new(state),
            effort: std::sync::Mutex::default(),
        })
    }

    /// The connection, if there is one.
    pub(super) fn live(&self) -> Option<Live> {
        match &*self.state.borrow() {
            State::Up { live, .. } => Some(live.clone()),
            State::Down(_) => None,
        }
    }

    /// The connection, as soon as there is one. The caller bounds the wait.
    ///
    /// Fails where no other attempt could succeed: a password is wrong.
    pub(super) async fn next_live(self: &Arc<Self>) -> RedisResult<Live> {
        let mut changes = self.state.subscribe();
        loop {
            if let State::Up { live, .. } = &*changes.borrow_and_update() {
                return Ok(live.clone());
            }
            self.renew();
            // The sender lives as long as `self`. A task of another runtime may never come to its end.
            let _ = timeout(ATTEMPT_TIME_MAX, changes.changed()).await;
            if let State::Down(Some(problem)) = &*changes.borrow()
                && Fate::of(problem) == Fate::Final
            {
                return Err(problem.clone());
            }
        }
    }

    /// Why there is no connection, if there is none.
    pub(super) fn problem(&self) -> Option<RedisError> {
        match &*self.state.borrow() {
            State::Down(problem) => problem.clone(),
            State::Up { .. } => None,
        }
    }

    /// Whoever asks from now on waits for a new connection, unless there already is one.
    pub(super) fn lost(self: &Arc<Self>, lost: &Live, why: &RedisError) {
        // A cluster's connection mends itself, node by node.
        if !matches!(lost.connection, Connection::Cluster(_)) {
            self.drop_connection(lost.mark(), why);
        }
    }

    /// Replaces a connection that is silent, once another is up.
    pub(super) fn replace(self: &Arc<Self>, silent: Mark) {
        if self.is_at(silent) {
            self.renew();
        }
    }

    /// Ends when there is a connection, and it is another than that.
    pub(super) async fn replaced(&self, silent: Mark) {
        let mut changes = self.state.subscribe();
        let is_other =
            |state: &State| matches!(state, State::Up { live, .. } if live.mark() != silent);
        let _ = changes.wait_for(is_other).await;
    }

    fn is_at(&self, mark: Mark) -> bool {
        matches!(&*self.state.borrow(), State::Up { live, .. } if live.mark() == mark)
    }

    fn drop_connection(self: &Arc<Self>, mark: Mark, why: &RedisError) {
        if self.origin.is_none() {
            return;
        }
        let mut is_needed = true;
        self.state.send_if_modified(|state| match state {
            State::Up { live, .. } if live.mark() == mark => {
                *state = State::Down(Some(why.clone()));
                true
            }
            // Others have seen to it.
            State::Up { .. } => {
                is_needed = false;
                false
            }
            State::Down(_) => false,
        });
        if is_needed {
            self.renew();
        }
    }

    fn renew(self: &Arc<Self>) {
        let mut effort = self.effort.lock().unwrap_or_else(PoisonError::into_inner);
        // One that began long ago belongs to a runtime that nobody drives any more.
        let is_under_way = |begun: Instant| begun.elapsed() < ATTEMPT_TIME_MAX;
        if self.origin.is_none() || effort.attempt.is_some_and(is_under_way) {
            return;
        }
        effort.attempt = Some(Instant::now());
        let last_success = effort.success;
        // A runtime that shuts down drops the task at once, which ends the attempt.
        drop(effort);
        tokio::spawn(connect(Connecting(Arc::clone(self)), last_success));
    }

    fn begin_attempt(&self) {
        let mut effort = self.effort.lock().unwrap_or_else(PoisonError::into_inner);
        effort.attempt = Some(Instant::now());
    }

    fn end_attempts(&self) {
        let mut effort = self.effort.lock().unwrap_or_else(PoisonError::into_inner);
        effort.attempt = None;
    }

    fn up(self: &Arc<Self>, connection: Connection, server: Option<Client>) {
        let live = Live::new(connection);
        let mark = live.mark();
        let mut effort = self.effort.lock().unwrap_or_else(PoisonError::into_inner);
        effort.success = Some(Instant::now());
        drop(effort);
        self.state.send_replace(State::Up {
            live,
            server: server.map(Box::new),
        });
        if let Some(Origin::Sentinel(_)) = self.origin {
            tokio::spawn(watch_primary(Arc::downgrade(self), mark));
        }
    }
}

/// Says that a task is about it, until that is dropped, even by a runtime that ends.
struct Connecting(Arc<Link>);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.end_attempts();
        // Those who wait must see to it themselves, if it came to nothing.
        self.0.state.send_modify(|_| {});
    }
}

/// Tries until it succeeds, or until nobody waits for it.
async fn connect(connecting: Connecting, last_success: Option<Instant>) {
    let Connecting(link) = &connecting;
    let Some(origin) = &link.origin else { return };
    // A server that lets everybody in and then refuses the work is not asked all the time.
    if let Some(last) = last_success {
        sleep(LIFE_MIN.saturating_sub(last.elapsed())).await;
    }
    let mut pause = PAUSE_MIN;
    loop {
        link.begin_attempt();
        let problem = match timeout(origin.connect_timeout(), origin.connect()).await {
            Ok(Ok((connection, server))) => return link.up(connection, server),
            Ok(Err(error)) => error,
            Err(_) => RedisError::from((ErrorKind::Io, "no connection in time")),
        };
        let is_final = Fate::of(&problem) == Fate::Final;
        link.state.send_if_modified(|state| {
            if let State::Down(last) = state {
                *last = Some(problem);
            }
            false
        });
        // They are told when this task ends.
        if is_final || link.state.receiver_count() == 0 {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Leaves a server that is no primary any more: it would answer reads from the past. Not each way to demote one
/// disconnects its clients.
async fn watch_primary(link: Weak<Link>, mark: Mark) {
    let mut is_refused = false;
    loop {
        sleep(PRIMARY_CHECK).await;
        let Some(link) = link.upgrade() else { return };
        let Some(mut live) = link.live().filter(|live| live.mark() == mark) else {
            return;
        };
        let role = redis::cmd("ROLE");
        let answer = timeout(PRIMARY_CHECK, live.connection.send(&role, None)).await;
        match answer {
            Ok(Ok(Value::Array(role))) if !is_primary(&role) => {
                return link.lost(&live, &no_primary());
            }
            Ok(Err(problem)) if Fate::of(&problem) == Fate::Final && !is_refused => {
                is_refused = true;
                tracing::warn!(
                    error = &store_error(problem) as &dyn std::error::Error,
                    "the server does not tell its role: that it is no primary any more will be noticed late"
                );
            }
            // One that does not answer is the matter of those who wait for it.
            _ => {}
        }
    }
}

/// By the answer to `ROLE`.
pub(super) fn is_primary(role: &[Value]) -> bool {
    role.first() == Some(&Value::BulkString(b"master".to_vec()))
}

pub(super) fn no_primary() -> RedisError {
    RedisError::from((ErrorKind::Io, "the server is no primary any more"))
}

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The same where others are asked for the way: the first Sentinels or nodes may be silent for a second.
const DETOUR_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is lost sooner than this is replaced only after so long.
const LIFE_MIN: Duration = Duration::from_millis(20);

/// The first pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// No pause is longer, so that a server that is back is noticed well within a second.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// An attempt that takes longer, with its pause, is left to itself.
const ATTEMPT_TIME_MAX: Duration = Duration::from_millis(2500);

/// How often a server is asked whether it is still a primary.
const PRIMARY_CHECK: Duration = Duration::from_secs(1);
