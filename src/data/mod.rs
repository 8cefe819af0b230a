//! The data of a session: what the store had, what this request has changed, and how the changes
//! are made again over a newer record.

mod stored;
mod table;
mod value;

use std::{cmp::Ordering, fmt, iter, sync::Arc};

pub(crate) use stored::parse;
pub(crate) use table::Table;
pub use value::Entry;
pub(crate) use value::{decode, encode};

use crate::{
    error::{Error, ErrorKind},
    expiry::Expiry,
    record::Payload,
};

/// A record's table with this request's changes over it.
///
/// The data and the record of its change are changed by [`set`](Self::set),
/// [`clear`](Self::clear) and [`set_rule`](Self::set_rule), and nowhere else; at the end
/// [`forget_replays`](Self::forget_replays) lets go of how the changes came about.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    base: Table,
    /// Whether all of `base` is to be forgotten, its rule included.
    cleared: bool,
    rule: Option<RuleChange>,
    /// In ascending order of the keys, each once.
    changes: Vec<Change>,
    /// Bytes that all of this takes when written.
    encoded_len: usize,
    /// Bytes of the changes that were recorded though they changed nothing.
    in_vain: usize,
    limit: usize,
}

/// What a key is to hold at the end.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    key: Box<str>,
    /// `None` removes the key.
    value: Option<Payload>,
    /// Whether that is not what the base has.
    differs: bool,
    replay: Replay,
}

/// How a change is made again over a newer record.
#[derive(Clone)]
pub(crate) enum Replay {
    /// The same value, whatever is there.
    Value,
    /// This function of whatever is there, and then these.
    Updates(UpdateFn, Vec<UpdateFn>),
}

/// A function from the old value of a key to the new one.
pub(crate) type UpdateFn = Arc<dyn Fn(Option<&Payload>) -> Result<Payload, Error> + Send + Sync>;

#[derive(Clone, Copy, Debug)]
struct RuleChange(Option<Expiry>);

