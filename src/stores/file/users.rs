//! Which records a user may have: one empty file each. What it says is not believed until the record
//! has been read; that nothing is missing in it is.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    FileStore, blocking,
    fault::unavailable,
    lock::{Claim, Held, UserLock, exclusively},
    tree::{Tree, is_damage, parse_id, place_of},
};
use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::Record,
    store::{StoredSession, UserSessions},
    user::UserId,
};

/// Writes down, before the record is written, that it is this user's. The record's stripe is held.
pub(super) fn note(tree: &Tree, user: &UserId, id: &RecordId) -> Result<(), StoreError> {
    let (stripe, name) = place_of(user);
    let stripe = tree.users(stripe)?;
    // A folder that somebody finds empty at this moment is removed under our hands.
    for _ in 0..ATTEMPTS_MAX {
        let own = stripe.made_child(&name)?;
        if own.put_empty(&id.to_hex())? {
            own.sync()?;
            return stripe.sync();
        }
    }
    Err(unavailable("the user index does not come to rest"))
}

/// The record is not this user's any more, or not there. The record's stripe is held.
///
/// What is left here by a failure is found untrue when it is read.
pub(super) fn forget(tree: &Tree, user: &UserId, id: &RecordId) {
    let (stripe, name) = place_of(user);
    let forget = || {
        let stripe = tree.users(stripe)?;
        if let Some(own) = stripe.child(&name)? {
            own.remove(&id.to_hex())?;
            stripe.remove_empty_child(&name)?;
        }
        Ok::<(), StoreError>(())
    };
    if let Err(error) = forget() {
        let error: &dyn std::error::Error = &error;
        tracing::debug!(record = ?id, error, "an entry of the user index is left behind");
    }
}

/// The records that may be this user's.
fn noted(tree: &Tree, user: &UserId) -> Result<Vec<RecordId>, StoreError> {
    let (stripe, name) = place_of(user);
    match tree.users(stripe)?.child(&name)? {
        Some(own) => Ok(own.names()?.iter().filter_map(|n| parse_id(n)).collect()),
        None => Ok(Vec::new()),
    }
}

fn is_of(record: &Record, user: &UserId) -> bool {
    record.user.as_ref() == Some(user)
}

#[async_trait]
impl UserSessions for FileStore {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        let held = UserLock::take(&self.tree, user).await?;
        let (store, wanted) = (self.clone(), user.clone());
        let (sessions, untrue) = blocking(move || {
            let (mut sessions, mut untrue) = (Vec::new(), Vec::new());
            for id in noted(&store.tree, &wanted)? {
                match store.tree.read(&id) {
                    Ok(Some(record)) if is_of(&record, &wanted) => {
                        sessions.push(StoredSession { id, record });
                    }
                    Ok(_) => untrue.push(id),
                    Err(error) if is_damage(&error) => report_damage(&id, &error),
                    Err(error) => return Err(error),
                }
            }
            let now = store.now();
            sessions.retain(|session| !session.record.is_expired(now));
            Ok((sessions, untrue))
        })
        .await?;
        drop(held);
        for id in untrue {
            let user = user.clone();
            exclusively(&self.tree, Claim::records([&id]), move |held| {
                if !held.read(&id)?.is_some_and(|record| is_of(&record, &user)) {
                    forget(held.tree, &user, &id);
                }
                Ok(())
            })
            .await?;
        }
        Ok(sessions)
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        // No session of this user changes its id until the last one has been ended.
        let _held = UserLock::take(&self.tree, user).await?;
        let (tree, wanted) = (Arc::clone(&self.tree), user.clone());
        let ids = blocking(move || noted(&tree, &wanted)).await?;
        let (mut ended, mut unknown) = (Vec::new(), None);
        for id in ids.into_iter().filter(|id| keep != Some(id)) {
            let (store, user) = (self.clone(), user.clone());
            let end = move |held: &mut Held<'_>| end(&store, held, &user, &id);
            match exclusively(&self.tree, Claim::records([&id]), end).await {
                Ok(was_alive) => ended.extend(was_alive.then_some(id)),
                // Nobody can use what is damaged; what a newer version has written, others can.
                Err(error) if error.kind() == StoreErrorKind::Corrupt => report_damage(&id, &error),
                Err(error) if is_damage(&error) => unknown = Some(error),
                Err(error) => return Err(error),
            }
        }
        unknown.map_or(Ok(ended), Err)
    }
}

/// Ends a session if it is this user's. Answers whether one was alive.
fn end(
    store: &FileStore,
    held: &mut Held<'_>,
    user: &UserId,
    id: &RecordId,
) -> Result<bool, StoreError> {
    match held.read(id)? {
        Some(record) if is_of(&record, user) => {
            let was_alive = !record.is_expired(store.now());
            held.remove(id, Some(user))?;
            Ok(was_alive)
        }
        _ => {
            forget(held.tree, user, id);
            Ok(false)
        }
    }
}

/// One record that cannot be read does not hide all others.
pub(super) fn report_damage(record: &RecordId, error: &StoreError) {
    let error: &dyn std::error::Error = error;
    tracing::error!(?record, error, "a stored session is damaged and left out");
}

const ATTEMPTS_MAX: usize = 64;
