//! The session as handlers use it.

mod commit;
mod decide;
mod detached;
mod find;
mod gate;
mod issue;
mod lazy;
mod presented;
mod pulse;
mod save;
mod settings;
mod state;
mod values;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

pub use self::lazy::LazySession;
#[cfg(fuzzing)]
pub(crate) use self::presented::Presented;
use self::state::{Draft, Phase};
pub(crate) use self::{
    decide::Ending,
    detached::Detached,
    save::{Closing, Committed},
    settings::Settings,
    state::{CookieChange, CookieValue},
};
use crate::{
    data::Replay,
    error::{Error, ErrorKind},
    expiry::Expiry,
    id::RecordId,
    user::UserId,
};

/// A loaded session.
///
/// Cheap to clone; all clones of one request are the same session. Its methods are synchronous:
/// what they read was loaded before, and what they change is committed after the handler, before
/// the headers of the answer go out. With axum it is an extractor; elsewhere it comes from
/// [`LazySession::load`].
///
/// # What happens to changes
///
/// 1. They are visible at once to all clones of this request.
/// 2. They are committed if the handler answers with a status below 500. If it answers 500 or
///    above, panics or is dropped, they are discarded, except that a [`flush`](Self::flush) still
///    ends the session.
/// 3. If another request has changed the same session meanwhile, they are made again over what it
///    has stored: a value that was put is put again, a key that was removed is removed, and the
///    function of an [`update`](Self::update) runs again on the newer value. Other keys keep what the
///    other request gave them. No whole record ever overwrites another.
/// 4. If the session was ended meanwhile (a logout elsewhere), they are dropped. Nothing brings
///    an ended session back. The handler's answer goes out all the same: a handler that must know
///    calls [`save().await?`](Self::save), which then fails with [`ErrorKind::Gone`].
/// 5. If the store fails, the client is answered 503 instead of the handler's answer.
/// 6. A change after the answer is an error ([`ErrorKind::Committed`]), never lost in silence. See
///    [`reload`](Self::reload) for streams and websockets.
///
/// # Examples
///
/// ```
/// use tower_keep::{Error, Session};
///
/// async fn counter(session: Session) -> Result<String, Error> {
///     let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
///     Ok(format!("visits: {visits}"))
/// }
/// ```
#[derive(Clone)]
pub struct Session(LazySession);

/// Identity: logging in and out.
impl Session {
    /// Binds the session to a user, under a new id. Call it whenever a user has proved who they are,
    /// also again for one who is logged in already.
    ///
    /// - The id changes when the answer is committed, and the old one dies with it, so that an id
    ///   that an attacker knows or has planted is worth nothing (session fixation; OWASP ASVS 5.0,
    ///   7.2.4). If the handler fails, nothing changes and the old id goes on to work.
    /// - Data stays, a cart for instance, unless the session was bound to another user: then all of
    ///   it is forgotten first.
    /// - The absolute time-out starts anew.
    /// - If the session that the request came with is ended meanwhile, by a logout in another tab for
    ///   instance, the answer goes out all the same and nobody is logged in. A handler that must know
    ///   calls [`save().await?`](Self::save), which then fails with [`ErrorKind::Gone`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`], a 500, if that is no [`UserId`]: check what a client has typed with
    /// [`UserId::parse`] first. [`ErrorKind::Committed`] after the answer, [`ErrorKind::ReadOnly`] during
    /// an outage, [`ErrorKind::Gone`] once a save or a reload has found the session ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # struct User { id: u64 }
    /// # fn page(session: &tower_keep::Session, user: User) -> Result<(), tower_keep::Error> {
    /// session.login(user.id)?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "renew")]
    #[doc(alias = "regenerate")]
    pub fn login(&self, user: impl fmt::Display) -> Result<(), Error> {
        let user = UserId::new(user)?;
        let login = self.change_with_cookie(|draft| {
            let another = draft.user().is_some_and(|before| *before != user);
            draft.login = Some(user);
            draft.rotate = true;
            another.then(|| draft.data.clear())
        });
        login.map(drop)
    }

