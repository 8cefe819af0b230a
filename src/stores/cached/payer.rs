//! Removes from a cache what it could not be told to let go of.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{CachedStore, Shared, Trouble, breaker::Breakers, debts::Debt};
use crate::{cache::RecordCache, id::RecordId, store::SessionStore};

impl<C: RecordCache, S: SessionStore> CachedStore<C, S> {
    /// Sees to it that somebody pays, if there is a runtime. If not, the next call in one does.
    pub(super) fn pay_debts(&self) {
        if let Ok(runtime) = Handle::try_current()
            && self.shared.debts.needs_payer()
        {
            let payer = Payer {
                shared: Arc::downgrade(&self.shared),
                cache_timeout: self.cache_timeout,
                is_relieved: false,
            };
            runtime.spawn(payer.run());
        }
    }
}

/// Pays until nothing is owed, or nobody uses the store any more.
struct Payer<C: RecordCache, S: SessionStore> {
    shared: Weak<Shared<C, S>>,
    cache_timeout: Duration,
    /// It has told that it goes.
    is_relieved: bool,
}

impl<C: RecordCache, S: SessionStore> Payer<C, S> {
    async fn run(mut self) {
        while let Some(parts) = self.due() {
            let mut payments = JoinSet::new();
            for due in parts.into_iter().filter(|due| !due.is_empty()) {
                let shared = Weak::clone(&self.shared);
                payments.spawn(pay(shared, self.cache_timeout, due));
            }
            payments.join_all().await;
            if self.is_settled() {
                self.is_relieved = true;
                return;
            }
            sleep(ROUND).await;
        }
    }

    /// What can be paid now to each part of the cache.
    fn due(&self) -> Option<[Vec<(RecordId, Debt)>; Breakers::COUNT]> {
        let shared = self.shared.upgrade()?;
        let mut parts = [const { Vec::new() }; Breakers::COUNT];
        for (id, debt) in shared.debts.due() {
            parts[shared.cache.part_of(&id) % Breakers::COUNT].push((id, debt));
        }
        Some(parts)
    }

    fn is_settled(&self) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|shared| shared.debts.is_settled())
    }
}

/// Pays one after the other, up to the first failure: the others would fail too. Requests may leave that part alone at
/// present; this knocks nevertheless.
async fn pay<C: RecordCache, S>(
    shared: Weak<Shared<C, S>>,
    cache_timeout: Duration,
    due: Vec<(RecordId, Debt)>,
) {
    for (id, debt) in due {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let begun = Instant::now();
        let remove = shared.cache.remove(&id);
        match shared.call("remove", cache_timeout, &id, remove).await {
            Ok(()) => shared.debts.paid(&id, debt, begun),
            Err(Trouble::Unreadable) => {}
            Err(Trouble::Away) => return,
        }
    }
}

impl<C: RecordCache, S: SessionStore> Drop for Payer<C, S> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade()
            && !self.is_relieved
        {
            shared.debts.payer_is_gone();
        }
    }
}

/// How long after a round the next one is begun.
const ROUND: Duration = Duration::from_millis(200);
