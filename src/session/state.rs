//! What a request knows of its session, and what it intends.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use crate::{
    backend::Token,
    data::{Data, Replay, Table, parse},
    error::{Error, ErrorKind},
    expiry::ExpiryPolicy,
    id::{RecordId, SessionId, WriteToken},
    record::{Record, Version},
    session::{decide::Facts, settings::Settings},
    timestamp::Timestamp,
    user::UserId,
};

/// All of it, behind the lock of a request's session.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// A save or a reload is under way; until it is done nothing can be changed.
    pub(crate) busy: bool,
    /// What was to be committed with the answer is committed, or refused; or has no functions to forget then.
    pub(crate) over: bool,
    /// The answer depends on the session.
    pub(crate) accessed: bool,
    /// `None` until it is loaded. Shared with the commit, which must not hold the lock.
    pub(crate) draft: Option<Arc<Draft>>,
    pub(crate) flushed: Flushed,
    /// What explicit saves have done to the cookie, to be told with the answer.
    pub(crate) cookie: CookieChange,
}

/// What `flush` has asked for.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    /// The sessions to end.
    pub(crate) doomed: Vec<Doomed>,
    /// Whether one of them was loaded, and alive.
    pub(crate) was_live: bool,
    /// Where to end them if the request is dropped outside of its runtime.
    pub(crate) runtime: Option<Handle>,
}

/// A session that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    pub(crate) id: RecordId,
    /// When it would have died anyway, however much it was used, as far as that is known.
    pub(crate) until: Timestamp,
}

impl Flushed {
    pub(crate) fn doom(&mut self, session: Doomed) {
        if !self.doomed.contains(&session) {
            self.doomed.push(session);
        }
    }

    /// Forgets those that have been ended.
    pub(crate) fn done(&mut self, ended: &[Doomed]) {
        self.doomed.retain(|session| !ended.contains(session));
        self.was_live &= !self.doomed.is_empty();
    }
}

/// What there is to commit, taken out of the state so that its lock can be given back.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) draft: Option<Arc<Draft>>,
    pub(crate) doomed: Vec<Doomed>,
    pub(crate) was_live: bool,
}

/// Where in its life a request's session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handler is at work.
    #[default]
    Open,
    /// The answer is decided; changes come too late.
    Committed,
    /// Loaded again after the answer, for one more save that cannot change the cookie.
    Reopened,
}

/// What is to become of the client's cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum CookieChange {
    #[default]
    Keep,
    Set {
        value: CookieValue,
        /// `None` for a cookie that ends with the browser.
        max_age: Option<Duration>,
    },
    Remove,
}

/// What a cookie brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CookieValue {
    /// By which the session is found in the store.
    Id(SessionId),
    /// The session itself.
    Token(Token),
}

/// The session as this request sees it: what was stored, and what is to be.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Where it was loaded from; `None` for a new session.
    pub(crate) origin: Option<Origin>,
    pub(crate) data: Data,
    pub(crate) login: Option<UserId>,
    pub(crate) rotate: bool,
    pub(crate) access: Access,
    /// Loaded again after the answer: no cookie can tell of a later deadline.
    pub(crate) is_silent: bool,
}

/// Whether a draft may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Full,
    /// An empty session that stands in for one that could not be loaded.
    ReadOnly,
    /// The session was ended elsewhere. A new one would overwrite the cookie of whoever ended it,
    /// a login perhaps.
    Ended,
}

/// The live record that the client has presented the id of.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) id: SessionId,
    pub(crate) record_id: RecordId,
    pub(crate) record: Record,
    /// Sealed with a retired key or long ago: it is to be written again although nothing has changed.
    pub(crate) outdated: bool,
}

impl Origin {
    pub(crate) fn new(id: SessionId, record: Record) -> Self {
        Self {
            record_id: id.record_id(),
            id,
            record,
            outdated: false,
        }
    }

    pub(crate) fn doomed(&self) -> Doomed {
        Doomed {
            id: self.record_id,
            until: self.record.absolute_deadline,
        }
    }
}

impl State {
    /// The draft to change, if it may be changed.
    pub(crate) fn draft_mut(&mut self, settings: &Settings) -> Result<&mut Draft, Error> {
        if self.phase == Phase::Committed {
            return Err(committed());
        }
        if self.phase == Phase::Reopened && settings.is_in_cookies() {
            return Err(too_late_for_a_cookie());
        }
        if self.busy {
            return Err(Error::new(
                ErrorKind::Committed,
                "the session is being saved or reloaded; change it before or after",
            ));
        }
        self.accessed = true;
        let draft = self
            .draft
            .get_or_insert_with(|| Arc::new(Draft::new(settings)));
        let ended = self.phase == Phase::Reopened && draft.origin.is_none();
        match draft.access {
            Access::ReadOnly => Err(Error::new(
                ErrorKind::ReadOnly,
                "the session could not be loaded and can not be changed",
            )),
            Access::Full if !ended => Ok(Arc::make_mut(draft)),
            Access::Full | Access::Ended => Err(Error::new(
                ErrorKind::Gone,
                "the session has ended; a change would start another one",
            )),
        }
    }