    /// Whose session it is, as [`login`](Self::login) was told.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// if let Some(user) = session.user() {
    ///     println!("hello, {user}");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.read(|draft| draft.user().cloned())
    }

    /// Gives the session a new id when the answer is committed. Data, user and absolute deadline
    /// stay; the old id is dead from then on.
    ///
    /// Call it when privileges change. [`login`](Self::login) does it by itself.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Committed`] after the answer, [`ErrorKind::ReadOnly`] during an outage,
    /// [`ErrorKind::Gone`] once a save or a reload has found the session ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// session.insert("is_admin", true)?;
    /// session.cycle_id()?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "cycle_key")]
    #[doc(alias = "renew")]
    #[doc(alias = "regenerate")]
    pub fn cycle_id(&self) -> Result<(), Error> {
        self.change_with_cookie(|draft| draft.rotate = true)
    }

    /// Ends the session: its record is deleted when the handler is through, even if that fails. What is
    /// put in after this belongs to a new session with a new id. Without a session this does nothing.
    ///
    /// The cookie is removed if it was this request that ended the session. Where that was over before
    /// (ended, expired, or under another id), the cookie is left: by now it may be that of another login.
    ///
    /// After the answer it takes a [`reload`](Self::reload) before and a [`save`](Self::save) behind it, and the
    /// cookie is left.
    ///
    /// [`LazySession::flush`] does the same without loading the session first.
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
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// session.flush()?;
    /// session.insert("flash", "You are logged out.")?; // of a new session
    /// # Ok(()) }
    /// ```
    #[doc(alias = "logout")]
    #[doc(alias = "destroy")]
    #[doc(alias = "purge")]
    #[doc(alias = "delete")]
    pub fn flush(&self) -> Result<(), Error> {
        self.0.flush()
    }

    /// The id of the session's record in the store, or `None` while it has none. Rotation changes
    /// it. No secret: nobody can use it as a cookie.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// let this_device = session.record_id(); // the one to keep when all others are ended
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn record_id(&self) -> Option<RecordId> {
        self.read(|draft| draft.origin.as_ref().map(|origin| origin.record_id))
    }
}

/// Time.
impl Session {
    /// Gives the session an expiry rule of its own, in place of the layer's. It lasts until it is
    /// changed, [`reset`](Self::reset_expiry), or forgotten by [`clear`](Self::clear).
    ///
    /// The layer's absolute time-out still bounds it. On a session that holds nothing it has no
    /// effect until something is put in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for a duration of less than a millisecond or a time that is not
    /// in the future, and those of every change, as [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// use std::time::Duration;
    /// use tower_keep::Expiry;
    ///
    /// session.set_expiry(Expiry::Idle(Duration::from_secs(15 * 60)))?;
    /// # Ok(()) }
    /// ```
    pub fn set_expiry(&self, expiry: Expiry) -> Result<(), Error> {
        let expiry = expiry.parse(self.0.0.settings.now())?;
        self.change_with_cookie(|draft| draft.data.set_rule(Some(expiry)))
    }

    /// Returns to the layer's expiry rule.
    ///
    /// # Errors
    ///
    /// Those of every change, as [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// session.reset_expiry()?;
    /// assert_eq!(session.expiry(), None);
    /// # Ok(()) }
    /// ```
    pub fn reset_expiry(&self) -> Result<(), Error> {
        self.change_with_cookie(|draft| draft.data.set_rule(None))
    }

    /// The session's own expiry rule, or `None` while it follows the layer's.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        self.read(|draft| draft.data.rule())
    }

    /// When the session ends if it is not used again after this request, were it committed now.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> u64 {
    /// use std::time::UNIX_EPOCH;
    ///
    /// let since_epoch = session.expires_at().duration_since(UNIX_EPOCH).unwrap_or_default();
    /// let for_a_script = since_epoch.as_secs(); // that warns before it is too late
    /// # for_a_script }
    /// ```
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        let settings = &self.0.0.settings;
        let (policy, now) = (&settings.options.expiry, settings.now());
        self.read(|draft| draft.deadline(policy, now)).into()
    }

    /// How long until [`expires_at`](Self::expires_at), by the layer's clock.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// let minutes = session.expires_in().as_secs() / 60;
    /// let warning = format!("You will be logged out in {minutes} minutes.");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        let now = self.0.0.settings.clock.now();
        self.expires_at().duration_since(now).unwrap_or_default()
    }

    /// When the session began: at its last login, or when it was created. `None` while it is not
    /// stored.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> bool {
    /// use std::time::Duration;
    ///
    /// let age = session.created_at().and_then(|began| began.elapsed().ok());
    /// let ask_for_password = age.is_none_or(|age| age > Duration::from_secs(15 * 60));
    /// # ask_for_password }
    /// ```
    #[must_use]
    pub fn created_at(&self) -> Option<SystemTime> {
        self.read(|draft| Some(draft.origin.as_ref()?.record.created_at.into()))
    }
}

/// Whether the client keeps cookies: set the test cookie on one page, ask on the next.
impl Session {
    /// Puts something into the session that a client without cookies will not bring back.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// session.set_test_cookie()?; // on the page with the login form
    /// # Ok(()) }
    /// ```
    pub fn set_test_cookie(&self) -> Result<(), Error> {
        self.insert(TEST_COOKIE, true)
    }

