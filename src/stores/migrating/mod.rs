//! Two stores in the place of one, while sessions move from the old to the new.

mod capabilities;
mod place;

use async_trait::async_trait;

use self::place::Place;
use crate::{
    error::{StoreError, StoreErrorKind},
    id::{RecordId, SystemRandom, WriteToken},
    record::{Record, Version},
    store::{Created, Cursor, Rotated, ScanSessions, SessionStore, Updated},
    timestamp::Timestamp,
};

/// Moves sessions from one store to another while the application runs, without logging anyone out.
///
/// New sessions begin in the new store. A session that is in the old one is moved over when it is first asked for,
/// with its id, version, user and deadlines, and from then on it lives in the new store alone. A logout reaches both.
/// Compare-and-set holds throughout: what is promised of one store ([`SessionStore`]) is promised of the two.
///
/// # How to use it
///
/// 1. Deploy the application with `MigratingStore::new(new, old)` in the place of the old store.
/// 2. Move what nobody asks for with [`move_sessions`](Self::move_sessions), or wait for the absolute time-out of the layer.
/// 3. Deploy the application with the new store alone.
///
/// An instance that knows the old store alone knows nothing of a session that has been moved, and takes its client for a
/// stranger. So let no such instances run beside these: stop them first, or send each client to one kind; and go back to the old store
/// alone only by moving back. Move in one direction at a time, and let the last instance of one be gone before the first of the
/// other comes. Both stores have to be there: if one fails, what needs it is an error.
///
/// A cache belongs around this store, as `CachedStore::new(cache, MigratingStore::new(new, old))`, not around one of the two: what
/// is on its way is told by what both stores hold now. A near cache has to be that of the *new* store: nobody tells the one of
/// the old store what is written to the new one. Instances do not nest.
///
/// # How a session is moved
///
/// 1. A copy of it is put into the new store, as one that is *moving*, which is no session yet.
/// 2. The record in the old store is replaced by the note that it has *left*, if it is still what was copied.
/// 3. The moving copy becomes the session.
/// 4. The note is deleted.
///
/// The second step is the moment of the move. Whoever finds a moving copy looks for the note: with it he goes on with the
/// third step, with the session still there he goes on with the second, and with neither, or with the note for another copy, the session has
/// been ended or moved meanwhile, so that the copy is worth nothing. A logout deletes in the old store first, and then in the new one. So whatever crashes or is overtaken, a session is never in neither
/// store, never in both, and never comes back.
///
/// To load or change a session that has been moved costs as many calls as in one store, to rotate it one more, to end it two more. One that is in neither
/// costs three loads, the move of one six calls, a new one three loads more than in one store. A copy takes 34 bytes more than the session.
///
/// # Examples
///
/// ```
/// use tower_keep::{MemoryStore, MigratingStore, SessionLayer};
///
/// let old = MemoryStore::new(); // `RedisStore`, say
/// let new = MemoryStore::new(); // `PostgresStore`, say
/// let sessions = SessionLayer::new(MigratingStore::new(new, old));
/// ```
#[derive(Clone, Debug)]
pub struct MigratingStore<New, Old> {
    new: New,
    old: Old,
}

/// How far a move of all sessions has come; the answer to [`MigratingStore::move_sessions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPage {
    /// How many sessions of the page have been moved.
    pub moved: usize,
    /// How many the new store does not take, because they are too large, or cannot be read. They stay where they are, and a request
    /// for one of them is an error.
    pub failed: usize,
    /// Where to go on in the old store, or `None` at its end.
    pub next: Option<Cursor>,
}

impl<New, Old> MigratingStore<New, Old> {
    /// The store that sessions move to, and the one that they come from.
    pub const fn new(new: New, old: Old) -> Self {
        Self { new, old }
    }

    /// The store that sessions move to.
    pub const fn new_store(&self) -> &New {
        &self.new
    }

    /// The store that sessions come from.
    pub const fn old_store(&self) -> &Old {
        &self.old
    }
}

