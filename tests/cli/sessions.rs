//! Sessions whose ids, users and times are known beforehand.

use tower_keep::{Record, RecordId, StoredSession, Timestamp, UserId, Version, WriteToken};

/// Two of Ada's and one of nobody's.
pub fn three() -> [StoredSession; 3] {
    let basket = [("basket", "[7,9]"), ("name", r#""Ada Lovelace""#)];
    [
        session(0x11, Some("ada"), &basket),
        session(0x22, Some("ada"), &[("basket", "[]")]),
        session(0x33, None, &[]),
    ]
}

/// The ids of the three.
pub fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn session(byte: u8, user: Option<&str>, data: &[(&str, &str)]) -> StoredSession {
    let minutes = i64::from(byte) * 60_000;
    StoredSession {
        id: RecordId::from_bytes([byte; 32]),
        record: Record {
            version: version(1, byte),
            user: user.map(|user| UserId::new(user).unwrap()),
            created_at: Timestamp::from_millis(NEW_YEAR_2026 + minutes),
            expires_at: Timestamp::from_millis(NEW_YEAR_2090 + minutes),
            absolute_deadline: Timestamp::from_millis(NEW_YEAR_2091),
            payload: payload(data).into(),
        },
    }
}

/// As many as one likes, with different users, sizes and times.
pub fn many(count: u32) -> impl Iterator<Item = StoredSession> {
    (0..count).map(|number| {
        let text = format!("\"{}\"", "x".repeat(number as usize % 300));
        let user = format!("user {}", number / 3);
        let data: [(&str, &str); 1] = [("text", &text)];
        let user = (!number.is_multiple_of(4)).then_some(&*user);
        let mut session = session(7, user, &data);
        // Spread like a hash, and each another one.
        let spread = number.wrapping_mul(0x9E37_79B1).to_be_bytes();
        let mut id = [0; RecordId::LEN];
        id[..4].copy_from_slice(&spread);
        session.id = RecordId::from_bytes(id);
        session
    })
}

pub fn version(revision: u64, token: u8) -> Version {
    Version {
        revision,
        token: WriteToken::from_bytes([token; WriteToken::LEN]),
    }
}

/// The table that the layer keeps, with its keys in ascending order.
fn payload(data: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&[0; 9]);
    bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    let (mut keys, mut values) = (String::new(), String::new());
    for (key, value) in data {
        keys += key;
        values += value;
        for end in [keys.len(), values.len()] {
            bytes.extend_from_slice(&u32::try_from(end).unwrap().to_le_bytes());
        }
    }
    bytes.extend_from_slice(keys.as_bytes());
    bytes.extend_from_slice(values.as_bytes());
    bytes
}

/// In milliseconds since the epoch.
pub const NEW_YEAR_2026: i64 = 1_767_225_600_000;
pub const NEW_YEAR_2090: i64 = 3_786_912_000_000;
pub const NEW_YEAR_2091: i64 = 3_818_448_000_000;
