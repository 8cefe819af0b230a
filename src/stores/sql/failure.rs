//! What a database's errors mean for a store, and how they are told.

use std::{borrow::Cow, error::Error, fmt};

use sqlx::error::DatabaseError;

use super::dialect::Dialect;
use crate::error::{StoreError, StoreErrorKind};

/// What an error of the server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(unnameable_types, reason = "part of the sealed trait `Dialect`")]
pub enum Cause {
    /// The primary key is taken.
    Taken,
    /// Two statements were in each other's way, and this one was undone whole: send it again.
    Contention,
    /// Not now: starting, stopping, out of connections, read only, full.
    Unavailable,
    /// The row is more than the server takes.
    TooLarge,
    /// Anything else: a missing table or right, a fault of the program.
    Other,
}

impl Cause {
    pub(super) fn of<Db: Dialect>(error: &sqlx::Error) -> Self {
        if let Some(error) = error.as_database_error() {
            return match error.is_unique_violation() {
                true => Self::Taken,
                false => Db::cause(error),
            };
        }
        let away = matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        );
        match away {
            true => Self::Unavailable,
            false => Self::Other,
        }
    }

    fn kind(self) -> StoreErrorKind {
        match self {
            Self::Contention | Self::Unavailable => StoreErrorKind::Unavailable,
            Self::TooLarge => StoreErrorKind::TooLarge,
            Self::Taken | Self::Other => StoreErrorKind::Other,
        }
    }
}

/// Whether a connection had broken before anything was asked through it.
pub(super) fn is_stale<Db: Dialect>(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(error) => Db::is_farewell(error),
        None => matches!(error, sqlx::Error::Io(_)),
    }
}

/// The driver's error as the store's, quiet about values (clause C12).
pub(super) fn store_error<Db: Dialect>(error: sqlx::Error) -> StoreError {
    let kind = Cause::of::<Db>(&error).kind();
    match error.as_database_error() {
        Some(error) => StoreError::new(Db::STORE, kind, ServerError::new::<Db>(error)),
        None => StoreError::new(Db::STORE, kind, error),
    }
}

/// An error of the server without what it may quote of a row.
///
/// Servers quote keys and values: MySQL in the message of a duplicate key, PostgreSQL in the detail
/// of any violated constraint, and in messages about data that it could not read.
struct ServerError {
    code: String,
    message: Option<String>,
}

impl ServerError {
    fn new<Db: Dialect>(error: &dyn DatabaseError) -> Self {
        Self {
            code: Db::code(error).into_owned(),
            message: (!Db::may_quote(error)).then(|| error.message().to_owned()),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} (code {})", self.code),
            None => write!(f, "the server refused the data (code {})", self.code),
        }
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({self})")
    }
}

impl Error for ServerError {}

/// The SQLSTATE of an error, or nothing.
pub(super) fn sqlstate(error: &dyn DatabaseError) -> Cow<'_, str> {
    error.code().unwrap_or_default()
}
