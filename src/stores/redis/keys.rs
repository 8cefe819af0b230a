//! The names of keys.

use std::{fmt, sync::Arc};

use data_encoding::BASE64URL_NOPAD;
use redis::{RedisWrite, ToRedisArgs};

use super::argument::write_one;
use crate::{id::RecordId, user::UserId};

/// What all keys of a store begin with.
#[derive(Clone, Debug)]
pub(super) struct Prefix(Arc<str>);

impl Default for Prefix {
    fn default() -> Self {
        Self::new("tower-keep")
    }
}

impl Prefix {
    pub(super) fn new(prefix: impl Into<String>) -> Self {
        Self(Arc::from(prefix.into()))
    }

    /// Of a session: `PREFIX:session:` and its id in base64url.
    pub(super) fn session(&self, id: &RecordId) -> Key<'_> {
        Key::new(self, SESSION, id)
    }

    /// Of the copy of a session: `PREFIX:cache:` and its id in base64url.
    pub(super) fn copy(&self, id: &RecordId) -> Key<'_> {
        Key::new(self, ":cache:", id)
    }

    /// The slot of a cluster that has the copy.
    pub(super) fn slot_of_copy(&self, id: &RecordId) -> u16 {
        let key = self.copy(id).to_string();
        // A part in braces stands for the whole.
        let tag = key
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        let hashed = tag.map_or(&*key, |(tag, _)| if tag.is_empty() { &key } else { tag });
        crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % SLOTS
    }

    /// Of a user's sessions: `PREFIX:user:` and the user.
    pub(super) fn user(&self, user: &UserId) -> String {
        format!("{}:user:{}", self.0, user.as_str())
    }

    /// The pattern that all sessions match, with what is special in a pattern escaped.
    pub(super) fn all_sessions(&self) -> String {
        let mut pattern = String::new();
        for character in self.sessions().chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern + "*"
    }

    /// The session that has that key, if it is one.
    pub(super) fn id_of(&self, key: &[u8]) -> Option<RecordId> {
        let written = key.strip_prefix(self.sessions().as_bytes())?;
        let bytes = BASE64URL_NOPAD.decode(written).ok()?;
        bytes.try_into().ok().map(RecordId::from_bytes)
    }

    /// What the keys of all sessions begin with.
    pub(super) fn sessions(&self) -> String {
        format!("{}{SESSION}", self.0)
    }
}

const SESSION: &str = ":session:";

/// The key of one session or copy, written into commands without a string of its own.
pub(super) struct Key<'a> {
    start: [&'a str; 2],
    id: [u8; ID_LEN],
}

impl<'a> Key<'a> {
    fn new(Prefix(prefix): &'a Prefix, kind: &'static str, id: &RecordId) -> Self {
        let mut written = [0; ID_LEN];
        BASE64URL_NOPAD.encode_mut(id.as_bytes(), &mut written);
        Self {
            start: [prefix, kind],
            id: written,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.start.map(str::len).iter().sum::<usize>() + ID_LEN
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [prefix, kind] = self.start;
        write!(f, "{prefix}{kind}{}", String::from_utf8_lossy(&self.id))
    }
}

impl ToRedisArgs for Key<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let [prefix, kind] = self.start.map(str::as_bytes);
        write_one([prefix, kind, &self.id], out);
    }
}

/// Of an id in base64url.
const ID_LEN: usize = (RecordId::LEN * 8).div_ceil(6);

/// Of each cluster.
const SLOTS: u16 = 16384;

#[cfg(test)]
mod tests {
    use redis::cluster_routing::Slot;

    use super::*;

    #[test]
    fn a_key_is_pinned_and_tells_its_session() {
        let id = RecordId::from_bytes([0xFB; RecordId::LEN]);
        let prefix = Prefix::default();
        let key = prefix.session(&id).to_string();
        assert_eq!(
            key,
            "tower-keep:session:-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s"
        );
        assert_eq!(prefix.id_of(key.as_bytes()), Some(id));
        assert_eq!(
            prefix.copy(&id).to_string(),
            "tower-keep:cache:-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s"
        );
        assert_eq!(prefix.id_of(b"tower-keep:user:ada"), None);
        assert_eq!(prefix.id_of(b"tower-keep:session:short"), None);
    }

    #[test]
    fn the_slot_of_a_copy_is_that_of_its_key() {
        for prefix in ["tower-keep", "{shop}", "a{b}{c}", "a{}{b}", "a{b", "a}b{c}"] {
            let prefix = Prefix::new(prefix);
            for byte in 0..=255 {
                let id = RecordId::from_bytes([byte; RecordId::LEN]);
                let slot = Slot::for_key(prefix.copy(&id).to_string());
                assert_eq!(Slot::new(prefix.slot_of_copy(&id)), Some(slot));
            }
        }
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        let pattern = Prefix::new("a*[b]?").all_sessions();
        assert_eq!(pattern, r"a\*\[b\]\?:session:*");
    }
}
