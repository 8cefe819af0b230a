//! What a record in one of the two stores says about where its session is.
//!
//! Copies and notes have the user and the deadlines of their session, so that they are found and expire with it. They are told from
//! sessions by how their payload begins, as no session's does: that of a session begins with its format, a small number.

use crate::{
    id::WriteToken,
    record::{Payload, Record, Version},
};

/// Where a session is.
#[derive(Debug)]
pub(super) enum Place {
    /// In this store, as any session.
    Here(Record),
    /// On its way into this store: the copy's version, and the session that it is to become.
    Moving { copy: Version, session: Record },
    /// It has left this store: the note's version, and the token of the copy that it has left for.
    Left { note: Version, copy: WriteToken },
}

impl Place {
    pub(super) fn of(record: Record) -> Self {
        let payload = record.payload.as_bytes();
        let left = payload.strip_prefix(LEFT);
        if let Some(copy) = left.and_then(|rest| rest.try_into().ok()) {
            return Self::Left {
                note: record.version,
                copy: WriteToken::from_bytes(copy),
            };
        }
        let moving = payload.strip_prefix(MOVING);
        let Some((token, rest)) = moving.and_then(<[u8]>::split_first_chunk) else {
            return Self::Here(record);
        };
        let start = payload.len() - rest.len();
        Self::Moving {
            copy: record.version,
            session: Record {
                version: record.version.next(WriteToken::from_bytes(*token)),
                payload: record.payload.slice(start..payload.len()),
                ..record
            },
        }
    }
}

/// The copy of a session. Its revision is one below the session's, so that the session follows it as any change follows
/// what was there.
pub(super) fn moving(session: &Record, token: WriteToken) -> Record {
    let Version {
        revision,
        token: original,
    } = session.version;
    let parts = [MOVING, original.as_bytes(), session.payload.as_bytes()];
    Record {
        version: Version {
            revision: revision.saturating_sub(1),
            token,
        },
        payload: Payload::from(parts.concat()),
        ..session.clone()
    }
}

/// The note that takes the place of a session that leaves for a copy.
///
/// It names the copy: one that somebody makes later, because he has seen the session before it left, is not to be taken for it.
pub(super) fn left(session: &Record, copy: WriteToken, token: WriteToken) -> Record {
    let parts = [LEFT, copy.as_bytes()];
    Record {
        version: session.version.next(token),
        payload: Payload::from(parts.concat()),
        ..session.clone()
    }
}

const MOVING: &[u8] = b"\xfftower-keep moving";
const LEFT: &[u8] = b"\xfftower-keep left";
