//! What is stored during a request and at its end, one after the other.

use std::{pin::pin, sync::Arc};

use tokio::sync::MutexGuard;

use crate::{
    data::{Data, parse},
    error::{Error, ErrorKind},
    session::{
        commit::{Outcome, Stored, Work, carry_out},
        decide::{Commit, Ending},
        detached::Detached,
        lazy::{Busy, LazySession, same},
        state::{CookieChange, Draft, Phase, Plan, State, committed},
    },
};

impl LazySession {
    /// Commits what there is now. Runs to its end even if the caller does not wait for it.
    pub(super) async fn save(&self) -> Result<(), Error> {
        let lazy = self.clone();
        self.detach(async move { lazy.save_now().await })
            .apart()
            .await?
    }

    async fn save_now(&self) -> Result<(), Error> {
        let _turn = self.turn().await?;
        let _busy = Busy::new(self);
        let plan = {
            let mut state = self.state();
            if state.phase == Phase::Committed {
                return Err(committed());
            }
            let plan = state.plan();
            // If this fails, nobody can tell any more who has ended what was flushed.
            state.flushed.was_live = false;
            plan
        };
        let settings = &*self.0.settings;
        let work = Work::new(plan, settings, Ending::Success);
        let outcome = pin!(carry_out(settings, &work));
        let outcome = settings.in_time("save", outcome).await?;
        let gone = matches!(outcome.stored, Stored::Nothing { gone: true });
        let next = self.stored_draft(&outcome, &work)?;
        let mut state = self.state();
        state.flushed.done(&work.plan.doomed);
        let mut outdated = None;
        if same(state.draft.as_ref(), work.plan.draft.as_ref()) {
            outdated = next.and_then(|next| state.draft.replace(Arc::new(next)));
            if state.phase == Phase::Reopened {
                state.phase = Phase::Committed;
            }
        } else if let Stored::Live(origin) = outcome.stored {
            // It was flushed meanwhile, and this is the session that was meant.
            state.flushed.doom(origin.doomed());
        }
        note_cookie(&mut state, outcome.cookie);
        drop(state);
        drop(outdated);
        match gone {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Gone,
                "the session was ended while this request was at work",
            )),
        }
    }

    /// The draft to go on with after a save, if it is another.
    fn stored_draft(&self, outcome: &Outcome, work: &Work) -> Result<Option<Draft>, Error> {
        let settings = &*self.0.settings;
        match &outcome.stored {
            Stored::Same => Ok(None),
            Stored::Live(origin) => {
                let table = parse(&origin.record)?;
                Ok(Some(Draft {
                    is_silent: work.draft.is_silent,
                    ..Draft::loaded(origin.clone(), table, settings)
                }))
            }
            Stored::Nothing { gone: true } => Ok(Some(Draft::ended(settings))),
            // What was flushed held nothing new, or it would have been replaced.
            Stored::Nothing { gone: false } => {
                debug_assert!(matches!(work.commit, Commit::Delete | Commit::Replace));
                // Ended or rotated by another: the cookie of a new session would overwrite that other's.
                let is_overtaken = work.plan.was_live && outcome.cookie == CookieChange::Keep;
                Ok(is_overtaken.then(|| Draft::ended(settings)))
            }
        }
    }

    /// Ends the request: from now on nothing can be changed, and what was is committed.
    pub(crate) fn close(&self, ending: Ending) -> Closing {
        let (plan, has_cookie) = {
            let mut state = self.state();
            state.phase = Phase::Committed;
            let draft = state.draft.as_deref();
            // Otherwise there is nothing to forget when it is.
            state.over = !draft.is_some_and(|draft| draft.data.has_replays());
            if !state.accessed {
                return Closing::Untouched;
            }
            let plan = (!state.busy).then(|| state.plan());
            // If nothing is under way now, nothing can set one any more: no need to look again.
            (plan, state.cookie != CookieChange::Keep)
        };
        let work = plan.map(|plan| Work::new(plan, &self.0.settings, ending));
        match work {
            Some(work) if work.is_nothing() => {
                let has_replays = work.draft.data.has_replays();
                drop(work);
                if has_replays {
                    self.finish();
                }
                Closing::Done(match has_cookie {
                    true => self.take_cookie(),
                    false => CookieChange::Keep,
                })
            }
            work => Closing::Committing(self.detach(self.clone().commit(work, ending))),
        }
    }

    async fn commit(self, planned: Option<Work>, ending: Ending) -> Committed {
        let settings = &*self.0.settings;
        // Also if a function of the application panics.
        let _finishing = Finishing(&self);
        // What is declared from here on is dropped before that; and what says busy, before its turn.
        let work = planned;
        let (turn, refused) = match self.turn().await {
            Ok(turn) => (Some(turn), None),
            Err(error) => (None, Some(error)),
        };
        let _busy = work.is_none().then(|| Busy::new(&self));
        let plan_now = |ending| {
            let plan = self.state().plan();
            Work::new(plan, settings, ending)
        };
        let work = if turn.is_some() {
            // Behind a save or a reload that nobody has waited for.
            work.unwrap_or_else(|| plan_now(ending))
        } else {
            drop(work);
            // What was flushed is ended nevertheless.
            plan_now(Ending::Failure)
        };
        let outcome = {
            let outcome = pin!(carry_out(settings, &work));
            settings.in_time("commit", outcome).await
        };
        let plan = work.into_plan();
        let settled = outcome.map(|outcome| self.settle(plan, outcome));
        Committed {
            result: refused.map_or(settled, Err),
            cookie: self.take_cookie(),
        }
    }

    /// Behind those who talk to the store for this request, each of whom may take the time of the store.
    async fn turn(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let limit = self.0.settings.options.limits.store_timeout;
        let turn = self.0.gate.turn_behind(limit).await;
        turn.ok_or_else(|| {
            tracing::error!("a load, a reload or a save that has no end holds up its session");
            Error::new(
                ErrorKind::Timeout,
                "a load, a reload or a save that has no end holds up the session",
            )
        })
    }

    /// No change of this request will be made again.
    fn finish(&self) {
        let mut state = self.state();
        state.over = true;
        let replays = state.forget_replays();
        drop(state);
        drop(replays);
    }

    /// The functions for changes that will not be made again may hold a handle of this session, which would keep each
    /// other in memory for ever.
    pub(super) fn forget_replays(&self) {
        let replays = self.state().forget_replays();
        drop(replays);
    }

    /// What the client has to be told of its cookie.
    pub(crate) fn take_cookie(&self) -> CookieChange {
        std::mem::take(&mut self.state().cookie)
    }

    fn settle(&self, plan: Plan, outcome: Outcome) {
        // Dropped without the lock: it may have functions of the application.
        drop(self.put_in_place(plan, outcome));
    }

    /// Answers what is not needed any more.
    fn put_in_place(&self, plan: Plan, outcome: Outcome) -> Option<Data> {
        let mut state = self.state();
        state.flushed.done(&plan.doomed);
        note_cookie(&mut state, outcome.cookie);
        let Stored::Live(origin) = outcome.stored else {
            return None;
        };
        let state = &mut *state;
        let is_same = same(state.draft.as_ref(), plan.draft.as_ref());
        let Some(draft) = state.draft.as_mut().filter(|_| is_same) else {
            // Reloaded before this commit had its turn. If it was flushed then, this is the session that was meant.
            if !state.flushed.doomed.is_empty() {
                state.flushed.doom(origin.doomed());
            }
            return None;
        };
        // For a reload after the answer. Now the state alone has the draft, and it is not copied.
        drop(plan);
        let draft = Arc::make_mut(draft);
        let mut outdated = None;
        if state.phase == Phase::Reopened
            && let Ok(table) = parse(&origin.record)
        {
            // A reload has overtaken this commit, and what is changed next begins from what is stored now.
            let data = Data::new(table, self.0.settings.data_bytes_max());
            outdated = Some(std::mem::replace(&mut draft.data, data));
        }
        draft.origin = Some(origin);
        outdated
    }

    fn detach<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Detached<T> {
        Detached::new(work, &self.0.settings.commits)
    }
}

