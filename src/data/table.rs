//! The payload of a record: an envelope around a table of keys and values.
//!
//! ```text
//! byte 0        format, at present 1
//! byte 1        expiry rule: 0 none, 1 idle, 2 at, 3 browser close
//! bytes 2-9     of the rule: milliseconds of idle time, or milliseconds since the epoch
//! bytes 10-13   number of entries n
//! then n times  end of the key (4 bytes), end of the value (4 bytes)
//! then          all keys, UTF-8, in ascending order and each once
//! then          all values, each a JSON text
//! ```
//!
//! Numbers are little-endian. Ends count from the start of the keys and of the values, and the
//! last ones are where the areas end, so that every byte belongs to something. One key of many is
//! found by bisection and costs the decoding of one value.

use std::time::{Duration, SystemTime};

use crate::{
    expiry::Expiry,
    record::{Payload, RecordError},
    timestamp::Timestamp,
};

/// A payload whose structure has been checked once, so that reading it cannot fail.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    payload: Payload,
    rule: Option<Expiry>,
    count: usize,
}

impl Table {
    /// Bytes of a payload without any entry.
    pub(crate) const HEADER_LEN: usize = 14;

    /// Bytes of an entry besides its key and its value.
    pub(crate) const ENTRY_LEN: usize = 8;

    /// The table of a session that holds nothing.
    pub(crate) fn empty() -> Self {
        Self {
            payload: Payload::default(),
            rule: None,
            count: 0,
        }
    }

