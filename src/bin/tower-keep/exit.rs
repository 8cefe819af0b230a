//! How the program ends: its exit codes, and one line about an error.

use std::{io, process::ExitCode};

use tower_keep::{StoreError, StoreErrorKind};

use crate::output::complain;

/// What scripts can tell from the exit code. The numbers are documented, and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no: nothing of that kind is there, a check has failed, some records were left out.
    No = 1,
    /// The command line is wrong, an address among it, or a confirmation is missing.
    Usage = 2,
    /// The store cannot be reached, or not now.
    Unavailable = 3,
    /// The store says no: a missing table, a missing right, or it cannot do such a thing.
    Refused = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What the program itself has to object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    No(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Lacks(String),
    #[error("{0}")]
    Interrupted(String),
}

/// One line on standard error, and the exit code for it.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    complain(line(error));
    exit_of(error)
}

fn exit_of(error: &anyhow::Error) -> Exit {
    // Not through `chain`, which does not show the types of contexts.
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return match refusal {
            Refusal::No(_) => Exit::No,
            Refusal::Usage(_) => Exit::Usage,
            Refusal::Unavailable(_) => Exit::Unavailable,
            Refusal::Lacks(_) => Exit::Refused,
            Refusal::Interrupted(_) => Exit::Interrupted,
        };
    }
    match error.downcast_ref::<StoreError>() {
        Some(error) if error.kind() == StoreErrorKind::Unavailable => Exit::Unavailable,
        Some(_) => Exit::Refused,
        None => Exit::No,
    }
}

/// The error with its causes, but for those that it quotes already.
pub(crate) fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    if is_missing_table(&line) {
        line += "; run `tower-keep migrate`";
    }
    line.replace(['\n', '\r'], " ")
}

/// By the codes of PostgreSQL and MySQL, and by the words of SQLite, which has no code of its own for it.
fn is_missing_table(line: &str) -> bool {
    [
        "(code 42P01)",
        "(code 42S02)",
        "(code 1146)",
        "no such table",
    ]
    .iter()
    .any(|sign| line.contains(sign))
}

/// Of what only shows: who reads, as `head` does, has seen enough.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_nothing_twice() {
        let cause = io::Error::other("refused:\nby the server");
        let error = StoreError::new("postgres", StoreErrorKind::Unavailable, cause);
        let error = anyhow::Error::from(error).context("page 3");
        assert_eq!(
            line(&error),
            "page 3: postgres: the store is unavailable: refused: by the server"
        );
        assert_eq!(exit_of(&error), Exit::Unavailable);
    }

    #[test]
    fn a_missing_table_tells_what_to_run() {
        let cause = "relation \"tower_keep_sessions\" does not exist (code 42P01)";
        let error = StoreError::new("postgres", StoreErrorKind::Other, cause);
        let error = anyhow::Error::from(error);
        assert!(line(&error).ends_with("; run `tower-keep migrate`"));
        assert_eq!(exit_of(&error), Exit::Refused);
    }
}
