//! The layer and its options.

use std::{sync::Arc, time::Duration};

use cookie::SameSite;
use tower_layer::Layer;

use crate::{
    backend::IntoBackend,
    clock::Clock,
    error::Error,
    id::RandomSource,
    options::{Conflict, OptionsError, Outage, SessionOptions},
    service::SessionService,
    session::Settings,
};

/// Gives every request a session.
///
/// Cheap to clone. Clones share the store, and [`drain`](Self::drain) of one waits for all.
///
/// # Defaults
///
/// | option | default | why |
/// |---|---|---|
/// | cookie name | `__Host-id` | bound to host and HTTPS by the browser; tells nothing about the software |
/// | `Secure`, `HttpOnly` | on | out of reach of eavesdroppers and scripts |
/// | `SameSite` | `Lax` | not sent with cross-site POSTs, still sent when a link is followed |
/// | idle timeout | 14 days | Django's |
/// | absolute timeout | 30 days | NIST SP 800-63B-4, AAL1 |
/// | touch after | a tenth of the idle time | a read-only request then costs one round trip, not two |
/// | store timeout | 2 s | for a load, and again for a commit |
/// | record size | 64 KiB | every request that uses the session reads all of it |
/// | conflict | merge | nothing acknowledged is lost |
/// | outage | error | an outage is not a logout |
///
/// # Where it goes
///
/// Outside of everything that uses the session. Inside of what may replace answers (a timeout,
/// compression): it must see the handler's own status to know whether to commit. A panic catcher goes inside of it: the
/// answer that it makes of a panic still brings the client the id of a session that was saved before.
///
/// Two layers around one handler: the inner one is found in the extensions, and the outer one costs
/// nothing, as long as nothing between the two uses its session. Give them either the same cookie name, store and
/// options, or different cookie names *and* different stores
/// (another prefix, table or folder): a store knows a session by its id alone, so that over one store the id in one
/// cookie is valid in the other.
///
/// # Panics
///
/// The methods panic for a value that is out of bounds, and [`Layer::layer`] for options that
/// contradict each other, when the application starts and not when the first client comes. The text
/// tells the mend. Options from outside are better read into
/// [`SessionOptions`], which reports the same as errors.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use tower_keep::{Error, MemoryStore, Session, SessionLayer};
///
/// async fn counter(session: Session) -> Result<String, Error> {
///     let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
///     Ok(format!("visits: {visits}"))
/// }
///
/// let sessions = SessionLayer::new(MemoryStore::new())
///     .with_cookie_name("shop")
///     .with_idle_timeout(Duration::from_secs(30 * 60));
/// let app: Router = Router::new().route("/", get(counter)).layer(sessions);
/// ```
#[derive(Clone, Debug)]
pub struct SessionLayer {
    settings: Arc<Settings>,
}

impl SessionLayer {
    /// A layer with the default options over a store.
    ///
    /// Each application, and each part of one that has users of its own, needs a store of its own (another prefix,
    /// table or folder): in all that share one, the same ids are valid, and the same names are the same users.
    #[must_use]
    pub fn new(store: impl IntoBackend) -> Self {
        Self {
            settings: Arc::new(Settings::new(store.into_backend())),
        }
    }

    /// Takes all options from a configuration, in place of what was set before.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer, SessionOptions};
    /// let options: SessionOptions = serde_json::from_str(r#"{ "idle_timeout_secs": 1800 }"#)?;
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_options(options);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn with_options(self, options: SessionOptions) -> Self {
        self.edit(|settings| settings.options = options)
    }

    /// Names the cookie, without a prefix: `__Host-` or `__Secure-` is put before it as the other
    /// options allow.
    ///
    /// # Panics
    ///
    /// If it is empty, longer than 64 bytes, no token of RFC 9110, has such a prefix, or ends with `-1`, `-2` or `-3` as
    /// the cookies of a large `CookieStore` session do.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// // sent as `__Host-shop`
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_cookie_name("shop");
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_cookie_name(self, name: &str) -> Self {
        self.set(|options| options.set_cookie_name(name))
    }

