//! Bringing one session from one store into another.

use std::{cmp::Ordering, error::Error, time::SystemTime};

use tower_keep::{
    Created, Record, SessionStore, StoreError, StoreErrorKind, StoredSession, Timestamp, Updated,
};

use crate::output::complain;

/// What is done with each session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Write,
    /// And reads it back.
    Verify,
    /// Only looks what is there.
    DryRun,
}

/// What became of a session, or would become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    /// It was there in an older state.
    Updated,
    /// It was there in the same state.
    Present,
    /// It is there in a newer state, or in another one of the same age, and stays.
    LeftAlone,
    /// It has expired meanwhile.
    Expired,
    /// The destination does not take it.
    Failed,
    /// Read back, it is not what was written.
    Different,
}

/// Puts a session into a store, unless it is there already in that state or a newer one.
///
/// # Errors
///
/// If the store cannot be reached, or refuses not only this session.
pub(super) async fn carry_over(
    to: &impl SessionStore,
    session: &StoredSession,
    mode: Mode,
) -> Result<Outcome, StoreError> {
    let carried = match mode {
        Mode::DryRun => compare(to, session).await,
        Mode::Write => write(to, session).await,
        Mode::Verify => match write(to, session).await {
            Ok(Outcome::LeftAlone) => Ok(Outcome::LeftAlone),
            Ok(Outcome::Expired) => Ok(Outcome::Expired),
            Ok(written) => verify(to, session, written).await,
            Err(error) => Err(error),
        },
    };
    match carried {
        Err(error) if is_of_this_one(&error) => {
            let cause = error.source().map(|cause| format!(": {cause}"));
            let cause = cause.unwrap_or_default();
            complain(format!("{}: {error}{cause}", session.id.to_hex()));
            Ok(Outcome::Failed)
        }
        carried => carried,
    }
}

fn is_of_this_one(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        StoreErrorKind::TooLarge | StoreErrorKind::Corrupt | StoreErrorKind::Unsupported
    )
}

async fn write(to: &impl SessionStore, session: &StoredSession) -> Result<Outcome, StoreError> {
    let StoredSession { id, record } = session;
    let mut is_refused = false;
    for _ in 0..ATTEMPTS_MAX {
        if record.is_expired(now()) {
            return Ok(Outcome::Expired);
        }
        // Not `create` first: it answers the same where this very state of the session is there already, whatever
        // its deadline is.
        let Some(there) = to.load(id).await? else {
            match to.create(id, record).await? {
                Created::Done => return Ok(Outcome::Created),
                // One has ended there, or moved on, and is remembered for a while.
                Created::Exists if is_refused => return Ok(Outcome::LeftAlone),
                // Or somebody else has put one there between the two calls.
                Created::Exists => {
                    is_refused = true;
                    continue;
                }
            }
        };
        let written = match Standing::of(record, &there) {
            Standing::Same => return Ok(Outcome::Present),
            Standing::Newer => return Ok(Outcome::LeftAlone),
            Standing::EarlierDeadline => to.touch(id, record.expires_at, record.version).await?,
            Standing::Older => {
                let updated = to.update(id, record, there.version).await?;
                matches!(updated, Updated::Done)
            }
        };
        if written {
            return Ok(Outcome::Updated);
        }
    }
    let contended = "others go on changing the same session";
    Err(StoreError::new(
        "copy",
        StoreErrorKind::Unavailable,
        contended,
    ))
}

async fn compare(to: &impl SessionStore, session: &StoredSession) -> Result<Outcome, StoreError> {
    let there = to.load(&session.id).await?;
    Ok(
        match there.map(|there| Standing::of(&session.record, &there)) {
            None => Outcome::Created,
            Some(Standing::Same) => Outcome::Present,
            Some(Standing::EarlierDeadline | Standing::Older) => Outcome::Updated,
            Some(Standing::Newer) => Outcome::LeftAlone,
        },
    )
}

async fn verify(
    to: &impl SessionStore,
    session: &StoredSession,
    written: Outcome,
) -> Result<Outcome, StoreError> {
    let StoredSession { id, record } = session;
    let is_same = match to.load(id).await? {
        Some(there) if there.version == record.version => is_copy(record, there),
        // It has been written since.
        Some(there) => Standing::of(record, &there) == Standing::Newer,
        None if record.is_expired(now()) => return Ok(Outcome::Expired),
        None => false,
    };
    if is_same {
        return Ok(written);
    }
    complain(format!("{}: read back, it is not the same", id.to_hex()));
    Ok(Outcome::Different)
}

/// Byte for byte, but for a deadline that a touch has moved later.
fn is_copy(record: &Record, there: Record) -> bool {
    there.expires_at >= record.expires_at
        && Record {
            expires_at: record.expires_at,
            ..there
        }
        .to_bytes()
            == record.to_bytes()
}

/// How what is in the destination stands to what is in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Same,
    /// The same, but for a touch that it has not had.
    EarlierDeadline,
    Older,
    /// Or another one of the same age.
    Newer,
}

impl Standing {
    fn of(record: &Record, there: &Record) -> Self {
        match there.version.revision.cmp(&record.version.revision) {
            Ordering::Less => Self::Older,
            Ordering::Greater => Self::Newer,
            Ordering::Equal if there.version != record.version => Self::Newer,
            Ordering::Equal if there.expires_at < record.expires_at => Self::EarlierDeadline,
            Ordering::Equal => Self::Same,
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Each is lost only to somebody else's write.
const ATTEMPTS_MAX: u32 = 16;