impl Data {
    pub(crate) fn new(base: Table, limit: usize) -> Self {
        Self {
            encoded_len: base.encoded_len(),
            base,
            cleared: false,
            rule: None,
            changes: Vec::new(),
            in_vain: 0,
            limit,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Payload> {
        match self.find(key) {
            Ok(index) => self.changes[index].value.clone(),
            Err(_) if self.cleared => None,
            Err(_) => self.base.get(key),
        }
    }

    pub(crate) fn contains_key(&self, key: &str) -> bool {
        self.get_bytes(key).is_some()
    }

    pub(crate) fn rule(&self) -> Option<Expiry> {
        match self.rule {
            Some(RuleChange(rule)) => rule,
            None if self.cleared => None,
            None => self.base.rule(),
        }
    }

    /// All entries in ascending order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        let base = if self.cleared { 0 } else { self.base.len() };
        let mut base = self.base.iter().take(base).peekable();
        let mut changes = self.changes.iter().peekable();
        iter::from_fn(move || {
            loop {
                let order = match (base.peek(), changes.peek()) {
                    (Some((key, _)), Some(change)) => (*key).cmp(&change.key),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => return None,
                };
                if order == Ordering::Less {
                    return base.next();
                }
                if order == Ordering::Equal {
                    base.next();
                }
                if let Some(change) = changes.next()
                    && let Some(value) = &change.value
                {
                    return Some((&*change.key, value.as_bytes()));
                }
            }
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        let base = if self.cleared { 0 } else { self.base.len() };
        // A change without a value takes away a key of the base, each another.
        let removed = |change: &Change| change.removes() && change.differs;
        let empty = self.changes.iter().all(Change::removes)
            && self.changes.iter().filter(|change| removed(change)).count() == base;
        debug_assert_eq!(empty, self.iter().next().is_none());
        empty
    }

    /// Whether what is to be stored differs from what the store had.
    pub(crate) fn is_changed(&self) -> bool {
        let cleared = self.cleared && (self.base.len() > 0 || self.base.rule().is_some());
        cleared || self.rule.is_some() || self.changes.iter().any(|change| change.differs)
    }

    pub(crate) fn is_rule_changed(&self) -> bool {
        self.rule() != self.base.rule()
    }

    /// Puts a value under a key, or removes it. What the base has already is no change, but what is done to the key
    /// after it begins from there.
    ///
    /// Returns what need not be replayed any more, to be dropped where no lock is held: it may have
    /// functions of the application.
    pub(crate) fn set(
        &mut self,
        key: &str,
        value: Option<Payload>,
        replay: Replay,
    ) -> Result<Option<Replay>, Error> {
        let found = self.find(key);
        let new = value.as_ref().map(Payload::as_bytes);
        let present = self.get_bytes(key);
        let cost = |value: Option<&[u8]>| {
            value.map_or(0, |value| Table::ENTRY_LEN + key.len() + value.len())
        };
        let encoded_len = self.encoded_len - cost(present) + cost(new);
        if encoded_len > self.limit && encoded_len > self.encoded_len {
            return Err(too_large());
        }
        let differs = new != self.base_bytes(key);
        let takes_room = match found {
            Ok(index) => {
                let change = &self.changes[index];
                change.differs || (change.replay.is_update() && replay.is_update())
            }
            Err(_) => true,
        };
        let is_in_vain = takes_room && !differs;
        if is_in_vain {
            self.in_vain = self.in_vain.saturating_add(Table::ENTRY_LEN + key.len());
        }
        // Who does so much in vain is not remembered any more: it would have no bound.
        let is_forgotten = is_in_vain && self.in_vain > self.limit;
        let displaced = match found {
            Ok(index) if is_forgotten => {
                let mut change = self.changes.remove(index);
                let displaced = change.replay.then(replay);
                displaced.or(Some(change.replay))
            }
            Err(_) if is_forgotten => Some(replay),
            Ok(index) => {
                let change = &mut self.changes[index];
                change.value = value;
                change.differs = differs;
                change.replay.then(replay)
            }
            Err(index) => {
                let change = Change {
                    key: key.into(),
                    value,
                    differs,
                    replay,
                };
                self.changes.insert(index, change);
                None
            }
        };
        self.encoded_len = encoded_len;
        debug_assert_eq!(self.encoded_len, self.measure());
        Ok(displaced)
    }

    /// Forgets everything, the expiry rule included, and what others may store meanwhile. Returns
    /// the changes so far, as [`set`](Self::set) does.
    pub(crate) fn clear(&mut self) -> Vec<Change> {
        self.cleared = true;
        self.rule = None;
        self.encoded_len = Table::HEADER_LEN;
        self.in_vain = 0;
        std::mem::take(&mut self.changes)
    }

    pub(crate) fn set_rule(&mut self, rule: Option<Expiry>) {
        let base = if self.cleared { None } else { self.base.rule() };
        self.rule = (rule != base).then_some(RuleChange(rule));
    }

    /// The payload to store.
    pub(crate) fn encode(&self) -> Result<Payload, Error> {
        let mut entries = Vec::with_capacity(self.base.len() + self.changes.len());
        entries.extend(self.iter());
        Table::encode(self.rule(), &entries).ok_or(Error::new(
            ErrorKind::TooLarge,
            "the session would outgrow its format",
        ))
    }

    /// The same changes made over a newer record.
    ///
    /// A value that was put or removed is put or removed again; an update runs again on what the
    /// newer record holds; keys that this request did not change are as in the newer record.
    pub(crate) fn replayed_over(&self, newer: Table) -> Result<Self, Error> {
        // On the way it may be larger than it is in the end.
        let mut next = Self::new(newer, usize::MAX);
        if self.cleared {
            next.clear();
        }
        if let Some(RuleChange(rule)) = self.rule {
            next.set_rule(rule);
        }
        for change in self.changes.iter().filter(|change| change.differs) {
            let Change {
                key, value, replay, ..
            } = change;
            let value = match replay {
                Replay::Value => value.clone(),
                Replay::Updates(first, more) => {
                    let mut value = next.get(key);
                    for update in iter::once(first).chain(more) {
                        value = Some(update(value.as_ref())?);
                    }
                    value
                }
            };
            next.set(key, value, replay.clone())?;
        }
        next.limit = self.limit;
        match next.outgrows(next.base.encoded_len()) {
            true => Err(too_large()),
            false => Ok(next),
        }
    }

    /// Whether changes have functions of the application.
    pub(crate) fn has_replays(&self) -> bool {
        self.changes.iter().any(|change| change.replay.is_update())
    }

    /// From now on the values are all that is known of the changes. Returns the functions, as [`set`](Self::set) does.
    pub(crate) fn forget_replays(&mut self) -> Vec<Replay> {
        let replays = self.changes.iter_mut().map(|change| &mut change.replay);
        let updates = replays.filter(|replay| replay.is_update());
        updates
            .map(|replay| std::mem::replace(replay, Replay::Value))
            .collect()
    }

    /// Whether it is over the limit, and larger than it was: what is too large may still shrink.
    fn outgrows(&self, before: usize) -> bool {
        self.encoded_len > self.limit && self.encoded_len > before
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.changes
            .binary_search_by(|change| (*change.key).cmp(key))
    }

    fn get_bytes(&self, key: &str) -> Option<&[u8]> {
        match self.find(key) {
            Ok(index) => self.changes[index].value.as_ref().map(Payload::as_bytes),
            Err(_) => self.base_bytes(key),
        }
    }

    fn base_bytes(&self, key: &str) -> Option<&[u8]> {
        match self.cleared {
            true => None,
            false => self.base.get_bytes(key),
        }
    }

    fn measure(&self) -> usize {
        let entry = |(key, value): (&str, &[u8])| Table::ENTRY_LEN + key.len() + value.len();
        Table::HEADER_LEN + self.iter().map(entry).sum::<usize>()
    }
}

const fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge, "the session would outgrow its limit")
}

impl Change {
    const fn removes(&self) -> bool {
        self.value.is_none()
    }
}

impl Replay {
    const fn is_update(&self) -> bool {
        matches!(self, Self::Updates(..))
    }

    /// What replays this change and then another of the same key. Returns what that is without.
    fn then(&mut self, next: Self) -> Option<Self> {
        match (&mut *self, next) {
            // A value that was put and then updated is known: it is put again as it came out.
            (Self::Value, next) => Some(next),
            (_, Self::Value) => Some(std::mem::replace(self, Self::Value)),
            (Self::Updates(_, updates), Self::Updates(first, more)) => {
                updates.push(first);
                updates.extend(more);
                None
            }
        }
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value => f.write_str("Value"),
            Self::Updates(_, more) => write!(f, "Updates({})", 1 + more.len()),
        }
    }
}

#[cfg(test)]
mod tests;