/// How a request's session has been closed.
#[derive(Debug)]
pub(crate) enum Closing {
    /// Nobody has asked for it.
    Untouched,
    /// Nothing is to be written.
    Done(CookieChange),
    /// It is being written.
    Committing(Detached<Committed>),
}

/// A commit that has come to its end.
#[derive(Debug)]
pub(crate) struct Committed {
    /// Also of explicit saves before a commit that failed: their sessions are stored.
    pub(crate) cookie: CookieChange,
    pub(crate) result: Result<(), Error>,
}

/// Whatever becomes of a commit, it is over then.
struct Finishing<'a>(&'a LazySession);

impl Drop for Finishing<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The later word on the cookie counts; no word leaves the earlier one.
fn note_cookie(state: &mut State, cookie: CookieChange) {
    if cookie != CookieChange::Keep {
        state.cookie = cookie;
    }
}

#[cfg(test)]
#[cfg(feature = "memory")]
mod tests {
    use http::{HeaderMap, HeaderValue, header::COOKIE};

    use super::*;
    use crate::{
        backend::IntoBackend,
        session::{Settings, state::CookieValue},
        stores::MemoryStore,
    };

    fn with_cookie(settings: &Arc<Settings>, committed: &Committed) -> LazySession {
        let CookieChange::Set { value, .. } = &committed.cookie else {
            panic!("{committed:?}");
        };
        let CookieValue::Id(id) = value else {
            panic!("a store has ids");
        };
        let name = settings.options.cookie.full_name();
        let cookie = HeaderValue::from_str(&format!("{name}={}", id.expose_secret())).unwrap();
        LazySession::new(settings, &HeaderMap::from_iter([(COOKIE, cookie)]))
    }

    async fn closed(lazy: &LazySession) -> Committed {
        match lazy.close(Ending::Success) {
            Closing::Committing(commit) => commit.await.unwrap(),
            closing @ (Closing::Untouched | Closing::Done(_)) => panic!("{closing:?}"),
        }
    }

    #[tokio::test]
    async fn a_flush_between_the_answer_and_its_commit_ends_what_the_commit_has_rotated() {
        let store = MemoryStore::new();
        let settings = Arc::new(Settings::new(store.clone().into_backend()));
        let first = LazySession::new(&settings, &HeaderMap::new());
        let session = first.clone().load().await.unwrap();
        session.login("ada").unwrap();
        let committed = closed(&first).await;

        let second = with_cookie(&settings, &committed);
        let session = second.clone().load().await.unwrap();
        session.cycle_id().unwrap();
        let Closing::Committing(commit) = second.close(Ending::Success) else {
            panic!("there is an id to change");
        };
        session.reload().await.unwrap();
        session.flush().unwrap();
        let committed = commit.await.unwrap();
        committed.result.as_ref().unwrap();
        session.save().await.unwrap();

        let third = with_cookie(&settings, &committed).load().await.unwrap();
        assert_eq!(third.user(), None);
        assert_eq!(store.len(), 0);
    }
}
