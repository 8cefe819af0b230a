//! A cache in memory that PostgreSQL tells of every write.

use std::time::Duration;

use sqlx::{
    PgPool, Postgres,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    SqlStore,
    dialect::Dialect,
    failure::store_error,
    notifications::{Told, ToldTable},
    statements::Text,
};
use crate::{
    error::{StoreError, StoreErrorKind},
    stores::near::{Follower, MemoryCache},
};

impl SqlStore<Postgres> {
    /// A cache in the memory of this process that PostgreSQL tells of every write to the table, whoever writes:
    /// this node, another, a sweep, or somebody with `psql`.
    ///
    /// It takes the triggers that [`migrate_notifications`](Self::migrate_notifications) makes.
    ///
    /// # What it promises
    ///
    /// - A write is told as soon as it is committed; copies of the record are gone a moment later, within
    ///   milliseconds if nobody is in the way. A logout on one node is a logout on all.
    /// - No copy is served that has been outdated for more than a second, whatever happens: a connection that is cut
    ///   silently, a server that hangs, a process that was stopped for an hour. Four times a second the cache sends
    ///   itself a message through the server. Messages arrive in the order of the commits; so when one is back, all
    ///   that was written before it was sent has been told, and the cache serves copies until one second after
    ///   that. If none comes back, it serves none, and each request asks the store as if there were no cache.
    /// - It begins anew by itself, empty, when the server is back, and as long as there is a clone of the cache. It
    ///   also stops serving within that second when the table is replaced or its triggers are dropped or disabled,
    ///   and begins anew when they are back. If the pool is closed, it stops for good.
    ///
    /// The second is one by the clock of the machine, which stands still while a virtual machine is suspended.
    ///
    /// # What it costs
    ///
    /// One connection to the server, made with the options of the pool and not counted by it. On that, a statement
    /// and a notification each 250 ms for each node; each node hears those of all others, and ignores them. Each
    /// write notifies, and PostgreSQL lets transactions that notify commit one after the other.
    ///
    /// # Where it cannot be used
    ///
    /// Replicas cannot `LISTEN`, and pgbouncer does not pass notifications on in its transaction mode: the address of
    /// the pool has to be that of the primary. It must not be one that leads to different servers by turns, some of
    /// which lag behind. A table with partitions, or from which others inherit, has triggers that do not tell of all.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`] if the pool has no free connection for 5 seconds, the server cannot be reached, does
    /// not let this connection listen, or does not pass the first message on in that time. [`StoreErrorKind::Other`] if the table or its triggers are not there
    /// (call `migrate` and `migrate_notifications` before), or if it has partitions or heirs.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime. The cache is told of writes only while that runtime runs, and serves nothing after it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use sqlx::PgPool;
    /// use tower_keep::PostgresStore;
    ///
    /// let store = PostgresStore::new(PgPool::connect("postgres://app@localhost/app").await?);
    /// store.migrate().await?;
    /// store.migrate_notifications().await?;
    /// let cache = store.near_cache().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn near_cache(&self) -> Result<MemoryCache, StoreError> {
        let (cache, follower) = MemoryCache::followed();
        let line = self.open_line(&follower).await?;
        tokio::spawn(self.clone().follow(follower, line));
        Ok(cache)
    }

    /// Keeps the cache informed until nobody needs it any more.
    async fn follow(self, follower: Follower, mut line: Line) {
        loop {
            let lost = loop {
                if !self.is_wanted_by(&follower) {
                    return;
                }
                if let Err(error) = line.attend(&follower).await {
                    break error;
                }
            };
            follower.is_cut_off();
            drop(line);
            tracing::warn!(
                error = &lost as &dyn std::error::Error,
                "the cache no longer hears of writes, and serves nothing until it does"
            );
            line = match self.reopen_line(&follower).await {
                Some(line) => line,
                None => return,
            };
            tracing::info!("the cache hears of writes again");
        }
    }

    /// A new line, however long that takes; none if nobody needs it any more.
    async fn reopen_line(&self, follower: &Follower) -> Option<Line> {
        let mut pause_max = PAUSE_MIN;
        while self.is_wanted_by(follower) {
            // Nodes that have lost the same server do not come back all at once.
            let random = getrandom::u32().unwrap_or(u32::MAX);
            sleep(pause_max.mul_f64(f64::from(random) / f64::from(u32::MAX))).await;
            pause_max = (pause_max * 2).min(PAUSE_MAX);
            match self.open_line(follower).await {
                Ok(line) => return Some(line),
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the cache still does not hear of writes"
                ),
            }
        }
        None
    }

    fn is_wanted_by(&self, follower: &Follower) -> bool {
        follower.is_needed() && !self.pool.is_closed()
    }

    /// Listens, and makes the cache fresh. What was written before has not been told, so all copies go.
    async fn open_line(&self, follower: &Follower) -> Result<Line, StoreError> {
        let Some(table) = in_time(self.find_triggers()).await? else {
            return Err(no_triggers(&self.shared.table.to_string()));
        };
        let listener = in_time(async {
            let listener = self.listen(&table.channel()).await;
            listener.map_err(store_error::<Postgres>)
        });
        let mut line = Line::new(listener.await?, &table)?;
        follower.flush();
        // What another connection tells arrives, so both lead to the same server, and no pooler is between.
        line.send_beat(Some(&self.pool)).await?;
        in_time(async {
            while !line.attend(follower).await? {}
            Ok(line)
        })
        .await
    }

    /// On a connection of its own. The listener of sqlx gives its connection back when it is dropped, and waits for
    /// the server to agree; if that has gone silent, the pool of the requests would have one connection less each
    /// time.
    async fn listen(&self, channel: &str) -> Result<PgListener, sqlx::Error> {
        let options = self.pool.connect_options();
        let own = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(SILENCE_MAX)
            .connect_lazy_with((*options).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        // What is lost with a connection is lost: the next one begins with an empty cache.
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(listener)
    }
}

