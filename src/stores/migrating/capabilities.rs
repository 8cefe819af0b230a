//! What two stores can do together that both can do.
//!
//! The old store is always asked first: what moves meanwhile is then found in the new one.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use async_trait::async_trait;

use super::{
    MigratingStore,
    place::{self, Place},
};
use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::Record,
    store::{
        Cursor, DeleteExpired, Page, ScanSessions, SessionStore, StoredSession, Updated,
        UserSessions,
    },
    user::UserId,
};

#[async_trait]
impl<New: UserSessions, Old: UserSessions> UserSessions for MigratingStore<New, Old> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        let (mut live, mut in_transit) = (BTreeMap::new(), BTreeSet::new());
        for store in [&self.old as &dyn UserSessions, &self.new] {
            for StoredSession { id, record } in store.sessions_of(user).await? {
                match Place::of(record) {
                    Place::Here(record) => drop(live.insert(id, record)),
                    Place::Moving { .. } => drop(in_transit.insert(id)),
                    Place::Left { .. } => {}
                }
            }
        }
        for id in in_transit {
            if let Entry::Vacant(entry) = live.entry(id)
                && let Some((_, session)) = self.in_transit(&id).await?
                && session.user.as_ref() == Some(user)
            {
                entry.insert(session);
            }
        }
        let session = |(id, record)| StoredSession { id, record };
        Ok(live.into_iter().map(session).collect())
    }

    /// What is in the old store is ended there, by what only one of its ends and its move can do. What is then in the new one is a
    /// session, but for copies that are worth nothing.
    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        let (mut ended, mut listed) = (BTreeSet::new(), BTreeSet::new());
        for session in self.old.sessions_of(user).await? {
            listed.insert(session.id);
            if Some(&session.id) != keep && self.end_in_old(&session).await? {
                ended.insert(session.id);
            }
        }
        let mut copies = BTreeSet::new();
        for StoredSession { id, record } in self.new.sessions_of(user).await? {
            if !matches!(Place::of(record), Place::Here(_)) {
                copies.insert(id);
            }
        }
        // Notes; and sessions that can not be read.
        let deleted = self.old.delete_all_of(user, keep).await?;
        ended.extend(deleted.into_iter().filter(|id| !listed.contains(id)));
        let deleted = self.new.delete_all_of(user, keep).await?;
        ended.extend(deleted.into_iter().filter(|id| !copies.contains(id)));
        Ok(ended.into_iter().collect())
    }
}

impl<New: UserSessions, Old: UserSessions> MigratingStore<New, Old> {
    /// Whether it was ended there; else it is in the new store, if it is anywhere.
    async fn end_in_old(&self, session: &StoredSession) -> Result<bool, StoreError> {
        let id = &session.id;
        let mut there = Some(session.record.clone());
        for _ in 0..super::ATTEMPTS_MAX {
            match there.map(Place::of) {
                Some(Place::Here(record)) => {
                    // For a copy that nobody has made.
                    let [nowhere, token] = [super::new_token()?, super::new_token()?];
                    let note = place::left(&record, nowhere, token);
                    match self.old.update(id, &note, record.version).await? {
                        Updated::Done => return Ok(true),
                        Updated::Conflict(present) => there = Some(present),
                        Updated::Gone => return Ok(false),
                    }
                }
                // Brings the move to its end, in either direction.
                Some(Place::Left { .. } | Place::Moving { .. }) => {
                    return match self.find(id).await {
                        Err(error) if error.kind() == StoreErrorKind::Unavailable => Err(error),
                        // What can not be read is deleted all the same.
                        Ok(_) | Err(_) => Ok(false),
                    };
                }
                None => return Ok(false),
            }
        }
        Err(super::contended())
    }
}

#[async_trait]
impl<New: DeleteExpired, Old: DeleteExpired> DeleteExpired for MigratingStore<New, Old> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        let in_old = self.old.delete_expired(limit).await?;
        let rest = limit.saturating_sub(usize::try_from(in_old).unwrap_or(limit));
        match rest {
            0 => Ok(in_old),
            rest => Ok(in_old + self.new.delete_expired(rest).await?),
        }
    }
}

