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
    /// It has left this store: the note's version.
    Left(Version),
}

impl Place {
    pub(super) fn of(record: Record) -> Self {
        let payload = record.payload.as_bytes();
        if payload == LEFT {
            return Self::Left(record.version);
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

/// The note that takes the place of a session.
pub(super) fn left(session: &Record, token: WriteToken) -> Record {
    Record {
        version: session.version.next(token),
        payload: Payload::from(LEFT),
        ..session.clone()
    }
}

const MOVING: &[u8] = b"\xfftower-keep moving";
const LEFT: &[u8] = b"\xfftower-keep left";
