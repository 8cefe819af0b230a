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

use crate::id::RecordId;

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
    /// Too many to remember: then it is all ids, until their copies are gone by themselves.
    all_until: Option<Instant>,
    count: u64,
    /// Somebody is about to pay them.
    is_payer_there: bool,
}

/// A removal that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Debt {
    /// Tells it from a later one for the same id.
    number: u64,
    /// Not to be paid before: the write may still be on its way.
    due: Instant,
    /// By then the copy is gone by itself.
    lapses: Instant,
}

impl Debts {
    pub(super) fn has(&self, id: &RecordId) -> bool {
        if !self.any.load(Acquire) {
            return false;
        }
        let book = self.book();
        book.all_until.is_some() || book.ids.contains_key(id)
    }

    /// From when this returns, the cache is not asked for that id. Copies live so long at most.
    pub(super) fn add(&self, id: &RecordId, delay: Duration, time_to_live: Duration) {
        let mut book = self.book();
        let due = Instant::now() + delay;
        let lapses = due + time_to_live;
        if book.ids.len() >= DEBTS_MAX && !book.ids.contains_key(id) {
            book.all_until = book.all_until.max(Some(lapses));
        } else {
            book.count += 1;
            let number = book.count;
            let debt = Debt {
                number,
                due,
                lapses,
            };
            let debt = book.ids.get(id).map_or(debt, |before| Debt {
                number,
                due: due.max(before.due),
                lapses: lapses.max(before.lapses),
            });
            book.ids.insert(*id, debt);
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
        book.all_until.take_if(|until| *until <= now);
        let due = book.ids.iter().filter(|(_, debt)| debt.due <= now);
        due.map(|(id, debt)| (*id, *debt)).collect()
    }

    /// The copy was let go of after that debt was incurred.
    pub(super) fn paid(&self, id: &RecordId, debt: Debt) {
        let mut book = self.book();
        if book.ids.get(id) == Some(&debt) {
            book.ids.remove(id);
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
        self.ids.is_empty() && self.all_until.is_none()
    }
}

/// What is remembered of writes while a cache is away, some 100 bytes each. With more, the cache is not asked
/// at all until everything in it is newer.
const DEBTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn id(number: usize) -> RecordId {
        let mut bytes = [0; RecordId::LEN];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        RecordId::from_bytes(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_that_was_renewed_while_it_was_paid_stands() {
        let debts = Debts::default();
        debts.add(&id(1), Duration::ZERO, MINUTE);
        let [(first, debt)] = debts.due()[..] else {
            panic!("one is due");
        };
        debts.add(&id(1), Duration::ZERO, MINUTE);
        debts.paid(&first, debt);
        assert!(debts.has(&id(1)));
        let [(second, debt)] = debts.due()[..] else {
            panic!("one is due");
        };
        debts.paid(&second, debt);
        assert!(!debts.has(&id(1)));
        assert!(debts.is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_is_due_after_its_delay_and_lapses_with_the_copy() {
        let debts = Debts::default();
        debts.add(&id(1), MINUTE, MINUTE);
        debts.add(&id(1), Duration::ZERO, Duration::ZERO);
        assert!(debts.due().is_empty());
        assert!(!debts.is_settled());
        tokio::time::advance(MINUTE).await;
        assert_eq!(debts.due().len(), 1);
        tokio::time::advance(MINUTE).await;
        assert!(debts.due().is_empty());
        assert!(debts.is_settled());
        assert!(!debts.has(&id(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn with_more_debts_than_are_remembered_no_copy_is_trusted_until_all_have_lapsed() {
        let debts = Debts::default();
        for number in 0..=DEBTS_MAX {
            assert!(!debts.has(&id(usize::MAX)));
            debts.add(&id(number), Duration::ZERO, MINUTE);
        }
        assert!(debts.has(&id(usize::MAX)));
        assert_eq!(debts.due().len(), DEBTS_MAX);
        for (id, debt) in debts.due() {
            debts.paid(&id, debt);
        }
        assert!(!debts.is_settled());
        tokio::time::advance(MINUTE).await;
        assert!(debts.due().is_empty());
        assert!(debts.is_settled());
        assert!(!debts.has(&id(usize::MAX)));
    }

    #[tokio::test]
    async fn one_pays_at_a_time() {
        let debts = Debts::default();
        assert!(!debts.needs_payer());
        debts.add(&id(1), Duration::ZERO, MINUTE);
        assert!(debts.needs_payer());
        assert!(!debts.needs_payer());
        debts.payer_is_gone();
        assert!(debts.needs_payer());
    }
}
