//! Carries out in the store what `decide` has chosen.

use std::{
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use crate::{
    backend::{Server, Side, Turn},
    error::{Error, ErrorKind},
    id::{RecordId, SessionId, WriteToken},
    meter::{CommitTimer, Event, count},
    options::Conflict,
    record::Record,
    session::{
        decide::{Commit, Ending, decide},
        issue::Issuer,
        settings::Settings,
        state::{CookieChange, CookieValue, Draft, Origin, Plan},
    },
    store::{Created, Rotated, Updated},
    timestamp::Timestamp,
};

/// What there is to do.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) commit: Commit,
    pub(crate) plan: Plan,
    pub(crate) draft: Arc<Draft>,
    pub(crate) now: Timestamp,
}

impl Work {
    pub(crate) fn new(plan: Plan, settings: &Settings, ending: Ending) -> Self {
        let now = settings.now();
        let facts = plan.facts(&settings.options.expiry, now);
        let fresh = || Arc::new(Draft::new(settings));
        Self {
            commit: decide(facts, ending),
            draft: plan.draft.clone().unwrap_or_else(fresh),
            plan,
            now,
        }
    }

    /// What it was made of; all else is let go.
    pub(crate) fn into_plan(self) -> Plan {
        self.plan
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.commit == Commit::Nothing
    }
}

/// What has become of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) cookie: CookieChange,
    pub(crate) stored: Stored,
}

/// What the store holds now of the session of this request.
#[derive(Debug)]
pub(crate) enum Stored {
    /// What it held before.
    Same,
    /// This.
    Live(Origin),
    /// Nothing: the session was ended, by this request or while it was at work.
    Nothing { gone: bool },
}

/// Does the work.
pub(crate) async fn carry_out(settings: &Settings, work: &Work) -> Result<Outcome, Error> {
    let timer = CommitTimer::start();
    let outcome = match &settings.backend.side {
        Side::Server(server) => {
            let committer = Committer {
                settings,
                server,
                work,
            };
            committer.run().await
        }
        Side::Client(client) => Box::pin(Issuer::new(settings, client, work).run()).await,
    };
    timer.stop();
    outcome
}

/// How the client's cookie has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cookie {
    /// Another id, or another rule.
    New,
    /// A later deadline.
    Aged,
    Same,
}

struct Committer<'a> {
    settings: &'a Settings,
    server: &'a Server,
    work: &'a Work,
}

