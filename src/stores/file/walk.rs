//! From one end of the store to the other: a scan, and the removal of what has expired.

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;

use super::{
    FileStore, blocking,
    fault::refused,
    folder::{Folder, is_leftover},
    lock::{Claim, Held, exclusively},
    tree::{
        Tree, hex, is_damage, parse_byte, parse_id, read_head, read_record, shelf_of, stripe_of,
    },
    users::{forget, report_damage},
};
use crate::{
    error::StoreError,
    id::RecordId,
    store::{Cursor, DeleteExpired, Page, ScanSessions, StoredSession},
    timestamp::Timestamp,
};

#[async_trait]
impl DeleteExpired for FileStore {
    /// Removes expired records, and what killed writers have left behind, which does not count.
    ///
    /// A call goes on where the last one stopped, and once around the store if the limit lets it. It
    /// reads the first 305 bytes of a record at most.
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        let mut left = limit;
        let mut failure = None;
        let start = self.tree.swept.load(Ordering::Relaxed);
        for stripe in (0..=u8::MAX).map(|step| start.wrapping_add(step)) {
            if left == 0 {
                break;
            }
            if let Err(error) = self.sweep(stripe, &mut left).await {
                // What is wrong with one part does not keep the others from being swept.
                failure = Some(error);
            }
            // A call that is cut goes on behind what it has seen to its end.
            let next = if left == 0 {
                stripe
            } else {
                stripe.wrapping_add(1)
            };
            self.tree.swept.store(next, Ordering::Relaxed);
        }
        match failure {
            Some(error) if left > 0 => Err(error),
            _ => Ok((limit - left) as u64),
        }
    }
}

impl FileStore {
    /// Removes expired records of a stripe, up to as many as are left to be removed.
    async fn sweep(&self, stripe: u8, left: &mut usize) -> Result<(), StoreError> {
        loop {
            let (store, limit) = (self.clone(), *left);
            let find = move || Expired::find(&store.tree, stripe, limit, store.now());
            let found = blocking(find).await?;
            let is_all = found.ids.len() < limit;
            if !found.is_empty() {
                let store = self.clone();
                let remove = move |held: &mut Held<'_>| {
                    let mut removed = 0;
                    let done = found.remove(held, stripe, store.now(), &mut removed);
                    Ok((removed, done))
                };
                let (removed, done) =
                    exclusively(&self.tree, Claim::stripes([stripe]), remove).await?;
                *left -= removed;
                done?;
            }
            // Of a part, somebody else may have removed some meanwhile.
            if is_all || *left == 0 {
                return Ok(());
            }
        }
    }
}

/// What a sweep has found in a stripe, while others may write to it.
struct Expired {
    ids: Vec<RecordId>,
    leftovers: bool,
}

impl Expired {
    fn find(tree: &Tree, stripe: u8, limit: usize, now: Timestamp) -> Result<Self, StoreError> {
        tree.check_presence()?;
        let folder = tree.records(stripe)?;
        let names = folder.names()?;
        let mut found = Self {
            ids: Vec::new(),
            leftovers: names.iter().any(|name| is_leftover(name)),
        };
        for shelf in shelves(&folder, &names, None) {
            let (byte, shelf) = shelf?;
            for id in ids(&shelf, [stripe, byte], None)? {
                if found.ids.len() == limit {
                    return Ok(found);
                }
                if is_expired(&shelf, &id, now)? {
                    found.ids.push(id);
                }
            }
        }
        Ok(found)
    }

    const fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.leftovers
    }

    /// Looks again, now that nobody else writes, and removes. It may come back if the power fails
    /// now, as expired as before: nothing is synced.
    fn remove(
        &self,
        held: &Held<'_>,
        stripe: u8,
        now: Timestamp,
        removed: &mut usize,
    ) -> Result<(), StoreError> {
        let folder = held.folder(stripe)?;
        if self.leftovers {
            // A writer holds the lock that is ours: nobody is going to use them.
            for name in folder.names()?.iter().filter(|name| is_leftover(name)) {
                folder.remove(name)?;
            }
        }
        for id in &self.ids {
            let Some(shelf) = folder.child(&shelf_of(id))? else {
                continue;
            };
            let Some(head) = read_head(&shelf, id).or_else(none_if_damaged)? else {
                continue;
            };
            if head.is_expired(now) && shelf.remove(&id.to_hex())? {
                *removed += 1;
                if let Some(user) = &head.user {
                    forget(held.tree, user, id);
                }
            }
        }
        Ok(())
    }
}