    /// Checks a payload from a store, whoever may have written it.
    pub(crate) fn parse(payload: Payload) -> Result<Self, RecordError> {
        let bytes = payload.as_bytes();
        match bytes.first() {
            Some(&FORMAT) => {}
            None | Some(0) => return Err(RecordError::Corrupt),
            Some(_) => return Err(RecordError::Unsupported),
        }
        let (&[_, rule, r0, r1, r2, r3, r4, r5, r6, r7, c0, c1, c2, c3], rest) = bytes
            .split_first_chunk::<{ Self::HEADER_LEN }>()
            .ok_or(RecordError::Corrupt)?;
        let rule = parse_rule(rule, u64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]))?;
        let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
        check_entries(rest, count).ok_or(RecordError::Corrupt)?;
        Ok(Self {
            payload,
            rule,
            count,
        })
    }

    /// Writes a table of entries in ascending order of their keys.
    ///
    /// `None` if an area would outgrow the 4 bytes of its ends, which the layer's limit on the
    /// size of a record prevents.
    pub(crate) fn encode(rule: Option<Expiry>, entries: &[(&str, &[u8])]) -> Option<Payload> {
        let entry = |(key, value): &(&str, &[u8])| Self::ENTRY_LEN + key.len() + value.len();
        let size = Self::HEADER_LEN + entries.iter().map(entry).sum::<usize>();
        let mut bytes = Vec::with_capacity(size);
        let (tag, number) = rule_parts(rule);
        bytes.extend_from_slice(&[FORMAT, tag]);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(entries.len()).ok()?.to_le_bytes());
        let mut ends = (0, 0);
        for (key, value) in entries {
            ends.0 += key.len();
            ends.1 += value.len();
            bytes.extend_from_slice(&u32::try_from(ends.0).ok()?.to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(ends.1).ok()?.to_le_bytes());
        }
        for (key, _) in entries {
            bytes.extend_from_slice(key.as_bytes());
        }
        for (_, value) in entries {
            bytes.extend_from_slice(value);
        }
        debug_assert_eq!(bytes.len(), size, "one allocation, exactly filled");
        Some(bytes.into())
    }

    #[cfg(test)]
    pub(crate) fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The session's own expiry rule.
    pub(crate) fn rule(&self) -> Option<Expiry> {
        self.rule
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of the payload when written.
    pub(crate) fn encoded_len(&self) -> usize {
        self.payload.len().max(Self::HEADER_LEN)
    }

    /// The JSON text of a key, sharing the payload's memory.
    pub(crate) fn get(&self, key: &str) -> Option<Payload> {
        self.find(key)
            .map(|index| self.payload.slice(self.value_range(index)))
    }

    pub(crate) fn get_bytes(&self, key: &str) -> Option<&[u8]> {
        self.find(key)
            .map(|index| &self.payload.as_bytes()[self.value_range(index)])
    }

    /// All entries in ascending order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        let bytes = self.payload.as_bytes();
        let (table, areas) = bytes.split_at(bytes.len().min(self.areas_start()));
        let (keys, values) = areas.split_at(self.ends_before(self.count).0);
        // Checked once for all: that is cheaper than key by key.
        let keys = str::from_utf8(keys).unwrap_or_default();
        let mut start = (0, 0);
        (0..self.count).map(move |index| {
            let end = read_ends(&table[Self::HEADER_LEN..], index);
            let entry = (&keys[start.0..end.0], &values[start.1..end.1]);
            start = end;
            entry
        })
    }

    fn find(&self, key: &str) -> Option<usize> {
        let mut low = 0;
        let mut high = self.count;
        while low < high {
            let middle = low.midpoint(high);
            match self.key_bytes(middle).cmp(key.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    fn key_bytes(&self, index: usize) -> &[u8] {
        let start = self.ends_before(index).0;
        let end = self.ends_before(index + 1).0;
        let keys = self.areas_start();
        &self.payload.as_bytes()[keys + start..keys + end]
    }

    fn value_range(&self, index: usize) -> std::ops::Range<usize> {
        let start = self.ends_before(index).1;
        let end = self.ends_before(index + 1).1;
        let keys = self.ends_before(self.count).0;
        let values = self.areas_start() + keys;
        values + start..values + end
    }

    /// Where the ends end and the keys begin.
    fn areas_start(&self) -> usize {
        Self::HEADER_LEN + self.count * Self::ENTRY_LEN
    }

    /// Where the first `index` keys and values end.
    fn ends_before(&self, index: usize) -> (usize, usize) {
        match index {
            0 => (0, 0),
            _ => read_ends(&self.payload.as_bytes()[Self::HEADER_LEN..], index - 1),
        }
    }
}

fn read_ends(table: &[u8], index: usize) -> (usize, usize) {
    let start = index * Table::ENTRY_LEN;
    match table.get(start..start + Table::ENTRY_LEN) {
        Some(&[k0, k1, k2, k3, v0, v1, v2, v3]) => (
            u32::from_le_bytes([k0, k1, k2, k3]) as usize,
            u32::from_le_bytes([v0, v1, v2, v3]) as usize,
        ),
        _ => (0, 0),
    }
}

/// Whether the ends never step back, both areas are filled to the last byte, and the keys are
/// UTF-8 and strictly ascending.
fn check_entries(rest: &[u8], count: usize) -> Option<()> {
    let (table, areas) = rest.split_at_checked(count.checked_mul(Table::ENTRY_LEN)?)?;
    let (keys_len, values_len) = match count {
        0 => (0, 0),
        _ => read_ends(table, count - 1),
    };
    if areas.len() != keys_len.checked_add(values_len)? {
        return None;
    }
    let keys = str::from_utf8(areas.get(..keys_len)?).ok()?;
    let mut previous: Option<&str> = None;
    let mut start = (0, 0);
    for index in 0..count {
        let end = read_ends(table, index);
        let key = keys.get(start.0..end.0)?;
        if end.1 < start.1 || end.1 > values_len || previous.is_some_and(|before| before >= key) {
            return None;
        }
        previous = Some(key);
        start = end;
    }
    Some(())
}

fn parse_rule(tag: u8, number: u64) -> Result<Option<Expiry>, RecordError> {
    match (tag, number) {
        (0, 0) => Ok(None),
        (1, millis) => Ok(Some(Expiry::Idle(Duration::from_millis(millis)))),
        (2, millis) => {
            let millis = i64::try_from(millis).map_err(|_| RecordError::Corrupt)?;
            Ok(Some(Expiry::At(Timestamp::from_millis(millis).into())))
        }
        (3, 0) => Ok(Some(Expiry::BrowserClose)),
        _ => Err(RecordError::Corrupt),
    }
}

fn rule_parts(rule: Option<Expiry>) -> (u8, u64) {
    match rule {
        None => (0, 0),
        Some(Expiry::Idle(idle)) => (1, u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
        Some(Expiry::At(end)) => (2, millis_since_epoch(end)),
        Some(Expiry::BrowserClose) => (3, 0),
    }
}

fn millis_since_epoch(time: SystemTime) -> u64 {
    u64::try_from(Timestamp::from(time).as_millis()).unwrap_or(0)
}

const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Entries = BTreeMap<String, Vec<u8>>;

    fn encode(rule: Option<Expiry>, entries: &Entries) -> Payload {
        let entries: Vec<_> = entries
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_slice()))
            .collect();
        Table::encode(rule, &entries).unwrap()
    }

    fn rules() -> impl Strategy<Value = Option<Expiry>> {
        prop_oneof![
            Just(None),
            Just(Some(Expiry::BrowserClose)),
            any::<u64>().prop_map(|ms| Some(Expiry::Idle(Duration::from_millis(ms)))),
            (0..1_i64 << 50).prop_map(|ms| Some(Expiry::At(Timestamp::from_millis(ms).into()))),
        ]
    }

    fn entries() -> impl Strategy<Value = Entries> {
        prop::collection::btree_map(".{0,12}", prop::collection::vec(any::<u8>(), 0..30), 0..20)
    }

    #[test]
    fn the_format_is_pinned_because_every_stored_session_depends_on_it() {
        let entries = Entries::from([("a".into(), b"1".to_vec()), ("bc".into(), b"[]".to_vec())]);
        let rule = Some(Expiry::Idle(Duration::from_millis(0x0102)));
        let expected = b"\x01\x01\x02\x01\0\0\0\0\0\0\x02\0\0\0\
            \x01\0\0\0\x01\0\0\0\x03\0\0\0\x03\0\0\0abc1[]";
        assert_eq!(encode(rule, &entries).as_bytes(), expected);
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let parse = |bytes: &[u8]| Table::parse(bytes.into()).map(|table| table.len());
        assert_eq!(parse(&[2; 40]), Err(RecordError::Unsupported));
        assert_eq!(parse(&[0; 40]), Err(RecordError::Corrupt));
        assert_eq!(parse(&[]), Err(RecordError::Corrupt));
    }

    #[test]
    fn keys_out_of_order_twice_or_not_utf8_are_corrupt() {
        let swap = |from: &[u8], to: &[u8]| {
            let entries = Entries::from([("ab".into(), vec![b'1']), ("cd".into(), vec![b'2'])]);
            let mut bytes = encode(None, &entries).as_bytes().to_vec();
            let at = bytes.windows(4).position(|keys| keys == from).unwrap();
            bytes[at..at + 4].copy_from_slice(to);
            Table::parse(bytes.into()).map(|table| table.len())
        };
        assert_eq!(swap(b"abcd", b"abce"), Ok(2));
        assert_eq!(swap(b"abcd", b"abab"), Err(RecordError::Corrupt));
        assert_eq!(swap(b"abcd", b"abaa"), Err(RecordError::Corrupt));
        assert_eq!(swap(b"abcd", b"ab\xff\xff"), Err(RecordError::Corrupt));
    }

    proptest! {
        #[test]
        fn a_table_survives_being_written_and_read(rule in rules(), entries in entries()) {
            let table = Table::parse(encode(rule, &entries)).unwrap();
            prop_assert_eq!(table.rule(), rule);
            let read: Entries = table.iter().map(|(k, v)| (k.into(), v.into())).collect();
            prop_assert_eq!(&read, &entries);
            for (key, value) in &entries {
                prop_assert_eq!(table.get_bytes(key), Some(value.as_slice()));
            }
            prop_assert_eq!(table.get_bytes("a key that is not there"), None);
        }

        #[test]
        fn hostile_bytes_never_panic_and_what_parses_is_written_the_same_way(
            entries in entries(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encode(None, &entries).as_bytes().to_vec();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let whole = bytes.len();
            bytes.truncate(cut.index(whole * 2).max(1));
            if let Ok(table) = Table::parse(bytes.clone().into()) {
                let again = Table::encode(table.rule(), &table.iter().collect::<Vec<_>>()).unwrap();
                prop_assert_eq!(again.as_bytes(), &bytes);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = 1;
            }
            if let Ok(table) = Table::parse(bytes.into()) {
                prop_assert_eq!(table.iter().count(), table.len());
            }
        }
    }
}
