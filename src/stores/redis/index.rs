//! The index of a user's sessions.

use redis::{Cmd, Value};
use tokio::task::JoinSet;

use super::{CLOCK_SLACK, RedisStore, ending::Ended, ttl, unexpected};
use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::Record,
    store::StoredSession,
    stores::keyed::{Kept, Keys},
    user::UserId,
};

/// The entry of one session in the index of its user.
pub(super) struct Index {
    pub(super) key: String,
    deadline: i64,
    gone_before: i64,
    ttl: i64,
}

impl Index {
    /// Gives a script the entry.
    pub(super) fn fill(&self, command: &mut Cmd, id: &RecordId) {
        command.arg(id.as_bytes()).arg(self.deadline);
        command.arg(self.gone_before).arg(self.ttl);
    }
}

/// What an entry of the index leads to.
enum Entry {
    Live(StoredSession),
    /// A rotation is under way, or it has expired by this clock and perhaps not by that of another node.
    Unsettled,
    /// Nothing, for ever.
    Stale,
}

impl RedisStore {
    /// Where the session is to be noted, if it has a user.
    pub(super) fn index(&self, record: &Record) -> Option<Index> {
        let user = record.user.as_ref()?;
        let now = self.now();
        let slack = i64::try_from(CLOCK_SLACK.as_millis()).unwrap_or(i64::MAX);
        let deadline = record.absolute_deadline;
        Some(Index {
            key: self.prefix.user(user),
            deadline: deadline.as_millis(),
            gone_before: now.as_millis().saturating_sub(slack),
            ttl: ttl(deadline, now),
        })
    }

    /// Looks through an index that has grown, beside the request that let it grow. Sessions that ended
    /// leave their entries behind, so that a logout is one command.
    pub(super) fn tidy_if_due(&self, record: &Record, entries: i64) {
        let Some(user) = &record.user else { return };
        if entries >= TIDY_FROM && entries.count_ones() == 1 {
            let (store, user) = (self.clone(), user.clone());
            tokio::spawn(async move { store.live_sessions(&user).await });
        }
    }

    /// The sessions that the index of a user leads to. Entries that lead nowhere are removed.
    pub(super) async fn live_sessions(
        &self,
        user: &UserId,
    ) -> Result<Vec<StoredSession>, StoreError> {
        let ids = self.entries(user).await?;
        let store = self.clone();
        let entries = each(ids, move |id| {
            let store = store.clone();
            async move { store.entry(id).await }
        });
        let mut live = Vec::new();
        let mut stale = Vec::new();
        for (id, entry) in entries.await? {
            match entry {
                Entry::Live(session) if session.record.user.as_ref() == Some(user) => {
                    if session.id != id {
                        stale.push(id);
                    }
                    live.push(session);
                }
                Entry::Unsettled => {}
                Entry::Live(_) | Entry::Stale => stale.push(id),
            }
        }
        self.remove_entries(user, &stale).await?;
        // One that has moved is found from both of its ids.
        live.sort_unstable_by_key(|session| *session.id.as_bytes());
        live.dedup_by_key(|session| session.id);
        Ok(live)
    }