    /// Sends the cookie to all hosts of a domain. The prefix is then `__Secure-`: every one of
    /// those hosts can set and overwrite the cookie, so leave this out where one host is enough.
    ///
    /// # Panics
    ///
    /// If it is no host name.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// // sent as `__Secure-id` to example.org and all hosts below it
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_domain("example.org");
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_domain(self, domain: &str) -> Self {
        self.set(|options| options.set_domain(domain))
    }

    /// Sends the cookie to paths below this one. No protection: pages on other paths of the host can
    /// still reach it. The prefix is then `__Secure-`.
    ///
    /// # Panics
    ///
    /// If it does not start with `/` or cannot stand in a cookie.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_path("/shop");
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_path(self, path: &str) -> Self {
        self.set(|options| options.set_path(path))
    }

    /// When browsers send the cookie with requests from other sites.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SameSite, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_same_site(SameSite::Strict);
    /// ```
    #[must_use]
    pub fn with_same_site(self, same_site: SameSite) -> Self {
        self.edit(|settings| settings.options.set_same_site(same_site))
    }

    /// Keeps the cookie apart by top-level site (CHIPS), for pages that are embedded in others'.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SameSite, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new())
    ///     .with_same_site(SameSite::None)
    ///     .with_partitioned();
    /// ```
    #[must_use]
    pub fn with_partitioned(self) -> Self {
        self.edit(|settings| settings.options.set_partitioned())
    }

    /// Drops `Secure`, and with it the prefix: the cookie then travels unencrypted, where everybody
    /// on the way can read and use it.
    ///
    /// Chromium and Firefox trust `localhost` without encryption and do not need this there. Safari before macOS 26
    /// drops `Secure` cookies there ([WebKit bug 281149](https://bugs.webkit.org/show_bug.cgi?id=281149)): use this
    /// while developing, or HTTPS.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_insecure_http();
    /// ```
    #[must_use]
    pub fn with_insecure_http(self) -> Self {
        self.edit(|settings| settings.options.set_insecure_http())
    }

    /// Drops `HttpOnly`: scripts on the page can then read the cookie, injected ones too.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_insecure_script_access();
    /// ```
    #[must_use]
    pub fn with_insecure_script_access(self) -> Self {
        self.edit(|settings| settings.options.set_insecure_script_access())
    }

    /// How long a session lives without being used.
    ///
    /// # Panics
    ///
    /// If it is less than a millisecond.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let half_an_hour = Duration::from_secs(30 * 60);
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_idle_timeout(half_an_hour);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_idle_timeout(self, timeout: Duration) -> Self {
        self.set(|options| options.set_idle_timeout(timeout))
    }

    /// How long a session lives however much it is used. [`Session::login`] starts it anew.
    ///
    /// [`Session::login`]: crate::Session::login
    ///
    /// # Panics
    ///
    /// If it is less than a millisecond.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let a_working_day = Duration::from_secs(12 * 60 * 60);
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_absolute_timeout(a_working_day);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_absolute_timeout(self, timeout: Duration) -> Self {
        self.set(|options| options.set_absolute_timeout(timeout))
    }

    /// Lets sessions without an expiry rule of their own end with the browser: the cookie has no
    /// `Max-Age`. On the server the idle timeout holds all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_browser_close();
    /// ```
    #[must_use]
    pub fn with_browser_close(self) -> Self {
        self.edit(|settings| settings.options.expiry.browser_close = true)
    }

    /// How far a session's deadline must have moved before it is written to the store again, when the
    /// session was only read. A tenth of the idle time if this is not called.
    ///
    /// Zero writes it whenever a session is loaded, as Django's `SESSION_SAVE_EVERY_REQUEST` does.
    ///
    /// # Panics
    ///
    /// [`Layer::layer`] does, if it is not less than the idle timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_touch_after(Duration::ZERO);
    /// ```
    #[must_use]
    pub fn with_touch_after(self, after: Duration) -> Self {
        self.edit(|settings| settings.options.expiry.touch_after = Some(after))
    }

