//! The handle in the request's extensions: nothing is read until somebody asks.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Extensions, HeaderMap};
use tokio::runtime::Handle;

use crate::{
    error::{Error, ErrorKind},
    options::CookieOptions,
    session::{
        Session,
        gate::Gate,
        presented::Presented,
        settings::Settings,
        state::{Access, Draft, Phase, State, committed, too_late_for_a_cookie},
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
    pub(super) presented: Presented,
    pub(super) gate: Gate,
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
        extensions.get().cloned().ok_or(Self::MISSING)
    }

    pub(crate) const MISSING: Error = Error::new(
        ErrorKind::MissingLayer,
        "the request has not come through a `SessionLayer`: add the layer outside of this handler or middleware",
    );

    pub(crate) fn new(settings: &Arc<Settings>, headers: &HeaderMap) -> Self {
        Self(Arc::new(Shared {
            settings: Arc::clone(settings),
            presented: Presented::of(headers),
            gate: Gate::default(),
            state: Mutex::default(),
        }))
    }

    /// Loads the session that the client has presented the id of: one call to the store, or none
    /// if there is no well-formed id. Later calls return the same session at once.
    ///
    /// A client without a session gets an empty one. It is stored, and a cookie set, only when
    /// something is put into it.
    ///
    /// Load it before the answer if the answer depends on it: one that is first loaded by a stream, when the headers
    /// have gone out, cannot tell caches that it varies by the cookie (`Vary`, RFC 9110, section 12.5.5).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] and [`ErrorKind::Timeout`] if the store fails or is silent (unless the
    /// layer serves an empty session then, see [`Outage`](crate::Outage)), and [`ErrorKind::Unsupported`] for a
    /// record of a newer version. Nothing is known about the session then; answer with the error. A
    /// later call tries again.
    ///
    /// A damaged record is no error: it is reported as a `tracing` event, and the client served as
    /// if it had no session.
    pub async fn load(&self) -> Result<Session, Error> {
        self.be_loaded().await?;
        Ok(Session::of(self.clone()))
    }

    /// The same of a handle that is not needed any more.
    #[cfg(feature = "axum")]
    pub(crate) async fn into_loaded(self) -> Result<Session, Error> {
        self.be_loaded().await?;
        Ok(Session::of(self))
    }

    async fn be_loaded(&self) -> Result<(), Error> {
        if self.is_loaded() {
            return Ok(());
        }
        let settings = &*self.0.settings;
        match settings.in_time("load", pin!(self.load_once())).await {
            Err(error) if settings.serves_without_store(&error) => {
                let kind = error.kind();
                tracing::warn!(?kind, "serving an empty session during an outage");
                self.install(Arc::new(Draft::stand_in(settings)));
                Ok(())
            }
            loaded => loaded,
        }
    }

    /// Ends the session without loading it: one call to the store, when the handler is through, even if
    /// that fails. What is put in after this belongs to a new session with a new id. Without a session
    /// this does nothing.
    ///
    /// The cookie is removed if it was this request that ended the session. Where that was over before
    /// (ended, expired, or under another id), the cookie is left: by now it may be that of another login.
    ///
    /// After the answer it takes a [`reload`](Session::reload) before and a [`save`](Session::save) behind it, and
    /// the cookie is left.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Committed`] after the answer without a reload, and even with one for a session in cookies
    /// without revocations. [`ErrorKind::Unsupported`] for a session in cookies that a newer version of this
    /// crate has sealed.
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
        if state.phase == Phase::Committed {
            return Err(committed());
        }
        if state.phase == Phase::Reopened && self.0.settings.is_irrevocable() {
            return Err(too_late_for_a_cookie());
        }
        let draft = state.draft.as_deref();
        if draft.is_some_and(|draft| draft.access == Access::Ended) {
            // It has ended already, and nothing may begin in its place.
            return Ok(());
        }
        if let Some(origin) = draft.and_then(|draft| draft.origin.as_ref()) {
            let ended = origin.doomed();
            state.flushed.doom(ended);
            state.flushed.was_live = true;
        } else if state.flushed.doomed.is_empty() {
            // Not loaded, or not one alone is alive: whatever the client presents is to end.
            for session in self.presented_sessions()? {
                state.flushed.doom(session);
            }
        }
        if let Ok(runtime) = Handle::try_current() {
            state.flushed.runtime = Some(runtime);
        }
        let fresh = Arc::new(Draft::new(&self.0.settings));
        let flushed = state.draft.replace(fresh);
        drop(state);
        drop(flushed);
        Ok(())
    }

    /// How many cookies the client has sent that only a larger session needs.
    pub(crate) fn cookies_sent(&self) -> usize {
        match self.0.settings.is_in_cookies() {
            true => self.0.presented.chunks(self.cookie_options().full_name()),
            false => 0,
        }
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

    /// Loads unless somebody else has done so while this one waited for its turn.
    async fn load_once(&self) -> Result<(), Error> {
        let _turn = self.0.gate.turn().await;
        if !self.is_loaded() {
            let found = self.find().await?;
            self.install(found);
        }
        Ok(())
    }

    /// A flush that came meanwhile knows what it wants without having loaded.
    fn install(&self, draft: Arc<Draft>) {
        self.state().draft.get_or_insert(draft);
    }

    /// Loads the session again by the id it has now.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        let reload = pin!(self.reload_now());
        self.0.settings.in_time("load", reload).await
    }

    async fn reload_now(&self) -> Result<(), Error> {
        // One that began before the answer does not open what the answer has closed.
        let phase = self.state().phase;
        let _turn = self.0.gate.turn().await;
        let settings = &*self.0.settings;
        let _busy = Busy::new(self);
        let before = self.state().draft.clone();
        let mut draft = match before.as_deref() {
            None => self.find().await?,
            Some(draft) if draft.access == Access::ReadOnly => self.find().await?,
            Some(draft) if draft.access == Access::Ended => Arc::new(Draft::ended(settings)),
            Some(draft) => match &draft.origin {
                None => Arc::new(Draft::new(settings)),
                Some(origin) => {
                    let live = self.look_up_again(origin).await?;
                    live.unwrap_or_else(|| Arc::new(Draft::ended(settings)))
                }
            },
        };
        Arc::make_mut(&mut draft).is_silent = phase != Phase::Open;
        let mut state = self.state();
        let outdated = match same(state.draft.as_ref(), before.as_ref()) {
            true => state.draft.replace(draft),
            // A flush that came meanwhile stands.
            false => None,
        };
        if phase != Phase::Open {
            state.phase = Phase::Reopened;
        }
        drop(state);
        drop(outdated);
        Ok(())
    }

    /// The runtime of the request that a flush came from, for a request that is dropped elsewhere.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        Handle::try_current()
            .ok()
            .or_else(|| self.state().flushed.runtime.clone())
    }
}

impl fmt::Debug for LazySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazySession")
            .field("presented", &self.0.presented)
            .finish_non_exhaustive()
    }
}

/// While a save or a reload is under way, changes are refused: they would be lost.
pub(super) struct Busy<'a>(&'a LazySession);

impl<'a> Busy<'a> {
    pub(super) fn new(lazy: &'a LazySession) -> Self {
        lazy.state().busy = true;
        Self(lazy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state().busy = false;
        self.0.forget_replays();
    }
}

/// Whether nobody has put another draft in place since. Changes cannot have been made either: those
/// who want to know hold a reference, so that a change makes a copy.
pub(super) fn same(now: Option<&Arc<Draft>>, before: Option<&Arc<Draft>>) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => Arc::ptr_eq(now, before),
        (now, before) => now.is_none() && before.is_none(),
    }
}