    /// Ends the sessions that the index of a user leads to, and answers which.
    pub(super) async fn end_sessions(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        let mut ids = self.entries(user).await?;
        ids.retain(|id| Some(id) != keep);
        let (store, owner, kept) = (self.clone(), user.clone(), keep.copied());
        let ends = each(ids, move |id| {
            let (store, owner) = (store.clone(), owner.clone());
            async move { store.end_wherever(id, &owner, kept).await }
        });
        let (mut ended, mut pending, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let mut stale = Vec::new();
        for (id, (at, end)) in ends.await? {
            match end {
                Ended::Live => ended.push(at),
                Ended::Pending => pending.push(at),
                Ended::Nothing if at != id => gone.push(at),
                Ended::Nothing | Ended::Moved(_) => {}
            }
            stale.push(id);
        }
        self.remove_entries(user, &stale).await?;
        // A session may have moved to where just before it was only about to, and where it was ended
        // for that.
        ended.extend(gone.into_iter().filter(|id| pending.contains(id)));
        // One is met twice if a command was sent twice, or if both of its ids lead to it.
        ended.sort_unstable_by_key(|id| *id.as_bytes());
        ended.dedup();
        Ok(ended)
    }

    /// Ends a session of that user, even if it has moved meanwhile; but not the one to keep. Answers
    /// where that was, and what became of it.
    async fn end_wherever(
        &self,
        mut id: RecordId,
        user: &UserId,
        keep: Option<RecordId>,
    ) -> Result<(RecordId, Ended), StoreError> {
        let mut owner = None;
        for _ in 0..MOVES_MAX {
            if Some(id) == keep {
                return Ok((id, Ended::Nothing));
            }
            match self.end(&id, owner).await? {
                end @ (Ended::Live | Ended::Pending | Ended::Nothing) => return Ok((id, end)),
                Ended::Moved(to) => {
                    id = to;
                    // Somebody else may have logged in with it.
                    owner = Some(user);
                }
            }
        }
        Err(moving())
    }

    async fn entry(&self, id: RecordId) -> Result<Entry, StoreError> {
        let mut at = id;
        for _ in 0..MOVES_MAX {
            let Some(kept) = self.get_undamaged(&at).await? else {
                return Ok(Entry::Unsettled);
            };
            match kept {
                Some(Kept::Moved { to, .. }) => at = to,
                None | Some(Kept::Ended) => return Ok(Entry::Stale),
                kept => {
                    let settled = self.settled_undamaged(&at, kept).await?;
                    return Ok(match settled {
                        Some(record) => Entry::Live(StoredSession { id: at, record }),
                        None => Entry::Unsettled,
                    });
                }
            }
        }
        Err(moving())
    }

    async fn entries(&self, user: &UserId) -> Result<Vec<RecordId>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.prefix.user(user)).arg(0).arg(-1);
        let Value::Array(members) = self.commands.send(&command).await? else {
            return Err(unexpected());
        };
        let mut ids = Vec::with_capacity(members.len());
        for member in members {
            match member {
                Value::BulkString(bytes) if bytes.len() == RecordId::LEN => {
                    ids.extend(bytes.try_into().ok().map(RecordId::from_bytes));
                }
                _ => tracing::error!("a damaged entry of an index was left out"),
            }
        }
        Ok(ids)
    }

    pub(super) async fn remove_entries(
        &self,
        user: &UserId,
        ids: &[RecordId],
    ) -> Result<(), StoreError> {
        for ids in ids.chunks(PARALLEL_MAX) {
            let mut command = redis::cmd("ZREM");
            command.arg(self.prefix.user(user));
            for id in ids {
                command.arg(id.as_bytes());
            }
            self.commands.send(&command).await?;
        }
        Ok(())
    }
}

/// Does the same with each id, many at once. What fails for one is no reason to leave out the others, unless the server
/// can not be reached.
pub(super) async fn each<T, F>(
    ids: Vec<RecordId>,
    one: impl Fn(RecordId) -> F,
) -> Result<Vec<(RecordId, T)>, StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let mut done = Vec::with_capacity(ids.len());
    let mut failure = None;
    let mut ids = ids.into_iter();
    let mut running = JoinSet::new();
    loop {
        for id in ids.by_ref().take(PARALLEL_MAX - running.len()) {
            let one = one(id);
            running.spawn(async move { one.await.map(|one| (id, one)) });
        }
        let Some(joined) = running.join_next().await else {
            break;
        };
        let panicked = |panic| StoreError::new(super::STORE, StoreErrorKind::Other, panic);
        match joined.unwrap_or_else(|panic| Err(panicked(panic))) {
            Ok(one) => done.push(one),
            Err(error) if error.kind() == StoreErrorKind::Unavailable => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(done), Err)
}

fn moving() -> StoreError {
    let problem = "the session moved again and again";
    StoreError::new(super::STORE, StoreErrorKind::Unavailable, problem)
}

/// An index is looked through when it reaches this many entries, and then at each doubling.
const TIDY_FROM: i64 = 32;

/// How many commands of one call are on their way at once.
const PARALLEL_MAX: usize = 64;

/// How many rotations one call runs after: far more than can happen while it runs.
const MOVES_MAX: usize = 64;