#[async_trait]
impl<New: ScanSessions, Old: ScanSessions> ScanSessions for MigratingStore<New, Old> {
    /// The pages of the old store, and then those of the new one.
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        match after.map(Cursor::as_bytes) {
            None => self.scan_old(None, limit).await,
            Some([IN_OLD, rest @ ..]) => {
                let after = Cursor::from_bytes(rest);
                self.scan_old(Some(&after), limit).await
            }
            Some([AT_NEW]) => self.scan_new(None, limit).await,
            Some([IN_NEW, rest @ ..]) => {
                let after = Cursor::from_bytes(rest);
                self.scan_new(Some(&after), limit).await
            }
            Some(_) => Err(StoreError::new(
                super::NAME,
                StoreErrorKind::Other,
                "the cursor is of another store",
            )),
        }
    }
}

impl<New: ScanSessions, Old: ScanSessions> MigratingStore<New, Old> {
    async fn scan_old(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let page = self.old.scan(after, limit).await?;
        let sessions = self.listed(page.sessions, Side::Old).await?;
        let next = page
            .next
            .map_or_else(|| vec![AT_NEW], |next| cursor(IN_OLD, &next));
        Ok(Page {
            sessions,
            next: Some(Cursor::from_bytes(next)),
        })
    }

    async fn scan_new(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let page = self.new.scan(after, limit).await?;
        let sessions = self.listed(page.sessions, Side::New).await?;
        let next = page
            .next
            .map(|next| Cursor::from_bytes(cursor(IN_NEW, &next)));
        Ok(Page { sessions, next })
    }

    /// Those of one store that are sessions, each in the list of one store alone.
    async fn listed(
        &self,
        page: Vec<StoredSession>,
        side: Side,
    ) -> Result<Vec<StoredSession>, StoreError> {
        let mut sessions = Vec::with_capacity(page.len());
        for StoredSession { id, record } in page {
            let live = match Place::of(record) {
                Place::Here(record) => Some(record),
                Place::Moving { .. } => match self.in_transit(&id).await? {
                    Some((at, session)) if at == side => Some(session),
                    Some(_) | None => None,
                },
                Place::Left { .. } => None,
            };
            sessions.extend(live.map(|record| StoredSession { id, record }));
        }
        Ok(sessions)
    }
}

impl<New: SessionStore, Old: SessionStore> MigratingStore<New, Old> {
    /// The session of which a store has a copy, and where it is, if it was not ended. One that cannot be read is left out, as
    /// stores leave it out of their lists.
    async fn in_transit(&self, id: &RecordId) -> Result<Option<(Side, Record)>, StoreError> {
        match self.whereabouts(id).await {
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                tracing::error!(
                    record = ?id,
                    error = &error as &dyn std::error::Error,
                    "a session is left out of a list"
                );
                Ok(None)
            }
            found => found,
        }
    }

    /// What is in the new store while that is in the old one; nothing is brought to its end.
    async fn whereabouts(&self, id: &RecordId) -> Result<Option<(Side, Record)>, StoreError> {
        let mut before = self.old.load(id).await?;
        for _ in 0..super::ATTEMPTS_MAX {
            let there = self.new.load(id).await?;
            let after = self.old.load(id).await?;
            if before == after {
                return Ok(match (there.map(Place::of), before.map(Place::of)) {
                    (Some(Place::Here(session)), _) => Some((Side::New, session)),
                    (_, Some(Place::Here(session))) => Some((Side::Old, session)),
                    (Some(Place::Moving { copy, session }), Some(Place::Left { copy: of, .. }))
                        if of == copy.token =>
                    {
                        Some((Side::New, session))
                    }
                    // A move in the other direction that nobody has brought to its end.
                    (Some(Place::Left { copy: of, .. }), Some(Place::Moving { copy, session }))
                        if of == copy.token =>
                    {
                        Some((Side::Old, session))
                    }
                    _ => None,
                });
            }
            before = after;
        }
        Err(super::contended())
    }
}

/// One of the two stores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Old,
    New,
}

fn cursor(store: u8, inner: &Cursor) -> Vec<u8> {
    [&[store], inner.as_bytes()].concat()
}

const IN_OLD: u8 = 0;
const AT_NEW: u8 = 1;
const IN_NEW: u8 = 2;
