//! What the errors of Redis mean for a store, and how they are told.

use std::{error::Error, fmt};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{StoreError, StoreErrorKind};

/// What may have become of a command that was answered by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The server does not know the script.
    UnknownScript,
    /// It was refused for now, and certainly not carried out.
    Refused,
    /// Refused by a server that does not take writes any more: another one does now.
    WrongServer,
    /// A node of the cluster said where else to ask.
    Asked,
    /// The connection broke. It may have been carried out.
    Unknown,
    /// It will always be refused.
    Final,
}

impl Fate {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::NoScript => Self::UnknownScript,
                ServerErrorKind::ReadOnly => Self::WrongServer,
                ServerErrorKind::Ask => Self::Asked,
                ServerErrorKind::Moved
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading => Self::Refused,
                _ => Self::Final,
            },
            ErrorKind::Extension if is_for_now(error) => Self::Refused,
            ErrorKind::ClusterConnectionNotFound | ErrorKind::MasterNameNotFoundBySentinel => {
                Self::Refused
            }
            ErrorKind::Io | ErrorKind::Parse => Self::Unknown,
            _ => Self::Final,
        }
    }
}

/// The driver's error as the store's, quiet about keys, values and passwords (clause C12).
pub(super) fn store_error(error: RedisError) -> StoreError {
    let kind = match (error.code(), Fate::of(&error)) {
        (Some("WRONGTYPE"), _) => StoreErrorKind::Corrupt,
        // The memory is full; what is there can not be saved.
        (Some("OOM" | "MISCONF"), _) => StoreErrorKind::Unavailable,
        (_, Fate::Final) => StoreErrorKind::Other,
        (_, _) => StoreErrorKind::Unavailable,
    };
    match error.detail() {
        Some(detail) => {
            let told = Told::new(error.code().unwrap_or(error.category()), detail);
            StoreError::new(STORE, kind, told)
        }
        None => StoreError::new(STORE, kind, error),
    }
}

/// The time is over. The last problem is why, if there was one.
pub(super) fn out_of_time(problem: Option<RedisError>) -> StoreError {
    let Some(problem) = problem else {
        let problem = "the server did not answer in time";
        return StoreError::new(STORE, StoreErrorKind::Unavailable, problem);
    };
    store_error(problem)
}

/// What is there is not what this store has written.
pub(super) fn foreign(kind: StoreErrorKind, problem: &'static str) -> StoreError {
    StoreError::new(STORE, kind, problem)
}

/// States of a server that pass: a script that runs too long, replicas that are missing.
fn is_for_now(error: &RedisError) -> bool {
    matches!(error.code(), Some("BUSY" | "NOREPLICAS"))
}

/// What was said of an error, without what a server may quote of a command.
#[derive(Debug)]
struct Told {
    code: String,
    detail: String,
}

impl Told {
    fn new(code: &str, detail: &str) -> Self {
        // `unknown command 'EVALSHA', with args beginning with: …`, which are our keys, or a password.
        let quoted = detail.find("with args").unwrap_or(detail.len());
        Self {
            code: code.to_owned(),
            detail: detail[..quoted].trim_end_matches([' ', ',']).to_owned(),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl Error for Told {}

pub(super) const STORE: &str = "redis";
