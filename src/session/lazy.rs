//! The handle in the request's extensions: nothing is read until somebody asks.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Extensions, HeaderMap};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    data::Table,
    error::{Error, ErrorKind, StoreErrorKind},
    id::SessionId,
    options::{CookieOptions, Outage},
    session::{
        Session,
        commit::{Outcome, Stored, Work, carry_out},
        decide::{Commit, Ending, decide},
        detached::Detached,
        presented::Presented,
        settings::Settings,
        state::{CookieChange, Draft, Origin, Phase, State, parse},
    },
};

/// A request's session, not yet loaded.
///
/// The [`SessionLayer`](crate::SessionLayer) puts one into the extensions of every request. As
/// long as nobody calls it, the session costs nothing. With axum it is an extractor, and so is the
/// loaded [`Session`]; elsewhere take it from the request:
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower_keep::{Error, LazySession};
///
/// async fn greeting<B>(request: &Request<B>) -> Result<String, Error> {
///     let session = LazySession::of(request.extensions())?.load().await?;
///     let name = session.get::<String>("name")?;
///     Ok(format!("Hello, {}!", name.as_deref().unwrap_or("stranger")))
/// }
/// ```
#[derive(Clone)]
pub struct LazySession(pub(super) Arc<Shared>);

/// What the handles of one request share.
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    presented: Presented,
    /// Held by the one that talks to the store for this request.
    gate: AsyncMutex<()>,
    state: Mutex<State>,
}

impl LazySession {
    /// The handle in a request's extensions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MissingLayer`] if the request has not come through a
    /// [`SessionLayer`](crate::SessionLayer): the layer has to be outside of what asks for the
    /// session. In axum, layers added later are outside of those added before.
    pub fn of(extensions: &Extensions) -> Result<Self, Error> {
        extensions.get::<Self>().cloned().ok_or(Error::new(
            ErrorKind::MissingLayer,
            "the request has not come through a `SessionLayer`: add the layer outside of this handler or middleware",
        ))
    }

    pub(crate) fn new(settings: &Arc<Settings>, headers: &HeaderMap) -> Self {
        Self(Arc::new(Shared {
            settings: Arc::clone(settings),
            presented: Presented::of(headers),
            gate: AsyncMutex::default(),
            state: Mutex::default(),
        }))
    }

    /// Loads the session that the client has presented the id of: one call to the store, or none
    /// if there is no well-formed id. Later calls return the same session at once.
    ///
    /// A client without a session gets an empty one. It is stored, and a cookie set, only when
    /// something is put into it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] and [`ErrorKind::Timeout`] if the store fails or is silent (unless the
    /// layer serves an empty session then, see [`Outage`]), and [`ErrorKind::Unsupported`] for a
    /// record of a newer version. Nothing is known about the session then; answer with the error. A
    /// later call tries again.
    ///
    /// A damaged record is no error: it is reported as a `tracing` event, and the client served as
    /// if it had no session.
    pub async fn load(&self) -> Result<Session, Error> {
        if !self.is_loaded() {
            let _turn = self.0.gate.lock().await;
            if !self.is_loaded() {
                let draft = self.find().await?;
                // A flush that came meanwhile knows what it wants without having loaded.
                self.state().draft.get_or_insert_with(|| Arc::new(draft));
            }
        }
        Ok(Session::of(self.clone()))
    }

    /// Ends the session without loading it: one call to the store, after the handler.
    ///
    /// The record is deleted and the cookie removed even if the handler fails afterwards. What is
    /// put into the session after this belongs to a new one, with a new id. Without a session this
    /// does nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Committed`] if the answer has been sent already.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_keep::{Error, LazySession};
    ///
    /// async fn logout(session: LazySession) -> Result<&'static str, Error> {
    ///     session.flush()?;
    ///     Ok("See you!")
    /// }
    /// ```
    #[doc(alias = "logout")]
    #[doc(alias = "destroy")]
    #[doc(alias = "purge")]
    #[doc(alias = "delete")]
    pub fn flush(&self) -> Result<(), Error> {
        let mut state = self.state();
        state.accessed = true;
        if state.saving || state.phase == Phase::Committed {
            return Err(Error::new(
                ErrorKind::Committed,
                "the session is committed; reload it to flush and save it",
            ));
        }
        let origin = state.draft.as_ref().and_then(|draft| draft.origin.as_ref());
        if let Some(origin) = origin {
            let ended = origin.record_id;
            state.doomed.push(ended);
        } else if state.doomed.is_empty() {
            // Not loaded, or not one alone is alive: whatever the client presents is to end.
            let name = self.0.settings.options.cookie.full_name();
            let candidates = self.0.presented.candidates(name);
            let ended = candidates.into_iter().map(|id| id.record_id());
            state.doomed.extend(ended);
        }
        state.draft = Some(Arc::new(Draft::new(&self.0.settings.options)));
        Ok(())
    }