fn is_expired(shelf: &Folder, id: &RecordId, now: Timestamp) -> Result<bool, StoreError> {
    let head = read_head(shelf, id).or_else(none_if_damaged)?;
    Ok(head.is_some_and(|head| head.is_expired(now)))
}

fn none_if_damaged<T>(error: StoreError) -> Result<Option<T>, StoreError> {
    if is_damage(&error) {
        return Ok(None);
    }
    Err(error)
}

#[async_trait]
impl ScanSessions for FileStore {
    /// A page in the order of the ids. The cursor is the last id that was looked at; a page with
    /// records that have expired meanwhile or are damaged has fewer than the limit.
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let after = after.map(|cursor| <[u8; RecordId::LEN]>::try_from(cursor.as_bytes()));
        let after = after
            .transpose()
            .map_err(|_| refused("the cursor is not one of this store"))?
            .map(RecordId::from_bytes);
        let mut page = Looked {
            sessions: Vec::new(),
            last: after,
            left: limit.max(1),
        };
        for stripe in after.as_ref().map_or(0, stripe_of)..=u8::MAX {
            let (tree, now) = (Arc::clone(&self.tree), self.now());
            page = blocking(move || page.look(&tree, stripe, now)).await?;
            if page.left == 0 {
                break;
            }
        }
        let next = page.last.filter(|_| page.left == 0);
        Ok(Page {
            sessions: page.sessions,
            next: next.map(|last| Cursor::from_bytes(*last.as_bytes())),
        })
    }
}

/// A page that is being filled.
struct Looked {
    sessions: Vec<StoredSession>,
    last: Option<RecordId>,
    left: usize,
}

impl Looked {
    /// Looks at the records of a stripe, from behind the last one.
    fn look(mut self, tree: &Tree, stripe: u8, now: Timestamp) -> Result<Self, StoreError> {
        tree.check_presence()?;
        let folder = tree.records(stripe)?;
        let after = self.last.filter(|last| stripe_of(last) == stripe);
        for shelf in shelves(&folder, &folder.names()?, after.as_ref()) {
            let (byte, shelf) = shelf?;
            for id in ids(&shelf, [stripe, byte], after.as_ref())? {
                match read_record(&shelf, &id) {
                    Ok(Some(record)) if !record.is_expired(now) => {
                        self.sessions.push(StoredSession { id, record });
                    }
                    Ok(_) => {}
                    Err(error) if is_damage(&error) => report_damage(&id, &error),
                    Err(error) => return Err(error),
                }
                self.last = Some(id);
                self.left -= 1;
                if self.left == 0 {
                    return Ok(self);
                }
            }
        }
        Ok(self)
    }
}

/// The folders of a stripe in order with their bytes, from the one of an id on.
fn shelves<'a>(
    stripe: &'a Folder,
    names: &'a [String],
    from: Option<&RecordId>,
) -> impl Iterator<Item = Result<(u8, Folder), StoreError>> + 'a {
    let first = from.map_or(0, |id| id.as_bytes()[1]);
    let bytes = names.iter().filter_map(|name| parse_byte(name));
    bytes.filter(move |byte| *byte >= first).filter_map(|byte| {
        let shelf = stripe.child(&hex(&[byte])).transpose()?;
        Some(shelf.map(|shelf| (byte, shelf)))
    })
}

/// The ids in a folder in order, from behind one on. What lies in the wrong folder is no session.
fn ids(
    shelf: &Folder,
    place: [u8; 2],
    after: Option<&RecordId>,
) -> Result<impl Iterator<Item = RecordId>, StoreError> {
    let after = after.copied();
    let names = shelf.names()?.into_iter();
    Ok(names
        .filter_map(|name| parse_id(&name))
        .filter(move |id| id.as_bytes().starts_with(&place))
        .filter(move |id| after.is_none_or(|after| *id > after)))
}
