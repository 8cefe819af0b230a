//! Copies that a cache could not be told to let go of.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use tokio::time::Instant;

use super::breaker::Breakers;
use crate::{id::RecordId, record::Record, user::UserId};

/// The removals that are owed to a cache. Until one is paid, this process does not ask the cache for that id.
#[derive(Debug, Default)]
pub(super) struct Debts {
    /// Whether there are any, to be asked without a lock.
    any: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    ids: HashMap<RecordId, Debt>,
    /// Any session of theirs may have been ended. Until then their copies are gone by themselves.
    users: HashMap<UserId, Instant>,
    /// Too many to remember: then it is all ids of that part of the cache, until their copies are gone by themselves.
    all_until: [Option<Instant>; Breakers::COUNT],
    count: u64,
    /// Somebody is about to pay them.
    is_payer_there: bool,
}

/// A removal that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Debt {
    /// Tells it from a later one for the same id.
    number: u64,
    /// When it is to be paid.
    due: Instant,
    /// A payment before does not settle it: the write may still be on its way.
    settles: Instant,
    /// By then the copy is gone by itself.
    lapses: Instant,
}

impl Debts {
    /// Whether the cache may not be asked for that id, which is in that part of it.
    pub(super) fn has(&self, id: &RecordId, part: impl FnOnce() -> usize) -> bool {
        if !self.any.load(Acquire) {
            return false;
        }
        let book = self.book();
        book.ids.contains_key(id) || book.all_until[part() % Breakers::COUNT].is_some()
    }

    /// From when this returns, the cache is not asked for that id. The write may still be on its way for `delay`, and
    /// copies live for `time_to_live` at most.
    pub(super) fn add(&self, id: &RecordId, part: usize, delay: Duration, time_to_live: Duration) {
        let mut book = self.book();
        let due = Instant::now();
        let settles = due + delay;
        let lapses = settles + time_to_live.min(LIFE_MAX);
        if book.ids.len() >= DEBTS_MAX && !book.ids.contains_key(id) {
            let all_until = &mut book.all_until[part % Breakers::COUNT];
            *all_until = (*all_until).max(Some(lapses));
        } else {
            book.count += 1;
            let before = book.ids.get(id);
            let debt = Debt {
                number: book.count,
                due,
                settles: before.map_or(settles, |before| before.settles.max(settles)),
                lapses: before.map_or(lapses, |before| before.lapses.max(lapses)),
            };
            book.ids.insert(*id, debt);
        }
        self.any.store(true, Release);
    }

    /// Whether that copy is of a user whose sessions may all have been ended.
    pub(super) fn include(&self, copy: &Record) -> bool {
        self.any.load(Acquire) && {
            let users = &self.book().users;
            copy.user
                .as_ref()
                .is_some_and(|user| users.contains_key(user))
        }
    }

    /// From when this returns, no copy of that user's sessions is trusted, for so long.
    pub(super) fn add_user(&self, user: &UserId, delay: Duration, time_to_live: Duration) {
        let mut book = self.book();
        let lapses = Instant::now() + delay + time_to_live.min(LIFE_MAX);
        if book.users.len() >= DEBTS_MAX && !book.users.contains_key(user) {
            for all_until in &mut book.all_until {
                *all_until = (*all_until).max(Some(lapses));
            }
        } else {
            book.users.insert(user.clone(), lapses);
        }
        self.any.store(true, Release);
    }

    /// Whether the caller has to pay from now on, as nobody else does.
    pub(super) fn needs_payer(&self) -> bool {
        self.any.load(Acquire) && {
            let mut book = self.book();
            let needed = !book.is_empty() && !book.is_payer_there;
            book.is_payer_there |= needed;
            needed
        }
    }

    /// What can be paid now.
    pub(super) fn due(&self) -> Vec<(RecordId, Debt)> {
        let now = Instant::now();
        let mut book = self.book();
        book.ids.retain(|_, debt| debt.lapses > now);
        book.users.retain(|_, lapses| *lapses > now);
        for all_until in &mut book.all_until {
            all_until.take_if(|until| *until <= now);
        }
        let due = book.ids.iter().filter(|(_, debt)| debt.due <= now);
        due.map(|(id, debt)| (*id, *debt)).collect()
    }

    /// The copy was let go of by a removal that was begun then, after that debt was incurred.
    pub(super) fn paid(&self, id: &RecordId, debt: Debt, begun: Instant) {
        let mut book = self.book();
        if book.ids.get(id) != Some(&debt) {
            return;
        }
        if begun >= debt.settles {
            book.ids.remove(id);
        } else {
            let due = debt.settles;
            book.ids.insert(*id, Debt { due, ..debt });
        }
    }

    /// Answers whether the payer may go: nothing is owed any more.
    pub(super) fn is_settled(&self) -> bool {
        let mut book = self.book();
        let settled = book.is_empty();
        if settled {
            book.is_payer_there = false;
            self.any.store(false, Release);
        }
        settled
    }

    /// The payer has gone before its time.
    pub(super) fn payer_is_gone(&self) {
        self.book().is_payer_there = false;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // No code of others runs under this lock, and a book is whole between its methods.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.users.is_empty() && self.all_until.iter().all(Option::is_none)
    }
}

