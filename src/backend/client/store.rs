//! The store that is no store: it keeps everything in the cookies of the client.

use std::sync::Arc;

use super::{Client, Revocations};
use crate::{
    backend::{Backend, IntoBackend, Side},
    clock::{Clock, SystemClock},
    error::Error,
    id::{RecordId, SystemRandom},
    keyring::{Keyring, Purpose},
    seal::{Encryption, Seal, Signature},
    store::SessionStore,
    user::UserId,
};

/// Sessions in the cookies of the client: nothing is kept on the server, and nothing has to be shared between
/// servers but the [`Keyring`].
///
/// Takes the place of a store in [`SessionLayer::new`](crate::SessionLayer::new). Handlers do not see a
/// difference, but users of the site may; read the following before you choose it.
///
/// # Signed or encrypted
///
/// A client can alter neither. It can *read* a signed session, and so can everybody who gets hold of the cookie:
/// [`signed`](Self::signed) is for data that may be known. When in doubt take [`encrypted`](Self::encrypted).
///
/// | | seal | bytes besides the data, before base64 |
/// |---|---|---|
/// | [`signed`](Self::signed) | HMAC-SHA-256 | 127, and the user |
/// | [`encrypted`](Self::encrypted) | XChaCha20-Poly1305, 192-bit random nonces | 135, and the user |
///
/// Sealed in are the id, the user, the time of issue, and the idle and the absolute deadline, so that nothing of it
/// depends on the browser. A token is bound to the name of its cookie and to the
/// [namespace](Self::with_namespace): under another name, in another application with the same keyring, it is
/// worth nothing. What was sealed with a retired secret is sealed again by the answer to the request that used it.
///
/// # What logging out means
///
/// **A cookie cannot be taken back.** [`flush`](crate::Session::flush) asks the browser to remove it, and a
/// browser does, until the answer to a slower request of the same browser sets it again. A copy of it, made by malware or read from a backup, goes on to be a live session until it
/// expires; so does what the cookie was before a [`login`](crate::Session::login) or a
/// [`cycle_id`](crate::Session::cycle_id). There is nothing that could end all sessions of a user. This is what the
/// type `CookieStore<Irrevocable>` says.
///
/// [`with_revocations`](Self::with_revocations) makes it a `CookieStore<Revocable>`: what was ended is kept in a
/// store, small and seldom written, and each request that uses its session asks it. Then logout is final, rotated
/// ids are dead, and [`delete_all_of`](CookieStore::delete_all_of) ends all sessions of a user.
///
/// Within the life of one session no store knows which of its states is the latest: a client that has kept an older
/// cookie can present it again, and with it what has been removed since. So do not count attempts in such a session, or keep in it what
/// may be used once; after a change that must not be undone call [`cycle_id`](crate::Session::cycle_id), which, with
/// revocations, ends all states before.
///
/// # What concurrent requests mean
///
/// **The browser's last answer wins.** Two requests that are under way at the same time both start from the cookie
/// that the browser had when it sent them, and each answer replaces all of it. If both change the session, the changes
/// of the answer that arrives first are lost, also where they are to different keys. Nothing on the server can
/// notice, so [`Conflict`](crate::Conflict) has no meaning here. A page that loads several things at once,
/// each of which changes the session, needs a store on the server.
///
/// For the same reason what is changed after the headers went out, in a stream or a websocket, cannot be saved:
/// a change is then [`ErrorKind::Committed`](crate::ErrorKind::Committed), and so is a `flush` without revocations. A
/// [`reload`](crate::Session::reload) there tells of the end of the session by a logout or by its absolute deadline, but knows
/// nothing of cookies that were set since.
///
/// # How much fits
///
/// A session takes up to four cookies of at most 4096 bytes each, names and attributes counted, which is what every
/// browser keeps; with the default options that is about 11.5 KB of data. What would be more is
/// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) where it is put in, never a cookie that the browser drops in
/// silence. Servers and proxies have limits of their own for the headers of a request: nginx takes 8 KB in one field
/// by default, hyper 400 KB in all. Nothing is compressed: the length of what is compressed tells of its content.
///
/// Every change sends the whole session to the client, and every request sends it back.
///
/// # Examples
///
/// ```
/// use tower_keep::{CookieStore, Keyring, SessionLayer};
///
/// # let secret = Keyring::generate_secret()?;
/// // from the environment, say
/// let keyring = Keyring::new(secret)?;
/// let sessions = SessionLayer::new(CookieStore::encrypted(&keyring));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// With logouts that are final, kept in any store, for instance a table of PostgreSQL:
///
/// ```
/// use tower_keep::{CookieStore, Keyring, SessionLayer, SessionStore};
///
/// fn sessions(keyring: &Keyring, ended: impl SessionStore) -> SessionLayer {
///     SessionLayer::new(CookieStore::encrypted(keyring).with_revocations(ended))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct CookieStore<R = Irrevocable> {
    seal: Arc<dyn Seal>,
    namespace: Arc<str>,
    revocations: R,
}