    /// How long a request waits for the store: for the load, and again for the commit with all its
    /// attempts. Then it is answered 503.
    ///
    /// # Panics
    ///
    /// If it is less than a millisecond.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let patience = Duration::from_millis(500);
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_store_timeout(patience);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_store_timeout(self, timeout: Duration) -> Self {
        self.set(|options| options.set_store_timeout(timeout))
    }

    /// How many bytes a session may take in the store, keys and values as JSON, 8 bytes an entry and
    /// 14 in all. What would make it larger is refused where it is put in.
    ///
    /// # Panics
    ///
    /// If it is 0 or does not fit 4 bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_record_bytes_max(4 * 1024);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_record_bytes_max(self, bytes: usize) -> Self {
        self.set(|options| options.set_record_bytes_max(bytes))
    }

    /// What happens when two requests change one session at the same time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{Conflict, MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_conflict(Conflict::Reject);
    /// ```
    #[must_use]
    pub fn with_conflict(self, conflict: Conflict) -> Self {
        self.edit(|settings| settings.options.conflict = conflict)
    }

    /// What happens when a session cannot be loaded.
    ///
    /// Routes choose for themselves by a layer of their own: a clone of this one with another
    /// outage option, around those routes alone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, Outage, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new());
    /// let pages_for_everybody = sessions.clone().with_outage(Outage::Anonymous);
    /// ```
    #[must_use]
    pub fn with_outage(self, outage: Outage) -> Self {
        self.edit(|settings| settings.options.outage = outage)
    }

    /// Takes the time from another clock.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer, SystemClock};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_clock(SystemClock);
    /// ```
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.edit(|settings| settings.clock = Arc::new(clock))
    }

    /// Takes the random bits of ids from another source.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_keep::{MemoryStore, SessionLayer, SystemRandom};
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_random_source(SystemRandom);
    /// ```
    #[must_use]
    pub fn with_random_source(self, random: impl RandomSource) -> Self {
        self.edit(|settings| settings.random = Arc::new(random))
    }

    /// Makes the head of the answer when a session could not be committed. Without it, the answer
    /// has the status of [`Error::status`].
    ///
    /// The answer has no body. The [`Error`] is in its extensions, and so it is in an answer that
    /// axum makes of one: a `map_response` outside of this layer turns both into a page.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Response, header::RETRY_AFTER};
    /// use tower_keep::{MemoryStore, SessionLayer};
    ///
    /// let sessions = SessionLayer::new(MemoryStore::new()).with_error_response(|error| {
    ///     let mut response = Response::new(());
    ///     *response.status_mut() = error.status();
    ///     response.headers_mut().insert(RETRY_AFTER, 5.into());
    ///     response
    /// });
    /// ```
    #[must_use]
    pub fn with_error_response(
        self,
        render: impl Fn(&Error) -> http::Response<()> + Send + Sync + 'static,
    ) -> Self {
        self.edit(|settings| settings.render_error = Some(Arc::new(render)))
    }

    /// Waits until no commit is under way. Call it between the end of the server and the end of
    /// the process, so that what was acknowledged is in the store, and what clients asked for and
    /// did not wait for too.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn serve() -> std::io::Result<()> {
    /// use tower_keep::{MemoryStore, SessionLayer};
    ///
    /// let sessions = SessionLayer::new(MemoryStore::new());
    /// let app = axum::Router::<()>::new().layer(sessions.clone());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap() })
    ///     .await?;
    /// sessions.drain().await;
    /// # Ok(()) }
    /// ```
    pub async fn drain(&self) {
        self.settings.commits.drain().await;
    }

    fn edit(mut self, edit: impl FnOnce(&mut Settings)) -> Self {
        edit(Arc::make_mut(&mut self.settings));
        self
    }

    #[track_caller]
    fn set(self, set: impl FnOnce(&mut SessionOptions) -> Result<(), OptionsError>) -> Self {
        let mut options = self.settings.options.clone();
        if let Err(error) = set(&mut options) {
            panic!("SessionLayer: {error}");
        }
        self.with_options(options)
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        if let Err(error) = self.settings.check() {
            panic!("SessionLayer: {error}");
        }
        SessionService::new(inner, Arc::clone(&self.settings))
    }
}
