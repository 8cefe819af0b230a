//! Removes from a cache what it could not be told to let go of.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};

use super::{CachedStore, Shared};
use crate::{cache::RecordCache, store::SessionStore};

impl<C: RecordCache, S: SessionStore> CachedStore<C, S> {
    /// Sees to it that somebody pays, if there is a runtime. If not, the next call in one does.
    pub(super) fn pay_debts(&self) {
        if let Ok(runtime) = Handle::try_current()
            && self.shared.debts.needs_payer()
        {
            let payer = Payer {
                shared: Arc::downgrade(&self.shared),
                cache_timeout: self.cache_timeout,
            };
            runtime.spawn(async move { payer.run().await });
        }
    }
}

/// Pays until nothing is owed, or nobody uses the store any more.
struct Payer<C: RecordCache, S: SessionStore> {
    shared: Weak<Shared<C, S>>,
    cache_timeout: Duration,
}

impl<C: RecordCache, S: SessionStore> Payer<C, S> {
    async fn run(&self) {
        loop {
            sleep(ROUND).await;
            let Some(shared) = self.shared.upgrade() else {
                return;
            };
            for (id, debt) in shared.debts.due() {
                let remove = shared.cache.remove(&id);
                if shared
                    .ask("remove", self.cache_timeout, remove)
                    .await
                    .is_err()
                {
                    break;
                }
                shared.debts.paid(&id, debt);
            }
            if shared.debts.is_settled() {
                return;
            }
        }
    }
}

impl<C: RecordCache, S: SessionStore> Drop for Payer<C, S> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.debts.payer_is_gone();
        }
    }
}

/// How often it is tried.
const ROUND: Duration = Duration::from_millis(200);