impl<New: SessionStore, Old: ScanSessions> MigratingStore<New, Old> {
    /// Moves a page of sessions: the first of the old store, or the one behind `after`. Any number of nodes may do so at the same time,
    /// and beside requests.
    ///
    /// # Errors
    ///
    /// If a store cannot be reached; some of the page may be moved. The same page may be asked for again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_keep::{MigratingStore, ScanSessions, SessionStore, StoreError};
    ///
    /// async fn move_all(
    ///     store: &MigratingStore<impl SessionStore, impl ScanSessions>,
    /// ) -> Result<(), StoreError> {
    ///     let mut after = None;
    ///     loop {
    ///         let page = store.move_sessions(after.as_ref(), 1000).await?;
    ///         match page.next {
    ///             Some(next) => after = Some(next),
    ///             None => return Ok(()),
    ///         }
    ///     }
    /// }
    /// ```
    pub async fn move_sessions(
        &self,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<MovedPage, StoreError> {
        let page = self.old.scan(after, limit).await?;
        let (mut moved, mut failed) = (0, 0);
        for session in page.sessions {
            // A note is followed up too: its session may wait for the rest of its move.
            let is_session = matches!(Place::of(session.record), Place::Here(_));
            match self.find(&session.id).await {
                Ok(found) => moved += usize::from(is_session && found.is_some()),
                Err(error) if error.kind() == StoreErrorKind::Unavailable => return Err(error),
                Err(error) => {
                    tracing::error!(
                        record = ?session.id,
                        error = &error as &dyn std::error::Error,
                        "a session can not be moved"
                    );
                    failed += 1;
                }
            }
        }
        Ok(MovedPage {
            moved,
            failed,
            next: page.next,
        })
    }
}

impl<New: SessionStore, Old: SessionStore> MigratingStore<New, Old> {
    /// The session in the new store, after it has been moved there if it was in the old one.
    async fn find(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        for _ in 0..ATTEMPTS_MAX {
            // In this order: what is moved between the two loads is found again in the next round.
            let there = self.new.load(id).await?.map(Place::of);
            if let Some(Place::Here(record)) = there {
                return Ok(Some(record));
            }
            let before = self.old.load(id).await?.map(Place::of);
            let step = match (there, before) {
                (Some(Place::Moving { copy, session }), Some(Place::Left { copy: of, .. }))
                    if of == copy.token =>
                {
                    self.arrive(id, copy, session).await?
                }
                // A move in the other direction that nobody has brought to its end.
                (Some(Place::Left { copy: of, .. }), Some(Place::Moving { copy, session }))
                    if of == copy.token =>
                {
                    let _arrived = self.old.update(id, &session, copy).await?;
                    Step::Overtaken
                }
                (there, Some(Place::Here(session))) => self.move_over(id, there, session).await?,
                (_, before) => self.look_again(id, before).await?,
            };
            match step {
                Step::Arrived(record) => return Ok(Some(record)),
                Step::Nowhere => return Ok(None),
                Step::Overtaken => {}
            }
        }
        Err(contended())
    }

    /// The session is not in the old store. A move may have come to its end since the new one was looked at.
    async fn look_again(&self, id: &RecordId, before: Option<Place>) -> Result<Step, StoreError> {
        let there = self.new.load(id).await?.map(Place::of);
        Ok(match (there, before) {
            (Some(Place::Here(record)), _) => Step::Arrived(record),
            (Some(Place::Moving { copy, .. }), Some(Place::Left { copy: of, .. }))
                if of == copy.token =>
            {
                Step::Overtaken
            }
            // A copy that nobody will bring to its end, unless it has come from a cache and is one no more: a touch that changes
            // nothing tells which.
            (Some(Place::Moving { copy, session }), _) => {
                match self.new.touch(id, session.expires_at, copy).await? {
                    true => Step::Nowhere,
                    false => Step::Overtaken,
                }
            }
            (Some(Place::Left { .. }) | None, _) => Step::Nowhere,
        })
    }

    /// Steps 1 and 2, and then the rest.
    async fn move_over(
        &self,
        id: &RecordId,
        there: Option<Place>,
        session: Record,
    ) -> Result<Step, StoreError> {
        let copy = place::moving(&session, new_token()?);
        let copied = match there {
            None => self.new.create(id, &copy).await? == Created::Done,
            Some(Place::Moving {
                copy: present,
                session: copied,
            }) if copied == session => {
                return self.leave(id, present, session).await;
            }
            // Of an older state of the session; or sessions are moved back to where they have left.
            Some(Place::Moving { copy: present, .. } | Place::Left { note: present, .. }) => {
                let replaced = self.new.update(id, &copy, present).await?;
                matches!(replaced, Updated::Done)
            }
            Some(Place::Here(record)) => return Ok(Step::Arrived(record)),
        };
        match copied {
            true => self.leave(id, copy.version, session).await,
            false => Ok(Step::Overtaken),
        }
    }