impl Committer<'_> {
    async fn run(&self) -> Result<Outcome, Error> {
        match self.work.commit {
            Commit::Nothing => Ok(Outcome::unchanged()),
            Commit::Touch => Ok(Box::pin(self.touch()).await),
            Commit::Create => self.create().await,
            Commit::Update => self.update().await,
            Commit::Rotate => Box::pin(self.rotate()).await,
            Commit::Delete => self.delete().await,
            Commit::Replace => {
                let ended = self.delete().await?;
                if self.work.plan.was_live && ended.cookie == CookieChange::Keep {
                    // Ended or rotated meanwhile: the client may have another cookie by now, which
                    // that of a new session would overwrite.
                    return Ok(gone(self.work.plan.doomed.first().map(|doomed| &doomed.id)));
                }
                let created = self.create().await?;
                Ok(match created.stored {
                    // Nothing that lives was put in: it is a flush and no more.
                    Stored::Same => ended,
                    Stored::Live(_) | Stored::Nothing { .. } => created,
                })
            }
        }
    }

    /// A touch that fails costs a tenth of the idle time at most, and the next request tries again:
    /// no reason to refuse an answer for which nothing else was to be written.
    async fn touch(&self) -> Outcome {
        let Self {
            settings,
            server,
            work,
        } = self;
        let draft = &work.draft;
        let deadline = draft.postponed(&settings.options.expiry, work.now);
        let (Some(origin), Some(deadline)) = (&draft.origin, deadline) else {
            return Outcome::unchanged();
        };
        let version = origin.record.version;
        let touch = pin!(server.touch(&origin.record_id, deadline, version));
        match settings.in_time("touch", touch).await {
            Ok(true) => {
                let mut origin = origin.clone();
                origin.record.expires_at = deadline;
                self.live(draft, origin, Cookie::Aged)
            }
            // Ended, or written by somebody else, who has seen to the deadline. An error was
            // reported where it happened.
            Ok(false) | Err(_) => Outcome::unchanged(),
        }
    }

    async fn create(&self) -> Result<Outcome, Error> {
        for _ in 0..ID_ATTEMPTS_MAX {
            let record = self.work.draft.first_record(
                &self.settings.options.expiry,
                self.work.now,
                self.token()?,
            )?;
            if record.is_expired(self.work.now) {
                // Its own rule has ended it before it began.
                return Ok(Outcome::unchanged());
            }
            let id = self.new_id()?;
            let record_id = id.record_id();
            match self.server.create(&record_id, &record).await? {
                Created::Done => {
                    let origin = Origin::new(id, record);
                    return Ok(self.live(&self.work.draft, origin, Cookie::New));
                }
                Created::Exists => collision(&record_id),
            }
        }
        Err(no_unused_id())
    }

    async fn update(&self) -> Result<Outcome, Error> {
        let mut writer = Writer::new(self).await?;
        for _ in 0..CONFLICT_ATTEMPTS_MAX {
            let Some(origin) = &writer.draft.origin else {
                return Ok(Outcome::unchanged());
            };
            if !writer.draft.data.is_changed() {
                // Somebody else has stored the same.
                return Ok(self.live(&writer.draft, origin.clone(), Cookie::Same));
            }
            let base = &origin.record;
            let record = writer.next_record()?;
            let updated = self.server.update(&origin.record_id, &record, base.version);
            match updated.await? {
                Updated::Done => {
                    let cookie = match record.expires_at == base.expires_at {
                        _ if writer.draft.data.is_rule_changed() => Cookie::New,
                        true => Cookie::Same,
                        false => Cookie::Aged,
                    };
                    let origin = Origin {
                        id: origin.id.clone(),
                        record_id: origin.record_id,
                        record,
                        outdated: false,
                    };
                    let outcome = self.live(&writer.draft, origin, cookie);
                    writer.leave(&outcome);
                    return Ok(outcome);
                }
                Updated::Conflict(newer) => Box::pin(writer.meet(newer)).await?,
                Updated::Gone => return Ok(gone(Some(&origin.record_id))),
            }
        }
        Err(conflict())
    }

    async fn rotate(&self) -> Result<Outcome, Error> {
        let mut writer = Writer::new(self).await?;
        let mut id = self.new_id()?;
        let mut ids_left = ID_ATTEMPTS_MAX;
        for _ in 0..CONFLICT_ATTEMPTS_MAX {
            let Some(origin) = &writer.draft.origin else {
                return Ok(Outcome::unchanged());
            };
            let (old, new) = (origin.record_id, id.record_id());
            let record = writer.next_record()?;
            let expected = origin.record.version;
            match self.server.rotate(&old, &new, &record, expected).await? {
                Rotated::Done => {
                    let origin = Origin::new(id, record);
                    return Ok(self.live(&writer.draft, origin, Cookie::New));
                }
                Rotated::Conflict(newer) => {
                    Box::pin(writer.meet(newer)).await?;
                    // That one is over: who has seen that nothing is there may be about to say so in an index.
                    id = self.new_id()?;
                }
                Rotated::Gone => return Ok(gone(Some(&old))),
                Rotated::Exists => {
                    collision(&new);
                    ids_left -= 1;
                    if ids_left == 0 {
                        return Err(no_unused_id());
                    }
                    id = self.new_id()?;
                }
            }
        }
        Err(conflict())
    }

    /// The cookie goes only if a session went: the one that the client holds by now may be
    /// another's, of a login that has overtaken this request.
    async fn delete(&self) -> Result<Outcome, Error> {
        let mut ended = Ok(false);
        for doomed in &self.work.plan.doomed {
            // What fails for one is no reason to leave the others alive.
            let done = self.server.delete(&doomed.id).await;
            ended = ended.and_then(|ended| done.map(|done| ended | done));
        }
        let ended = ended?;
        Ok(Outcome {
            cookie: match ended {
                true => CookieChange::Remove,
                false => CookieChange::Keep,
            },
            stored: Stored::Nothing { gone: false },
        })
    }

    /// `draft` is what was written, after all replays.
    fn live(&self, draft: &Draft, origin: Origin, cookie: Cookie) -> Outcome {
        let policy = &self.settings.options.expiry;
        let rule = draft.data.rule();
        let max_age = policy.cookie_age(rule, self.work.now, origin.record.expires_at);
        let told = match cookie {
            Cookie::New => true,
            // One that ends with the browser does not age.
            Cookie::Aged => max_age.is_some(),
            Cookie::Same => false,
        };
        let cookie = match told {
            false => CookieChange::Keep,
            true => CookieChange::Set {
                value: CookieValue::Id(origin.id.clone()),
                max_age,
            },
        };
        Outcome {
            cookie,
            stored: Stored::Live(origin),
        }
    }

    fn new_id(&self) -> Result<SessionId, Error> {
        Ok(SessionId::generate(&*self.settings.random)?)
    }

    fn token(&self) -> Result<WriteToken, Error> {
        Ok(WriteToken::generate(&*self.settings.random)?)
    }
}

