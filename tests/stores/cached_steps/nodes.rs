//! The nodes of a scenario, with their caches.

use std::sync::Arc;

use tower_keep::{Cached, CachedStore, MemoryCache, Record, SessionStore};

use super::{
    board::{Board, Call},
    caches::{Flaw, SteppedCache, Testable, TicketCache, at_once},
    judge::Caches,
    scenario::{Scenario, Start, Wrong},
    sheet::{SESSION, Sheet, SteppedStore},
    wrong::CacheFirst,
};

/// Stores as the application has them, one a node, and the caches behind them.
pub(super) struct Nodes {
    pub(super) stores: Vec<Arc<dyn SessionStore>>,
    /// One for all, or one for each.
    pub(super) caches: Vec<Box<dyn Handle>>,
}

impl Nodes {
    pub(super) fn new(scenario: &Scenario, board: &Board, sheet: &Sheet) -> Self {
        let flaw = match scenario.wrong {
            Wrong::Cache(flaw) => flaw,
            Wrong::CacheFirst => Flaw::None,
        };
        match scenario.caches {
            Caches::Shared => {
                let cache = TicketCache::new(flaw);
                Self::of(scenario, board, sheet, &[cache])
            }
            Caches::Own => {
                // As of one that is told of writes. Its copies are good for longer than a run lets pass.
                let cache = |_| MemoryCache::of_sole_process();
                let caches: Vec<_> = (0..scenario.nodes).map(cache).collect();
                Self::of(scenario, board, sheet, &caches)
            }
        }
    }

    fn of<C: Testable>(scenario: &Scenario, board: &Board, sheet: &Sheet, caches: &[C]) -> Self {
        for (number, cache) in caches.iter().enumerate() {
            begin(scenario.start, cache, number, board, sheet);
        }
        let store = |node: usize| {
            let number = node % caches.len();
            let cache = SteppedCache {
                inner: C::clone(&caches[number]),
                number,
                board: board.clone(),
                node,
            };
            let store = SteppedStore {
                sheet: sheet.clone(),
                board: board.clone(),
                node,
            };
            match scenario.wrong {
                Wrong::Cache(_) => {
                    Arc::new(CachedStore::new(cache, store)) as Arc<dyn SessionStore>
                }
                Wrong::CacheFirst => Arc::new(CacheFirst { cache, store }),
            }
        };
        Self {
            stores: (0..scenario.nodes).map(store).collect(),
            caches: caches
                .iter()
                .map(|cache| Box::new(cache.clone()) as _)
                .collect(),
        }
    }
}

fn begin<C: Testable>(start: Start, cache: &C, number: usize, board: &Board, sheet: &Sheet) {
    let record = sheet.lines().records[&SESSION].clone();
    let ticket = || match at_once(cache.get(&SESSION)) {
        Ok(Cached::Miss(Some(ticket))) => ticket,
        other => unreachable!("{other:?}"),
    };
    let late = matches!(start, Start::Ticket | Start::CopyAndTicket).then(ticket);
    if matches!(start, Start::Copy | Start::CopyAndTicket) {
        at_once(cache.fill(&SESSION, &record, ticket())).unwrap();
    }
    if let Some(ticket) = late {
        let cache = cache.clone();
        let fill = move || at_once(cache.fill(&SESSION, &record, ticket)).unwrap();
        board.send(Call::Alter(number, "fill"), fill);
    }
}

/// A cache from behind.
pub(super) trait Handle {
    fn copy(&self) -> Option<Record>;

    /// Loses its copies, as by an eviction or a restart.
    fn lose(&self);

    /// A message arrives: the record has been written.
    fn is_told(&self);
}

impl<C: Testable> Handle for C {
    fn copy(&self) -> Option<Record> {
        match at_once(self.get(&SESSION)) {
            Ok(Cached::Hit(record)) => Some(record),
            _ => None,
        }
    }

    fn lose(&self) {
        Testable::lose(self);
    }

    fn is_told(&self) {
        at_once(self.remove(&SESSION)).unwrap();
    }
}
