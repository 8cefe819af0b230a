//! The names of keys.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;

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
    pub(super) fn session(&self, id: &RecordId) -> String {
        Self::with_id(self.sessions(), id)
    }

    /// Of the copy of a session: `PREFIX:cache:` and its id in base64url.
    pub(super) fn copy(&self, id: &RecordId) -> String {
        Self::with_id(self.family(":cache:"), id)
    }

    /// The slot of a cluster that has the copy.
    pub(super) fn slot_of_copy(&self, id: &RecordId) -> u16 {
        let key = self.copy(id);
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
        self.family(":session:")
    }

    /// The start of all keys of that kind, with room for an id.
    fn family(&self, kind: &str) -> String {
        const ID_LEN: usize = 43;
        let mut start = String::with_capacity(self.0.len() + kind.len() + ID_LEN);
        start.push_str(&self.0);
        start.push_str(kind);
        start
    }

    fn with_id(mut start: String, id: &RecordId) -> String {
        BASE64URL_NOPAD.encode_append(id.as_bytes(), &mut start);
        start
    }
}

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
        let key = prefix.session(&id);
        assert_eq!(
            key,
            "tower-keep:session:-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s"
        );
        assert_eq!(prefix.id_of(key.as_bytes()), Some(id));
        assert_eq!(
            prefix.copy(&id),
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
                let slot = Slot::for_key(prefix.copy(&id));
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
