//! What goes wrong in a file system, as errors of the store.

use std::io;

use rustix::io::Errno;

use crate::error::{StoreError, StoreErrorKind};

pub(super) const STORE: &str = "file";

/// What the store was doing, and the system's answer. No path: the name of a file is a record id.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
struct Fault {
    step: &'static str,
    #[source]
    cause: io::Error,
}

/// Makes an error of the store out of the system's answer to a step.
///
/// To be used on calls whose errors carry no path: those of `rustix`, of an open `File`, of
/// `std::fs`.
pub(super) fn failed<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> StoreError {
    move |cause| {
        let cause = cause.into();
        StoreError::new(STORE, kind_of(&cause), Fault { step, cause })
    }
}

/// The record is there, and cannot be read.
pub(super) fn corrupt(problem: &'static str) -> StoreError {
    StoreError::new(STORE, StoreErrorKind::Corrupt, problem)
}

/// The store is gone, or another one is in its place.
pub(super) fn unavailable(problem: &'static str) -> StoreError {
    StoreError::new(STORE, StoreErrorKind::Unavailable, problem)
}

/// It will not get better by itself.
pub(super) fn refused(problem: &'static str) -> StoreError {
    StoreError::new(STORE, StoreErrorKind::Other, problem)
}

/// Whether the same call may succeed later, without anybody having changed the store's folder.
fn kind_of(cause: &io::Error) -> StoreErrorKind {
    match Errno::from_io_error(cause) {
        Some(
            Errno::NOSPC
            | Errno::DQUOT
            | Errno::IO
            | Errno::ROFS
            | Errno::STALE
            | Errno::NOMEM
            | Errno::NFILE
            | Errno::MFILE
            | Errno::NOLCK
            | Errno::TIMEDOUT
            | Errno::INTR
            | Errno::AGAIN
            | Errno::NODEV
            | Errno::NXIO
            | Errno::NOENT,
        ) => StoreErrorKind::Unavailable,
        // A limit of the file system or of this process (`ulimit -f`).
        Some(Errno::FBIG) => StoreErrorKind::TooLarge,
        _ => StoreErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn a_full_disk_may_have_room_again_and_a_forbidden_folder_stays_forbidden() {
        for (errno, kind) in [
            (Errno::NOSPC, StoreErrorKind::Unavailable),
            (Errno::DQUOT, StoreErrorKind::Unavailable),
            (Errno::IO, StoreErrorKind::Unavailable),
            (Errno::FBIG, StoreErrorKind::TooLarge),
            (Errno::ACCESS, StoreErrorKind::Other),
        ] {
            let error = failed("writing a record")(errno);
            assert_eq!(error.kind(), kind, "{errno}");
            assert_eq!(error.source().unwrap().to_string(), "writing a record");
        }
    }
}