/// A connection that hears of writes, and sends itself a message now and then to know that it does.
struct Line {
    listener: PgListener,
    beat: Text,
    schema: String,
    /// No other line has it.
    nonce: u64,
    beats: u64,
    next_beat: Instant,
    awaited: Option<Beat>,
}

/// A message to oneself.
struct Beat {
    payload: String,
    /// A moment before.
    sent: Instant,
}

impl Line {
    fn new(listener: PgListener, table: &ToldTable) -> Result<Self, StoreError> {
        let nonce = getrandom::u64();
        Ok(Self {
            listener,
            beat: table.beat(),
            schema: table.schema().to_owned(),
            nonce: nonce.map_err(|error| failed(StoreErrorKind::Other, error.to_string()))?,
            beats: 0,
            next_beat: Instant::now(),
            awaited: None,
        })
    }

    /// Passes on the next thing that is told, or sends a beat if it is time. Answers whether one has come back.
    ///
    /// All that is told is passed on by one task, in the order in which it came.
    async fn attend(&mut self, follower: &Follower) -> Result<bool, StoreError> {
        // Asked first, because there may always be something to pass on.
        if Instant::now() >= self.next_beat {
            self.send_beat(None).await?;
        }
        let told = match timeout_at(self.next_beat, self.listener.try_recv()).await {
            Err(_) => return Ok(false),
            Ok(Err(error)) => return Err(store_error::<Postgres>(error)),
            Ok(Ok(None)) => {
                return Err(failed(
                    StoreErrorKind::Unavailable,
                    "the connection was lost",
                ));
            }
            Ok(Ok(Some(told))) => told,
        };
        let payload = told.payload();
        if payload.starts_with(BEAT_MARK) {
            let own = self.awaited.take_if(|awaited| awaited.payload == payload);
            if let Some(beat) = &own {
                follower.fresh_until(beat.sent + STALENESS_MAX);
            }
            return Ok(own.is_some());
        }
        match Told::parse(payload) {
            Told::Written(id, revision) => follower.written(&id, revision),
            Told::Changed(id) => follower.changed(&id),
            Told::Anything => follower.flush(),
        }
        Ok(false)
    }

    /// One at a time is under way. It is sent by a connection of that pool, or by the one that hears of it.
    async fn send_beat(&mut self, pool: Option<&PgPool>) -> Result<(), StoreError> {
        let sent = Instant::now();
        self.next_beat = sent + BEAT;
        if let Some(awaited) = &self.awaited {
            return match awaited.sent.elapsed() < SILENCE_MAX {
                true => Ok(()),
                false => Err(silent()),
            };
        }
        self.beats += 1;
        let payload = format!("{BEAT_MARK}{:016x}:{}", self.nonce, self.beats);
        let query = sqlx::query(self.beat.sql())
            .bind(payload.clone())
            .bind(&self.schema);
        self.awaited = Some(Beat { payload, sent });
        // What is told meanwhile waits, in order, in the listener.
        let rows = in_time(async {
            let rows = match pool {
                Some(pool) => query.fetch_all(pool).await,
                None => query.fetch_all(&mut self.listener).await,
            };
            rows.map_err(store_error::<Postgres>)
        });
        match rows.await?.is_empty() {
            true => Err(failed(
                StoreErrorKind::Other,
                "the table or its triggers have been replaced",
            )),
            false => Ok(()),
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let done = timeout(SILENCE_MAX, work).await;
    done.unwrap_or_else(|_| Err(silent()))
}

fn no_triggers(table: &str) -> StoreError {
    let problem = format!(
        "the table `{table}` has no triggers that tell of its writes: call `migrate_notifications` first"
    );
    failed(StoreErrorKind::Other, problem)
}

fn silent() -> StoreError {
    failed(
        StoreErrorKind::Unavailable,
        "there is no connection, or the server passes no notifications on",
    )
}

fn failed(kind: StoreErrorKind, problem: impl Into<String>) -> StoreError {
    StoreError::new(Postgres::STORE, kind, problem.into())
}

/// How long a copy may be outdated: short for a person, and long for a message to a server nearby.
const STALENESS_MAX: Duration = Duration::from_secs(1);

/// How often a message is sent: so often that three late ones in a row do not yet turn the cache off.
const BEAT: Duration = Duration::from_millis(250);

/// For so long a connection is waited for. It serves nothing meanwhile, so this only bounds how long it takes to be
/// well again after a connection was cut silently.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The first pause before a new connection is up to this long.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// No pause is longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a beat begins with; no id does.
const BEAT_MARK: &str = "beat:";