impl Outcome {
    pub(crate) const fn unchanged() -> Self {
        Self {
            cookie: CookieChange::Keep,
            stored: Stored::Same,
        }
    }
}

/// One that writes over an existing record, and makes its changes again over what others wrote.
struct Writer<'a> {
    committer: &'a Committer<'a>,
    draft: Arc<Draft>,
    turn: Option<Turn>,
    conflicts: u32,
}

impl<'a> Writer<'a> {
    async fn new(committer: &'a Committer<'a>) -> Result<Self, Error> {
        let mut writer = Self {
            committer,
            draft: Arc::clone(&committer.work.draft),
            turn: None,
            conflicts: 0,
        };
        if let Some(origin) = &writer.draft.origin {
            let queues = &committer.settings.queues;
            writer.turn = queues.join_existing(&origin.record_id).await;
            writer.catch_up()?;
        }
        Ok(writer)
    }

    fn next_record(&self) -> Result<Record, Error> {
        let Committer { settings, work, .. } = self.committer;
        let token = self.committer.token()?;
        let base = match &self.draft.origin {
            Some(origin) => &origin.record,
            None => {
                return self
                    .draft
                    .first_record(&settings.options.expiry, work.now, token);
            }
        };
        self.draft
            .next_record(base, &settings.options.expiry, work.now, token)
    }

    /// Somebody else has written. The first time, queue behind the other writers of this process;
    /// after that it was another process, so keep out of its way for a moment.
    async fn meet(&mut self, newer: Record) -> Result<(), Error> {
        count(Event::Conflict);
        let Committer { settings, .. } = self.committer;
        self.replay_over(newer)?;
        let Some(origin) = &self.draft.origin else {
            return Ok(());
        };
        if self.turn.is_none() {
            let id = origin.record_id;
            self.turn = Some(settings.queues.join(&id).await);
            return self.catch_up();
        }
        self.conflicts += 1;
        tokio::time::sleep(jitter(self.conflicts)).await;
        Ok(())
    }

    /// Starts from what the writer before in the queue has stored, if that is newer.
    fn catch_up(&mut self) -> Result<(), Error> {
        let latest = self.turn.as_ref().and_then(Turn::latest);
        match (latest, &self.draft.origin) {
            (Some(latest), Some(origin))
                if latest.version.revision > origin.record.version.revision =>
            {
                let latest = latest.clone();
                self.replay_over(latest)
            }
            _ => Ok(()),
        }
    }

    fn replay_over(&mut self, newer: Record) -> Result<(), Error> {
        if self.committer.settings.options.conflict == Conflict::Reject {
            return Err(conflict());
        }
        count(Event::Replay);
        self.draft = Arc::new(self.committer.work.draft.replayed_over(newer)?);
        Ok(())
    }

    fn leave(&mut self, outcome: &Outcome) {
        if let (Some(turn), Stored::Live(origin)) = (self.turn.take(), &outcome.stored) {
            turn.leave(origin.record.clone());
        }
    }
}

pub(crate) fn gone(record: Option<&RecordId>) -> Outcome {
    count(Event::Gone);
    tracing::info!(
        ?record,
        "the session was ended while a request was at work; what the request changed is dropped"
    );
    Outcome {
        cookie: CookieChange::Keep,
        stored: Stored::Nothing { gone: true },
    }
}

fn collision(record: &RecordId) {
    tracing::error!(
        ?record,
        "a new session id is taken already; is the random source sound?"
    );
}

const fn no_unused_id() -> Error {
    Error::new(
        ErrorKind::IdGeneration,
        "no unused session id in a bounded number of attempts",
    )
}

const fn conflict() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "another request has changed the session",
    )
}

/// A random time of up to 2, 4, 8 … milliseconds, but not above [`JITTER_MAX`].
fn jitter(conflicts: u32) -> Duration {
    let bound = JITTER_MAX.min(Duration::from_millis(1 << conflicts.min(10)));
    // Each `RandomState` of the standard library hashes differently.
    let random = RandomState::new().hash_one(conflicts) % 1000;
    bound.mul_f64(f64::from(u16::try_from(random).unwrap_or(0)) / 1000.0)
}

/// Two collisions of 256 random bits do not happen; a broken random source must not be asked for
/// ever.
const ID_ATTEMPTS_MAX: u32 = 4;

/// Writes attempted before a conflict is answered as one. In one process a writer needs two; between
/// processes each attempt is lost only to somebody else's success.
const CONFLICT_ATTEMPTS_MAX: u32 = 32;

/// A few round trips to a store near by.
const JITTER_MAX: Duration = Duration::from_millis(32);
