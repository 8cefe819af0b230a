//! A session as a row.

use super::dialect::{Dialect, Value};
use crate::{
    id::{RecordId, WriteToken},
    record::{Payload, Record, Version},
    store::StoredSession,
    timestamp::Timestamp,
    user::UserId,
};

/// All columns but the id, in the order of the statements.
pub(super) fn values(record: &Record) -> [Value<'_>; 7] {
    let [revision, token] = version_values(&record.version);
    [
        revision,
        token,
        Value::Text(record.user.as_ref().map(UserId::as_str)),
        Value::Number(record.created_at.as_millis()),
        Value::Number(record.expires_at.as_millis()),
        Value::Number(record.absolute_deadline.as_millis()),
        Value::Bytes(record.payload.as_bytes()),
    ]
}

/// The columns that a write compares.
pub(super) fn version_values(version: &Version) -> [Value<'_>; 2] {
    [
        // Compared for being equal alone, so the sign does not matter.
        Value::Number(version.revision.cast_signed()),
        Value::Bytes(version.token.as_bytes()),
    ]
}

/// Reads all columns.
pub(super) fn read<Db: Dialect>(row: &Db::Row) -> Result<StoredSession, Unreadable> {
    let time = |column| Db::number(row, column).map(Timestamp::from_millis);
    let user = match Db::text(row, 3)? {
        None => None,
        Some(written) => Some(UserId::parse(written).ok_or(Unreadable::Damaged("user_id"))?),
    };
    let version = Version {
        revision: Db::number(row, 1)?.cast_unsigned(),
        token: WriteToken::from_bytes(fixed(Db::bytes(row, 2)?, "token")?),
    };
    Ok(StoredSession {
        id: read_id::<Db>(row)?,
        record: Record {
            version,
            user,
            created_at: time(4)?,
            expires_at: time(5)?,
            absolute_deadline: time(6)?,
            payload: Payload::from(Db::bytes(row, 7)?),
        },
    })
}

/// Reads the id, which comes first.
pub(super) fn read_id<Db: Dialect>(row: &Db::Row) -> Result<RecordId, Unreadable> {
    Ok(RecordId::from_bytes(fixed(Db::bytes(row, 0)?, "id")?))
}

/// Why a row is no session.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// A column holds something else than was written there.
    Damaged(&'static str),
    /// The table is not ours, or the driver failed.
    Driver(sqlx::Error),
}

/// A value that cannot be read is damage; a column that is not there is another table.
impl From<sqlx::Error> for Unreadable {
    fn from(error: sqlx::Error) -> Self {
        match matches!(error, sqlx::Error::ColumnDecode { .. }) {
            true => Self::Damaged("value"),
            false => Self::Driver(error),
        }
    }
}

fn fixed<const N: usize>(bytes: &[u8], column: &'static str) -> Result<[u8; N], Unreadable> {
    bytes.try_into().map_err(|_| Unreadable::Damaged(column))
}