    pub(crate) fn cookie_options(&self) -> &CookieOptions {
        &self.0.settings.options.cookie
    }

    /// The head of the answer that reports an error.
    pub(crate) fn render(&self, error: &Error) -> http::Response<()> {
        let plain = || {
            let mut response = http::Response::new(());
            *response.status_mut() = error.status();
            response
        };
        let render = self.0.settings.render_error.as_ref();
        render.map_or_else(plain, |render| render(error))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No code of others runs under this lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_loaded(&self) -> bool {
        let mut state = self.state();
        state.accessed = true;
        state.draft.is_some()
    }

    /// Looks up what the client presents: exactly one live session, or none.
    async fn find(&self) -> Result<Draft, Error> {
        let settings = &*self.0.settings;
        let options = &settings.options;
        let candidates = self.0.presented.candidates(options.cookie.full_name());
        if candidates.is_empty() {
            return Ok(Draft::new(options));
        }
        let search = async {
            let mut found = None;
            for id in candidates.into_iter() {
                let Some(live) = self.look_up(id).await? else {
                    continue;
                };
                if found.replace(live).is_some() {
                    tracing::warn!("a request presents two live sessions; neither is used");
                    return Ok(None);
                }
            }
            Ok(found)
        };
        match settings.in_time("load", search).await {
            Ok(Some((origin, table))) => Ok(Draft::loaded(origin, table, options)),
            Ok(None) => Ok(Draft::new(options)),
            Err(error) if options.outage == Outage::Anonymous => {
                tracing::warn!(kind = ?error.kind(), "serving an empty session during an outage");
                Ok(Draft {
                    read_only: true,
                    ..Draft::new(options)
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The record of an id, if it is alive and readable.
    async fn look_up(&self, id: SessionId) -> Result<Option<(Origin, Table)>, Error> {
        let settings = &*self.0.settings;
        let record_id = id.record_id();
        let record = match settings.backend.server.load(&record_id).await {
            Ok(record) => record,
            // Reported where it happened. It is no use to refuse this client for ever.
            Err(error) if error.kind() == StoreErrorKind::Corrupt => None,
            Err(error) => return Err(error.into()),
        };
        let now = settings.now();
        // The store has looked at its own clock. Of two clocks the one that is ahead decides.
        let Some(record) = record.filter(|record| !record.is_expired(now)) else {
            return Ok(None);
        };
        match parse(&record) {
            Ok(table) => Ok(Some((
                Origin {
                    id,
                    record_id,
                    record,
                },
                table,
            ))),
            Err(error) if error.kind() == ErrorKind::Unsupported => Err(error),
            Err(_) => {
                tracing::error!(record = ?record_id, "a stored session is damaged and not used");
                Ok(None)
            }
        }
    }

    /// Loads the session again by the id it has now.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        let _turn = self.0.gate.lock().await;
        let settings = &*self.0.settings;
        let origin = {
            let state = self.state();
            state.draft.as_ref().and_then(|draft| draft.origin.clone())
        };
        let found = match origin {
            None => None,
            Some(origin) => settings.in_time("load", self.look_up(origin.id)).await?,
        };
        let draft = match found {
            Some((origin, table)) => Draft::loaded(origin, table, &settings.options),
            None => Draft::new(&settings.options),
        };
        let mut state = self.state();
        state.draft = Some(Arc::new(draft));
        if state.phase == Phase::Committed {
            state.phase = Phase::Reopened;
        }
        Ok(())
    }

    /// Commits what there is now. Runs to its end even if the caller does not wait for it.
    pub(super) async fn save(&self) -> Result<(), Error> {
        let lazy = self.clone();
        self.detach(async move { lazy.save_now().await }).await?
    }

    async fn save_now(&self) -> Result<(), Error> {
        let _turn = self.0.gate.lock().await;
        let work = {
            let mut state = self.state();
            if state.phase == Phase::Committed {
                return Err(Error::new(
                    ErrorKind::Committed,
                    "the session is committed; reload it to change and save it",
                ));
            }
            state.saving = true;
            self.work(&state, Ending::Success)
        };
        let outcome = carry_out(&self.0.settings, &work).await;
        let mut state = self.state();
        state.saving = false;
        let outcome = outcome?;
        state.doomed.clear();
        let gone = matches!(outcome.stored, Stored::Nothing { gone: true });
        if let Some(draft) = self.stored_draft(&outcome, &work)? {
            state.draft = Some(Arc::new(draft));
        }
        match state.phase {
            Phase::Reopened => state.phase = Phase::Committed,
            Phase::Open | Phase::Committed => note_cookie(&mut state, outcome.cookie),
        }
        if gone {
            return Err(Error::new(
                ErrorKind::Gone,
                "the session was ended while this request was at work",
            ));
        }
        Ok(())
    }

    /// The draft to go on with after a save.
    fn stored_draft(&self, outcome: &Outcome, work: &Work) -> Result<Option<Draft>, Error> {
        let options = &self.0.settings.options;
        match &outcome.stored {
            Stored::Same => Ok(None),
            Stored::Live(origin) => {
                let table = parse(&origin.record)?;
                Ok(Some(Draft::loaded(origin.clone(), table, options)))
            }
            // What was put into the session after a flush that created nothing is still there.
            Stored::Nothing { gone: false } if work.commit == Commit::Delete => Ok(None),
            Stored::Nothing { .. } => Ok(Some(Draft::new(options))),
        }
    }

    /// Ends the request: from now on nothing can be changed, and what was is committed.
    pub(crate) fn close(&self, ending: Ending) -> Closing {
        let mut state = self.state();
        state.phase = Phase::Committed;
        if !state.accessed {
            return Closing::Untouched;
        }
        if !state.saving {
            let work = self.work(&state, ending);
            if work.commit == Commit::Nothing {
                return Closing::Done(std::mem::take(&mut state.cookie));
            }
            drop(state);
            let lazy = self.clone();
            return Closing::Committing(self.detach(async move { lazy.finish(work).await }));
        }
        drop(state);
        let lazy = self.clone();
        Closing::Committing(self.detach(async move {
            // Behind the save that nobody has waited for.
            let _turn = lazy.0.gate.lock().await;
            let work = lazy.work(&lazy.state(), ending);
            lazy.finish(work).await
        }))
    }

    async fn finish(&self, work: Work) -> Committed {
        let outcome = carry_out(&self.0.settings, &work).await;
        // Now the state alone has the draft, which can then be changed without being copied.
        drop(work);
        let mut state = self.state();
        let result = outcome.map(|outcome| {
            if let (Stored::Live(origin), Some(draft)) = (outcome.stored, &mut state.draft) {
                // For a reload after the answer.
                Arc::make_mut(draft).origin = Some(origin);
            }
            state.doomed.clear();
            note_cookie(&mut state, outcome.cookie);
        });
        Committed {
            cookie: std::mem::take(&mut state.cookie),
            result,
        }
    }

    fn work(&self, state: &State, ending: Ending) -> Work {
        let settings = &*self.0.settings;
        let now = settings.now();
        let facts = state.facts(&settings.options.expiry, now);
        let fresh = || Arc::new(Draft::new(&settings.options));
        Work {
            commit: decide(facts, ending),
            draft: state.draft.clone().unwrap_or_else(fresh),
            doomed: state.doomed.clone(),
            now,
        }
    }

    fn detach<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Detached<T> {
        Detached::new(work, &self.0.settings.commits)
    }
}

impl fmt::Debug for LazySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazySession")
            .field("presented", &self.0.presented)
            .finish_non_exhaustive()
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

/// The later word on the cookie counts; no word leaves the earlier one.
fn note_cookie(state: &mut State, cookie: CookieChange) {
    if cookie != CookieChange::Keep {
        state.cookie = cookie;
    }
}
