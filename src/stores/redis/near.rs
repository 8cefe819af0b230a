//! A cache in this process that Redis tells of every write to a session.

mod tracking;

use std::{sync::Arc, time::Duration};

use redis::RedisError;
use tokio::time::{sleep, timeout};

use self::tracking::Tracking;
use super::{
    RedisStore, Topology,
    failure::{Fate, foreign, out_of_time, store_error},
    keys::Prefix,
    link::{Link, Mark},
};
use crate::{
    error::{StoreError, StoreErrorKind},
    stores::near::{Follower, MemoryCache},
};

impl RedisStore {
    /// A cache in the memory of this process that the server tells of every write to a session of this store,
    /// whoever writes. Connects.
    ///
    /// # What it promises
    ///
    /// A copy is let go of as soon as the news of a write arrive, which the server sends off before, or together
    /// with, its answer to the writer; on the same machine that is within a millisecond.
    ///
    /// Whatever happens to the connection, the server or this process, no copy is served that was already outdated
    /// about *one second* before: not when a cable is cut silently, a host is gone, the process was stopped, or
    /// another server has taken over. Each 250 milliseconds the server is asked for a sign of life, on the
    /// connection by which the news come, and copies are served only so long after it. When the
    /// connection is lost all of them are let go of, and it is made anew in the background, under
    /// Sentinels always to the server that the store itself has its connection to. Until then the cache is
    /// empty, and everything is asked from the store.
    ///
    /// What is served from a server that does not know yet that it is no primary any more, be it by the store or by
    /// the cache, is outdated as long as that lasts.
    ///
    /// # What it costs
    ///
    /// One more connection to the server for each cache. Every write to a session is told to each of them, in
    /// about a hundred bytes. A `PING` or, under Sentinels, a `ROLE` each 250 milliseconds.
    ///
    /// News are of any write, also those of this process; so a session that was changed is asked from the store
    /// once more.
    ///
    /// # What it needs
    ///
    /// A runtime of tokio, in which it is called. A server of version 7 or newer, and a user who may call `CLIENT TRACKING` (`+client|tracking`), `INFO`, `PING`
    /// and, under Sentinels, `ROLE`. A store with the right [prefix](Self::with_prefix): choose it before, as the cache is
    /// told of that one alone.
    ///
    /// An address that leads to one server. By each connection it is made sure that it is the one that the store itself is
    /// connected to; where it is another, there is no cache until the two agree.
    ///
    /// It is fed by a task of the runtime that this is called in, which ends soon after the last clone of the
    /// cache is dropped. When the runtime ends first, the cache has no copies any more.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`] if there is no connection within the
    /// [time](Self::with_timeout) of the store: try again, or go on without. [`StoreErrorKind::Other`] if the server
    /// or its user cannot do that; over a cluster, where it is not offered yet; and for a store over a
    /// connection that the application has made.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn start() -> Result<(), tower_keep::StoreError> {
    /// use tower_keep::RedisStore;
    ///
    /// let store = RedisStore::open("redis://127.0.0.1:6379")?;
    /// let cache = store.near_cache().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn near_cache(&self) -> Result<MemoryCache, StoreError> {
        let link = &self.commands.link;
        if self.topology == Topology::Cluster {
            return Err(refused("a near cache over a cluster is not offered yet"));
        }
        if link.is_given() {
            return Err(refused(
                "a near cache needs a connection of its own: make the store with `open`, `new` or `from_sentinel`",
            ));
        }
        let (cache, follower) = MemoryCache::followed();
        let feed = Feed {
            link: Arc::clone(link),
            prefix: self.prefix.clone(),
            follower: Arc::new(follower),
        };
        let mut problem = None;
        let tracking = match timeout(self.commands.timeout, feed.begin(&mut problem)).await {
            Ok(tracking) => tracking.map_err(store_error)?,
            Err(_) => return Err(out_of_time(link.problem().or(problem))),
        };
        tokio::spawn(feed.run(tracking));
        Ok(cache)
    }
}

/// Keeps a cache told, as long as it is needed.
struct Feed {
    link: Arc<Link>,
    prefix: Prefix,
    follower: Arc<Follower>,
}

impl Feed {
    /// Fails where no other attempt could succeed. The caller bounds the wait, and is told why it was long.
    async fn begin(&self, problem: &mut Option<RedisError>) -> Result<Tracking, RedisError> {
        let mut suspect = None;
        loop {
            match Tracking::start(self, &mut suspect).await {
                Err(why) if Fate::of(&why) != Fate::Final => *problem = Some(why),
                result => return result,
            }
            sleep(PAUSE_MIN).await;
        }
    }

    async fn run(self, mut tracking: Tracking) {
        loop {
            let suspect = tracking.mark();
            let Err(problem) = tracking.keep_up(&self).await else {
                return;
            };
            drop(tracking);
            self.follower.is_cut_off();
            tracing::warn!(
                error = &store_error(problem) as &dyn std::error::Error,
                "the near cache is cut off from its server, and is empty until it is connected again"
            );
            tracking = match self.begin_again(suspect).await {
                Some(tracking) => tracking,
                None => return,
            };
            tracing::info!("the near cache is connected again");
        }
    }

    /// Tries until it succeeds, or until the cache is not needed any more.
    async fn begin_again(&self, suspect: Mark) -> Option<Tracking> {
        let mut suspect = Some(suspect);
        let mut pause = PAUSE_MIN;
        while self.follower.is_needed() {
            let problem = match timeout(ATTEMPT_TIME_MAX, Tracking::start(self, &mut suspect)).await
            {
                Ok(Ok(tracking)) => return Some(tracking),
                Ok(Err(problem)) => {
                    // The server is there; it is not its connection to the store that is at fault.
                    if Fate::of(&problem) == Fate::Final {
                        suspect = None;
                    }
                    store_error(problem)
                }
                Err(_) => out_of_time(self.link.problem()),
            };
            tracing::debug!(
                error = &problem as &dyn std::error::Error,
                "the near cache is still cut off from its server"
            );
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        None
    }
}

fn refused(problem: &'static str) -> StoreError {
    foreign(StoreErrorKind::Other, problem)
}

/// How long one attempt to connect may take, with that of the store under Sentinels.
const ATTEMPT_TIME_MAX: Duration = Duration::from_millis(2500);

/// The first pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// No pause is longer. An attempt may replace a connection of the store, which should not happen all the time.
const PAUSE_MAX: Duration = Duration::from_millis(500);