    /// Whether the client has brought it back.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// if session.test_cookie_worked() {
    ///     session.delete_test_cookie()?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn test_cookie_worked(&self) -> bool {
        self.contains_key(TEST_COOKIE)
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// Those of every change, as [`insert`](Self::insert).
    pub fn delete_test_cookie(&self) -> Result<(), Error> {
        let set = self.change(|draft| draft.data.set(TEST_COOKIE, None, Replay::Value));
        set.map(drop)
    }
}

/// Committing by hand.
impl Session {
    /// Commits the changes so far now, instead of after the handler.
    ///
    /// Before the answer: what was saved stays saved even if the handler fails afterwards, and a new
    /// or changed id reaches the client with the answer, whatever its status. Without an answer it does not: where a
    /// handler panics and nothing inside of the layer makes an answer of it, or a service fails with an error, a
    /// session whose id was changed is lost to its client. Later changes are committed with the answer as always.
    ///
    /// After the answer, in a stream or a websocket: call [`reload`](Self::reload), change, then
    /// this; for another round, reload again.
    ///
    /// Once polled it runs to its end, even if the returned future is dropped. Meanwhile changes by
    /// clones of this session are refused, but a flush is taken.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] if the session was ended meanwhile: the changes are dropped.
    /// From then on a change is an error too: a new session's cookie could overwrite that of the
    /// login that ended this one.
    /// [`ErrorKind::Store`] and [`ErrorKind::Timeout`] if the store fails: whether the changes are
    /// stored is unknown. They are kept and made again with the next save or the answer, so that an
    /// [`update`](Self::update) may then count twice; a handler that does not want that returns the
    /// error. [`ErrorKind::Conflict`] if the layer is told to reject conflicts: reload first.
    /// [`ErrorKind::Committed`] after the answer without a reload. [`ErrorKind::TooLarge`],
    /// [`ErrorKind::Decode`] and [`ErrorKind::Interrupted`] if the changes cannot be made again over
    /// what another request has stored, [`ErrorKind::IdGeneration`] if there is no new id.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn charge() {}
    /// # async fn page(session: tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// session.insert("order", "placed")?;
    /// session.save().await?; // nobody orders twice, whatever happens next
    /// charge().await;
    /// # Ok(()) }
    /// ```
    pub async fn save(&self) -> Result<(), Error> {
        self.0.save().await
    }

    /// Loads the session again from the store. Changes that were not saved are discarded, and new
    /// ones refused until it is done.
    ///
    /// After the answer this opens the session for changes again, until the next
    /// [`save`](Self::save). What needs a new cookie is then an error, for no cookie can be set any
    /// more:
    ///
    /// - [`ErrorKind::Committed`] for [`login`](Self::login), [`cycle_id`](Self::cycle_id),
    ///   [`set_expiry`](Self::set_expiry) and [`reset_expiry`](Self::reset_expiry), and for every change of a
    ///   session in cookies;
    /// - [`ErrorKind::Gone`] for any other change of a session that is not stored.
    ///
    /// If the session was ended elsewhere, a change is [`ErrorKind::Gone`] before the answer too, a login included.
    ///
    /// What is saved after the answer keeps the session alive, for the layer's
    /// [`touch_after`](crate::SessionLayer::with_touch_after) less than a request does, so that the next request
    /// renews the cookie.
    ///
    /// # Errors
    ///
    /// As [`LazySession::load`]. The session is then as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn round(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// // in a websocket, long after the handshake was answered
    /// session.reload().await?;
    /// session.update("messages", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    /// session.save().await?;
    /// # Ok(()) }
    /// ```
    pub async fn reload(&self) -> Result<(), Error> {
        self.0.reload().await
    }
}

impl Session {
    fn of(lazy: LazySession) -> Self {
        Self(lazy)
    }

    fn read<T>(&self, read: impl FnOnce(&Draft) -> T) -> T {
        let mut state = self.0.state();
        state.accessed = true;
        match &state.draft {
            Some(draft) => read(draft),
            None => read(&Draft::new(&self.0.0.settings)),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Draft) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.0.state();
        change(state.draft_mut(&self.0.0.settings)?)
    }

    /// A change that the client has to be told of by a cookie.
    fn change_with_cookie<T>(&self, change: impl FnOnce(&mut Draft) -> T) -> Result<T, Error> {
        let mut state = self.0.state();
        if state.phase == Phase::Reopened {
            return Err(Error::new(
                ErrorKind::Committed,
                "the answer has been sent, and a new id can not reach the client any more",
            ));
        }
        Ok(change(state.draft_mut(&self.0.0.settings)?))
    }
}

/// Shows no data and no id.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// The key of the test cookie's value, as good as any that applications do not use.
const TEST_COOKIE: &str = "_test_cookie";