    /// Step 2, and then the rest.
    async fn leave(
        &self,
        id: &RecordId,
        copy: Version,
        session: Record,
    ) -> Result<Step, StoreError> {
        let note = place::left(&session, copy.token, new_token()?);
        match self.old.update(id, &note, session.version).await? {
            Updated::Done => self.arrive(id, copy, session).await,
            // Written by an instance that knows the old store alone; or moved, or ended, by somebody else.
            Updated::Conflict(_) | Updated::Gone => Ok(Step::Overtaken),
        }
    }

    /// Steps 3 and 4.
    async fn arrive(
        &self,
        id: &RecordId,
        copy: Version,
        session: Record,
    ) -> Result<Step, StoreError> {
        match self.new.update(id, &session, copy).await? {
            Updated::Done => {
                // A note that stays is one for a copy that is gone, and expires.
                if self.old.delete(id).await.is_err() {
                    tracing::warn!(record = ?id, "the note of a session that was moved stays in the old store");
                }
                Ok(Step::Arrived(session))
            }
            Updated::Conflict(_) | Updated::Gone => Ok(Step::Overtaken),
        }
    }
}

/// What became of a step of a move.
enum Step {
    /// The session is in the new store.
    Arrived(Record),
    /// There is no session.
    Nowhere,
    /// Somebody else was at work; look again.
    Overtaken,
}

#[async_trait]
impl<New: SessionStore, Old: SessionStore> SessionStore for MigratingStore<New, Old> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.find(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        match self.find(id).await? {
            None => self.new.create(id, record).await,
            // Also if it is this very record, sent twice.
            Some(_) => Ok(Created::Exists),
        }
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.new.update(id, record, expected).await? {
                Updated::Conflict(present) => {
                    if let Place::Here(present) = Place::of(present) {
                        return Ok(Updated::Conflict(present));
                    }
                }
                Updated::Gone => {}
                Updated::Done => return Ok(Updated::Done),
            }
            if self.find(id).await?.is_none() {
                return Ok(Updated::Gone);
            }
        }
        Err(contended())
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        let taken = self.old.load(new).await?.map(Place::of);
        if let Some(Place::Here(_)) = taken {
            return Ok(Rotated::Exists);
        }
        for _ in 0..ATTEMPTS_MAX {
            match self.new.rotate(old, new, record, expected).await? {
                Rotated::Conflict(present) => {
                    if let Place::Here(present) = Place::of(present) {
                        return Ok(Rotated::Conflict(present));
                    }
                }
                Rotated::Gone => {}
                other @ (Rotated::Done | Rotated::Exists) => return Ok(other),
            }
            if self.find(old).await?.is_none() {
                return Ok(Rotated::Gone);
            }
        }
        Err(contended())
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        if self.new.touch(id, expires_at, expected).await? {
            return Ok(true);
        }
        let found = self.find(id).await?;
        match found.is_some_and(|found| found.version == expected) {
            true => self.new.touch(id, expires_at, expected).await,
            false => Ok(false),
        }
    }

    /// First in the old store: a move that has not left it yet can then not leave it any more, and one that has, has
    /// put into the new store what is deleted there.
    ///
    /// It is looked for before, because not all that is deleted is a session. One that the new store does not take ends where it is.
    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let found = match self.find(id).await {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => return Err(error),
            found => found,
        };
        let in_old = self.old.delete(id).await?;
        let in_new = self.new.delete(id).await?;
        Ok(match found {
            Ok(found) => found.is_some() && in_new,
            Err(_) => in_old,
        })
    }
}

fn new_token() -> Result<WriteToken, StoreError> {
    let token = WriteToken::generate(&SystemRandom);
    token.map_err(|error| StoreError::new(NAME, StoreErrorKind::Other, error))
}

fn contended() -> StoreError {
    let reason = "others go on moving the same session";
    StoreError::new(NAME, StoreErrorKind::Unavailable, reason)
}

const NAME: &str = "migrating";

/// Each is lost only to somebody else's step.
const ATTEMPTS_MAX: u32 = 16;