/// Of a [`CookieStore`] without revocations: what was sealed is good until it expires.
#[derive(Clone, Copy, Debug)]
pub struct Irrevocable(());

/// Of a [`CookieStore`] with revocations: what was ended is worth nothing from then on.
#[derive(Clone, Debug)]
pub struct Revocable {
    revocations: Revocations,
    clock: Arc<dyn Clock>,
}

impl CookieStore {
    /// Sessions that a client can read, but not alter.
    #[must_use]
    pub fn signed(keyring: &Keyring) -> Self {
        Self::sealed(Signature::new(keyring, Purpose::CookieSignature))
    }

    /// Sessions that a client can neither read nor alter.
    #[must_use]
    pub fn encrypted(keyring: &Keyring) -> Self {
        Self::sealed(Encryption::new(keyring, Purpose::CookieEncryption))
    }

    /// Keeps in a store which sessions were ended before their time, so that their cookies are worth nothing.
    ///
    /// The store sees neither data nor users nor ids, only hashes: a small record for each logout, login and
    /// `cycle_id`, until the session would have expired anyway, and one for each user whose sessions were ended together, for
    /// 401 days. A store that loses records brings ended sessions back, so take a durable one, not a
    /// cache that evicts; and give it a table or prefix that no sessions are kept in. Expired records are
    /// removed as everywhere, by a [`Sweeper`](crate::Sweeper).
    ///
    /// | request | calls to the store |
    /// |---|---|
    /// | untouched, or without a session | 0 |
    /// | that reads a session of nobody / of a user / of one whose sessions were ended together in the last 401 days | 1 / 2 / 3 |
    /// | that changes it | the same again |
    /// | `cycle_id` | the same again, and 1 |
    /// | login | the same again, and 1 or, of another user, 3; without a session 2 |
    /// | logout | those of the read if it was loaded, and 1 |
    ///
    /// A failure of the store is a failure: while nobody can tell whether a session was ended it is not served, but
    /// answered with 503, or with an empty session under [`Outage::Anonymous`](crate::Outage::Anonymous).
    #[must_use]
    pub fn with_revocations(self, store: impl SessionStore) -> CookieStore<Revocable> {
        CookieStore {
            seal: self.seal,
            namespace: self.namespace,
            revocations: Revocable {
                revocations: Revocations::new(Arc::new(store)),
                clock: Arc::new(SystemClock),
            },
        }
    }

    fn sealed(seal: impl Seal + 'static) -> Self {
        Self {
            seal: Arc::new(seal),
            namespace: Arc::from(""),
            revocations: Irrevocable(()),
        }
    }
}

impl<R> CookieStore<R> {
    /// Sets the sessions of this application apart from those of others with the same keyring: in another
    /// namespace their cookies are worth nothing. Empty if this is not called.
    ///
    /// To change it ends all sessions.
    #[must_use]
    pub fn with_namespace(self, namespace: &str) -> Self {
        Self {
            namespace: Arc::from(namespace),
            ..self
        }
    }
}

impl CookieStore<Revocable> {
    /// Ends the sessions of a user, but for the one to keep: "log out everywhere". Those that begin afterwards are
    /// not concerned.
    ///
    /// Nobody knows how many there were. The session to keep stays what it is through any change and
    /// rotation.
    ///
    /// # Errors
    ///
    /// If the store failed; whether they are ended is then unknown. Call it again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_keep::{CookieStore, Error, Revocable, Session};
    ///
    /// async fn end_all_others(
    ///     session: Session,
    ///     cookies: CookieStore<Revocable>, // from the application's state
    /// ) -> Result<&'static str, Error> {
    ///     if let Some(user) = session.user() {
    ///         cookies.delete_all_of(&user, session.record_id().as_ref()).await?;
    ///     }
    ///     Ok("You are logged out on all other devices.")
    /// }
    /// ```
    pub async fn delete_all_of(&self, user: &UserId, keep: Option<&RecordId>) -> Result<(), Error> {
        let Revocable { revocations, clock } = &self.revocations;
        let now = clock.now().into();
        let ended = revocations.end_generation(&self.namespace, user, keep, now, &SystemRandom);
        ended.await.map(drop)
    }

    /// Takes the time from another clock, for when records of what was ended expire.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.revocations.clock = Arc::new(clock);
        self
    }
}

impl IntoBackend for CookieStore<Irrevocable> {
    fn into_backend(self) -> Backend {
        Backend {
            side: Side::Client(Client::new(self.seal, self.namespace, None)),
        }
    }
}

impl IntoBackend for CookieStore<Revocable> {
    fn into_backend(self) -> Backend {
        let revocations = Some(self.revocations.revocations);
        Backend {
            side: Side::Client(Client::new(self.seal, self.namespace, revocations)),
        }
    }
}
