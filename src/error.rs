//! What can go wrong, for the application ([`Error`]) and between a store and the layer
//! ([`StoreError`]).

use std::{error::Error as StdError, fmt, sync::Arc};

use http::StatusCode;

use crate::id::RandomError;

/// Why a session could not be loaded, changed or saved.
///
/// Opaque: ask [`kind`](Error::kind) what happened, [`status`](Error::status) what to answer, and
/// [`source`](StdError::source) for what lies beneath. Cheap to clone. No text of it holds an id,
/// a value of a session or a credential.
///
/// With the feature `axum` it is a response, so that a handler returns
/// `Result<_, tower_keep::Error>` and uses `?`.
///
/// # Examples
///
/// ```
/// use tower_keep::{Error, ErrorKind, Session};
///
/// fn add_to_cart(session: &Session, article: u32) -> Result<(), Error> {
///     let added = session.update("cart", move |cart: Option<Vec<u32>>| {
///         let mut cart = cart.unwrap_or_default();
///         cart.push(article);
///         cart
///     });
///     match added {
///         Err(error) if error.kind() == ErrorKind::TooLarge => Ok(()), // the cart is full
///         other => other.map(|_cart| ()),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: &'static str,
    source: Option<Source>,
}

/// What happened; the answer to [`Error::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store failed. Nobody is logged out by it; answer 503 and let the client try again.
    Store,
    /// The store did not answer within the layer's store timeout (503).
    Timeout,
    /// Another request changed the same session, and the layer was told to reject that, or the
    /// change could not be merged in a bounded number of attempts (409).
    Conflict,
    /// The session has been ended elsewhere while it was in use: an explicit save came too late, or
    /// what it found out was followed by a change (409).
    Gone,
    /// The change would make the record larger than the layer's limit (413).
    TooLarge,
    /// The value cannot be written as JSON (500).
    Encode,
    /// What is stored under the key is not of the type that was asked for (500).
    Decode,
    /// The record was written by a newer version of this crate (503).
    Unsupported,
    /// The session has been committed, its cookie may be on its way, and the change came too late;
    /// or a save or a reload by a clone of it is under way (500). See
    /// [`Session::reload`](crate::Session::reload).
    Committed,
    /// The store is out, and the layer serves an empty session that cannot be changed (503).
    ReadOnly,
    /// No random bits, or no unused id in a bounded number of attempts (500).
    IdGeneration,
    /// An argument is outside its bounds: an empty user, a time-out of zero (500).
    InvalidArgument,
    /// The handler is not behind a [`SessionLayer`](crate::SessionLayer) (500).
    MissingLayer,
    /// A task of this crate was stopped by a panic, most likely of a closure that was passed to
    /// [`Session::update`](crate::Session::update), or by the end of the runtime (500).
    Interrupted,
}

impl Error {
    /// What happened.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The status of an answer that reports this error.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            ErrorKind::Store
            | ErrorKind::Timeout
            | ErrorKind::Unsupported
            | ErrorKind::ReadOnly => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Conflict | ErrorKind::Gone => StatusCode::CONFLICT,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Encode
            | ErrorKind::Decode
            | ErrorKind::Committed
            | ErrorKind::IdGeneration
            | ErrorKind::InvalidArgument
            | ErrorKind::MissingLayer
            | ErrorKind::Interrupted => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A text for the client, that tells nothing about the inside.
    #[must_use]
    pub fn body_text(&self) -> &'static str {
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => "the session is unavailable, try again",
            StatusCode::CONFLICT => "the session was changed elsewhere, try again",
            StatusCode::PAYLOAD_TOO_LARGE => "the session is full",
            _ => "internal server error",
        }
    }

    /// The store's own error, where one is the cause.
    #[must_use]
    pub fn store_error(&self) -> Option<&StoreError> {
        self.source.as_ref()?.downcast_ref()
    }

    pub(crate) const fn new(kind: ErrorKind, message: &'static str) -> Self {
        Self {
            kind,
            message,
            source: None,
        }
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        message: &'static str,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            message,
            source: Some(Arc::new(source)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (kind, message) = match error.kind() {
            StoreErrorKind::Unavailable | StoreErrorKind::Corrupt | StoreErrorKind::Other => {
                (ErrorKind::Store, "the session store failed")
            }
            StoreErrorKind::Unsupported => (
                ErrorKind::Unsupported,
                "the session was written by a newer version",
            ),
            StoreErrorKind::TooLarge => (
                ErrorKind::TooLarge,
                "the session is larger than the store takes",
            ),
        };
        Self::with_source(kind, message, error)
    }
}

impl From<RandomError> for Error {
    fn from(error: RandomError) -> Self {
        Self::with_source(
            ErrorKind::IdGeneration,
            "no session id could be made",
            error,
        )
    }
}

/// Why a store could not do what it was asked.
///
/// Made by stores. It names the store and keeps the driver's error as its source. Neither its
/// text nor its source's may hold an id, a payload or a credential (clause C12 of the contract):
/// wrap a driver whose errors do.
///
/// # Examples
///
/// ```
/// use std::io;
/// use tower_keep::{StoreError, StoreErrorKind};
///
/// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
/// let error = StoreError::new("redis", StoreErrorKind::Unavailable, refused);
/// assert_eq!(error.to_string(), "redis: the store is unavailable");
/// assert_eq!(error.store(), "redis");
/// ```
#[derive(Clone)]
pub struct StoreError {
    store: &'static str,
    kind: StoreErrorKind,
    source: Source,
}

/// What kind of failure a store reports; the answer to [`StoreError::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be reached, or not now; the same call may succeed later.
    Unavailable,
    /// The record is there, but damaged. The layer serves such a request an empty session, and
    /// leaves the damaged record alone.
    Corrupt,
    /// The record is there, in a form that only a newer version understands.
    Unsupported,
    /// The record is larger than the store takes.
    TooLarge,
    /// Anything else: a missing table, a refused login, a fault of the program.
    Other,
}

impl StoreError {
    /// An error of the store of that name, with the driver's error behind it.
    pub fn new(
        store: &'static str,
        kind: StoreErrorKind,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            store,
            kind,
            source: Arc::from(source.into()),
        }
    }

    /// The name of the store.
    #[must_use]
    pub const fn store(&self) -> &'static str {
        self.store
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            StoreErrorKind::Unavailable => "the store is unavailable",
            StoreErrorKind::Corrupt => "the record is damaged",
            StoreErrorKind::Unsupported => "the record is of a newer version",
            StoreErrorKind::TooLarge => "the record is too large",
            StoreErrorKind::Other => "the operation failed",
        };
        write!(f, "{}: {what}", self.store)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("store", &self.store)
            .field("kind", &self.kind)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

/// Shared, so that an error can be both answered to one caller and kept for another.
type Source = Arc<dyn StdError + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_error_is_found_through_the_error_that_reports_it() {
        let beneath = StoreError::new("file", StoreErrorKind::TooLarge, "over 1 MiB");
        let error = Error::from(beneath);
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(error.store_error().unwrap().store(), "file");
        let driver = error.source().unwrap().source().unwrap();
        assert_eq!(driver.to_string(), "over 1 MiB");
    }
}