/// What is remembered of writes while a cache is away, some 100 bytes each. With more, the part of the
/// cache that they are in is not asked at all until everything in it is newer.
const DEBTS_MAX: usize = 100_000;

/// A year. An `Instant` has an end.
const LIFE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::WriteToken,
        record::{Payload, Version},
        timestamp::Timestamp,
    };

    const MINUTE: Duration = Duration::from_secs(60);

    fn id(number: usize) -> RecordId {
        let mut bytes = [0; RecordId::LEN];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        RecordId::from_bytes(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_that_was_renewed_while_it_was_paid_stands() {
        let debts = Debts::default();
        debts.add(&id(1), 0, Duration::ZERO, MINUTE);
        let [(first, debt)] = debts.due()[..] else {
            panic!("one is due");
        };
        debts.add(&id(1), 0, Duration::ZERO, MINUTE);
        debts.paid(&first, debt, Instant::now());
        assert!(debts.has(&id(1), || 0));
        let [(second, debt)] = debts.due()[..] else {
            panic!("one is due");
        };
        debts.paid(&second, debt, Instant::now());
        assert!(!debts.has(&id(1), || 0));
        assert!(debts.is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_is_paid_at_once_and_again_after_its_delay() {
        let debts = Debts::default();
        debts.add(&id(1), 0, MINUTE, MINUTE);
        debts.add(&id(1), 0, Duration::ZERO, Duration::ZERO);
        let begun = Instant::now();
        let [(first, debt)] = debts.due()[..] else {
            panic!("one is due");
        };
        tokio::time::advance(MINUTE / 2).await;
        debts.paid(&first, debt, begun);
        assert!(debts.due().is_empty());
        assert!(debts.has(&id(1), || 0));
        tokio::time::advance(MINUTE / 2).await;
        let [(second, debt)] = debts.due()[..] else {
            panic!("one is due");
        };
        debts.paid(&second, debt, begun);
        assert!(debts.has(&id(1), || 0), "it was begun too early");
        let [(third, debt)] = debts.due()[..] else {
            panic!("one is due");
        };
        debts.paid(&third, debt, Instant::now());
        assert!(debts.is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_lapses_with_the_copy() {
        let debts = Debts::default();
        debts.add(&id(1), 0, MINUTE, MINUTE);
        debts.add(&id(1), 0, Duration::ZERO, Duration::ZERO);
        tokio::time::advance(2 * MINUTE).await;
        assert!(debts.due().is_empty());
        assert!(debts.is_settled());
        assert!(!debts.has(&id(1), || 0));
    }

    #[tokio::test(start_paused = true)]
    async fn with_more_debts_than_are_remembered_no_copy_is_trusted_until_all_have_lapsed() {
        let debts = Debts::default();
        for number in 0..=DEBTS_MAX {
            assert!(!debts.has(&id(usize::MAX), || 0));
            debts.add(&id(number), 0, Duration::ZERO, MINUTE);
        }
        assert!(debts.has(&id(usize::MAX), || 0));
        assert!(!debts.has(&id(usize::MAX), || 1), "another part");
        assert!(debts.has(&id(0), || 1), "not by its part alone");
        assert_eq!(debts.due().len(), DEBTS_MAX);
        for (id, debt) in debts.due() {
            debts.paid(&id, debt, Instant::now());
        }
        assert!(!debts.is_settled());
        tokio::time::advance(MINUTE).await;
        assert!(debts.due().is_empty());
        assert!(debts.is_settled());
        assert!(!debts.has(&id(usize::MAX), || 0));
    }

    #[tokio::test(start_paused = true)]
    async fn copies_of_a_user_are_not_trusted_until_they_have_lapsed() {
        let of = |name: &str| Record {
            version: Version {
                revision: 1,
                token: WriteToken::from_bytes([1; WriteToken::LEN]),
            },
            user: Some(UserId::new(name).unwrap()),
            created_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(1),
            absolute_deadline: Timestamp::from_millis(1),
            payload: Payload::default(),
        };
        let debts = Debts::default();
        assert!(!debts.include(&of("eve")));
        debts.add_user(&UserId::new("eve").unwrap(), MINUTE, MINUTE);
        assert!(debts.include(&of("eve")));
        assert!(!debts.include(&of("adam")));
        assert!(!debts.has(&id(1), || 0));
        tokio::time::advance(2 * MINUTE).await;
        assert!(debts.due().is_empty());
        assert!(!debts.include(&of("eve")));
        assert!(debts.is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn copies_that_live_for_ever_are_owed_for_a_year() {
        let debts = Debts::default();
        debts.add(&id(1), 0, MINUTE, Duration::MAX);
        debts.add_user(&UserId::new("eve").unwrap(), MINUTE, Duration::MAX);
        assert!(debts.has(&id(1), || 0));
        tokio::time::advance(LIFE_MAX + MINUTE).await;
        assert!(debts.due().is_empty());
        assert!(debts.is_settled());
    }

    #[tokio::test]
    async fn one_pays_at_a_time() {
        let debts = Debts::default();
        assert!(!debts.needs_payer());
        debts.add(&id(1), 0, Duration::ZERO, MINUTE);
        assert!(debts.needs_payer());
        assert!(!debts.needs_payer());
        debts.payer_is_gone();
        assert!(debts.needs_payer());
    }
}