    /// What is not needed any more once all is over, to be dropped where no lock is held.
    pub(crate) fn forget_replays(&mut self) -> Option<Vec<Replay>> {
        let is_over = self.over && self.phase == Phase::Committed;
        match &mut self.draft {
            // A reload that has it too will put another in its place, or do this at its end.
            Some(draft) if is_over => Arc::get_mut(draft).map(|draft| draft.data.forget_replays()),
            // Changes after a reload are still to be saved.
            Some(_) | None => None,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan {
            draft: self.draft.clone(),
            doomed: self.flushed.doomed.clone(),
            was_live: self.flushed.was_live,
        }
    }
}

impl Plan {
    pub(crate) fn facts(&self, policy: &ExpiryPolicy, now: Timestamp) -> Facts {
        let flushed = !self.doomed.is_empty();
        let Some(draft) = self.draft.as_deref() else {
            return Facts {
                flushed,
                ..Facts::default()
            };
        };
        Facts {
            flushed,
            live: draft.origin.is_some(),
            rotate: draft.rotate,
            changed: draft.data.is_changed(),
            filled: draft.user().is_some() || !draft.data.is_empty(),
            due: draft.is_outdated() || draft.postponed(policy, now).is_some(),
        }
    }
}

impl Draft {
    /// A session that holds nothing.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            origin: None,
            data: Data::new(Table::empty(), settings.data_bytes_max()),
            login: None,
            rotate: false,
            access: Access::Full,
            is_silent: false,
        }
    }

    /// Stands in for a session that could not be loaded.
    pub(crate) fn stand_in(settings: &Settings) -> Self {
        Self {
            access: Access::ReadOnly,
            ..Self::new(settings)
        }
    }

    /// What is left of a session that was ended elsewhere.
    pub(crate) fn ended(settings: &Settings) -> Self {
        Self {
            access: Access::Ended,
            ..Self::new(settings)
        }
    }

    /// A session as it is stored.
    pub(crate) fn loaded(origin: Origin, table: Table, settings: &Settings) -> Self {
        Self {
            origin: Some(origin),
            data: Data::new(table, settings.data_bytes_max()),
            login: None,
            rotate: false,
            access: Access::Full,
            is_silent: false,
        }
    }

    fn is_outdated(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.outdated)
    }

    pub(crate) fn user(&self) -> Option<&UserId> {
        let stored = || self.origin.as_ref()?.record.user.as_ref();
        self.login.as_ref().or_else(stored)
    }

    /// The record of a new session.
    pub(crate) fn first_record(
        &self,
        policy: &ExpiryPolicy,
        now: Timestamp,
        token: WriteToken,
    ) -> Result<Record, Error> {
        let absolute_deadline = policy.absolute_deadline(now);
        Ok(Record {
            version: Version::first(token),
            user: self.login.clone(),
            created_at: now,
            expires_at: policy.deadline(self.data.rule(), now, absolute_deadline),
            absolute_deadline,
            payload: self.data.encode()?,
        })
    }

    /// The record to put in place of `base`, which this draft was loaded from or replayed over.
    pub(crate) fn next_record(
        &self,
        base: &Record,
        policy: &ExpiryPolicy,
        now: Timestamp,
        token: WriteToken,
    ) -> Result<Record, Error> {
        let first = |_: &UserId| self.first_record(policy, now, token);
        let record = match self.login.as_ref().map(first).transpose()? {
            Some(record) => record,
            None => Record {
                expires_at: self.next_deadline(base, policy, now),
                payload: self.data.encode()?,
                ..base.clone()
            },
        };
        Ok(Record {
            version: base.version.next(token),
            ..record
        })
    }

    /// When the session ends if it is committed now and not used again.
    pub(crate) fn deadline(&self, policy: &ExpiryPolicy, now: Timestamp) -> Timestamp {
        match &self.origin {
            Some(origin) if self.login.is_none() => match self.rotate || self.data.is_changed() {
                true => self.next_deadline(&origin.record, policy, now),
                false => self
                    .postponed(policy, now)
                    .unwrap_or(origin.record.expires_at),
            },
            Some(_) | None => policy.deadline(self.data.rule(), now, policy.absolute_deadline(now)),
        }
    }

    /// Later if that is due, so that the cookie and the record are always renewed together.
    fn next_deadline(&self, base: &Record, policy: &ExpiryPolicy, now: Timestamp) -> Timestamp {
        let (rule, absolute) = (self.data.rule(), base.absolute_deadline);
        let deadline = policy.deadline(rule, now, absolute);
        let is_new = self.rotate || self.data.is_rule_changed();
        if self.is_silent {
            // It is written anyway, and may be as late as that without a cookie.
            let present = match is_new {
                true => base.expires_at.min(deadline),
                false => base.expires_at,
            };
            return present.max(policy.silent_deadline(rule, now, absolute));
        }
        match policy.postponed(rule, now, base.expires_at, absolute) {
            Some(postponed) => postponed,
            None if is_new => deadline,
            None => base.expires_at,
        }
    }

    /// The later deadline to write because the session was used.
    pub(crate) fn postponed(&self, policy: &ExpiryPolicy, now: Timestamp) -> Option<Timestamp> {
        let record = &self.origin.as_ref()?.record;
        let rule = self.data.rule();
        let (present, absolute) = (record.expires_at, record.absolute_deadline);
        match self.is_silent {
            true => policy.postponed_silently(rule, now, present, absolute),
            false => policy.postponed(rule, now, present, absolute),
        }
    }

    /// The same intentions over a newer state of the same record.
    pub(crate) fn replayed_over(&self, newer: Record) -> Result<Self, Error> {
        let table = parse(&newer)?;
        let origin = self.origin.as_ref().map(|origin| Origin {
            record: newer,
            ..origin.clone()
        });
        Ok(Self {
            origin,
            data: self.data.replayed_over(table)?,
            login: self.login.clone(),
            rotate: self.rotate,
            access: self.access,
            is_silent: self.is_silent,
        })
    }
}

pub(crate) const fn committed() -> Error {
    Error::new(
        ErrorKind::Committed,
        "the session is committed; reload it to change and save it",
    )
}

pub(crate) const fn too_late_for_a_cookie() -> Error {
    Error::new(
        ErrorKind::Committed,
        "the answer has been sent, and the session is in a cookie, which can not be set any more",
    )
}
