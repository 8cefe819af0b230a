//! What the errors of memcached mean for a store, and how they are told.

use std::io;

use memcache::exp::Error;

use crate::error::{StoreError, StoreErrorKind};

/// The driver's error as the store's. The driver quotes keys, which are ids of records, and perhaps what it
/// could not read: only what the server or the system said is kept (clause C12).
pub(super) fn store_error(error: Error) -> StoreError {
    match innermost(error) {
        Error::Io(error) => StoreError::new(STORE, StoreErrorKind::Unavailable, error),
        Error::Timeout { .. } => unavailable(io::Error::from(io::ErrorKind::TimedOut)),
        Error::Server(message) if message.contains(TOO_LARGE) => {
            StoreError::new(STORE, StoreErrorKind::TooLarge, message)
        }
        Error::Server(message) => unavailable(message),
        Error::Rejected(message) => StoreError::new(STORE, StoreErrorKind::Other, message),
        Error::Protocol(_) => unavailable("the server broke the protocol"),
        _ => StoreError::new(STORE, StoreErrorKind::Other, "the client refused the call"),
    }
}

/// Whether the connection failed, or the server with it: the same may succeed when it is sent again.
pub(super) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Protocol(_) => true,
        Error::Ambiguous { source, .. } => is_passing(source),
        _ => false,
    }
}

/// What the driver says beyond that it does not know whether it was carried out.
fn innermost(error: Error) -> Error {
    match error {
        Error::Ambiguous { source, .. } => innermost(*source),
        error => error,
    }
}

pub(super) fn unavailable(
    problem: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::new(STORE, StoreErrorKind::Unavailable, problem)
}

pub(super) fn problem(problem: &'static str) -> StoreError {
    StoreError::new(STORE, StoreErrorKind::Other, problem)
}

pub(super) const STORE: &str = "memcached";

/// As memcached says it: `object too large for cache`.
const TOO_LARGE: &str = "too large";
