//! Who may write: one writer at a time to all records whose ids begin with the same byte.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::{File, TryLockError},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, sleep},
};

use super::{
    blocking,
    fault::{failed, refused, unavailable},
    folder::Folder,
    tree::{Tree, place_of, read_record, shelf_of, stripe_of},
    users,
};
use crate::{error::StoreError, id::RecordId, record::Record, user::UserId};

/// The folders of a stripe whose own names are known to be on the disk.
///
/// A folder that a killed process has made may not be; so each process makes sure of it once.
#[derive(Debug, Default)]
pub(super) struct Synced(BTreeSet<String>);

/// The stripes that a piece of work needs for itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    users: BTreeSet<u8>,
    records: BTreeSet<u8>,
}

impl Claim {
    /// For these records to be read and written.
    pub(super) fn records<const N: usize>(ids: [&RecordId; N]) -> Self {
        Self::stripes(ids.map(stripe_of))
    }

    /// For all records of these stripes.
    pub(super) fn stripes<const N: usize>(stripes: [u8; N]) -> Self {
        Self {
            users: BTreeSet::new(),
            records: stripes.into(),
        }
    }

    /// Also against a list or an end of all sessions of that user.
    pub(super) fn with_user(mut self, user: Option<&UserId>) -> Self {
        self.users.extend(user.map(|user| place_of(user).0));
        self
    }
}

/// The locks within this process: a task that waits for one blocks no thread. Always taken in the
/// same order, users before records.
#[derive(Debug)]
struct Guards {
    _users: Vec<OwnedMutexGuard<Synced>>,
    records: BTreeMap<u8, OwnedMutexGuard<Synced>>,
}

impl Guards {
    async fn take(tree: &Tree, claim: &Claim) -> Self {
        let lock = |locks: &[Arc<Mutex<Synced>>], stripe: u8| {
            Arc::clone(&locks[usize::from(stripe)]).lock_owned()
        };
        let mut users = Vec::new();
        for stripe in &claim.users {
            users.push(lock(&tree.user_locks, *stripe).await);
        }
        let mut records = BTreeMap::new();
        for stripe in &claim.records {
            records.insert(*stripe, lock(&tree.record_locks, *stripe).await);
        }
        Self {
            _users: users,
            records,
        }
    }
}

/// A stripe of records that nobody else writes to.
struct Stripe<'a> {
    folder: Folder,
    synced: &'a mut Synced,
    _lock: FileLock,
}

/// What a piece of work may read and write.
pub(super) struct Held<'a> {
    pub(super) tree: &'a Tree,
    stripes: BTreeMap<u8, Stripe<'a>>,
    _users: Vec<FileLock>,
}

impl<'a> Held<'a> {
    /// All the file locks of a claim, or none of them: whoever has one never waits for another.
    fn try_take(
        tree: &'a Tree,
        claim: &Claim,
        guards: &'a mut Guards,
    ) -> Result<Option<Self>, StoreError> {
        tree.check_presence()?;
        let mut users = Vec::new();
        for stripe in &claim.users {
            let Some(lock) = FileLock::try_take(&tree.users(*stripe)?)? else {
                return Ok(None);
            };
            users.push(lock);
        }
        let mut stripes = BTreeMap::new();
        for (stripe, synced) in &mut guards.records {
            let folder = tree.records(*stripe)?;
            let Some(lock) = FileLock::try_take(&folder)? else {
                return Ok(None);
            };
            let stripe = (
                *stripe,
                Stripe {
                    folder,
                    synced,
                    _lock: lock,
                },
            );
            stripes.extend([stripe]);
        }
        Ok(Some(Self {
            tree,
            stripes,
            _users: users,
        }))
    }

    /// The record in the place of that id, alive or not.
    pub(super) fn read(&mut self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        match self.stripe(id)?.folder.child(&shelf_of(id))? {
            Some(shelf) => read_record(&shelf, id),
            None => Ok(None),
        }
    }

    /// Puts a record in the place of what [`read`](Self::read) has found there, on the disk when this
    /// returns. The index knows of it before.
    pub(super) fn put(
        &mut self,
        id: &RecordId,
        present: Option<&Record>,
        record: &Record,
    ) -> Result<(), StoreError> {
        let before = present.and_then(|present| present.user.as_ref());
        let after = record.user.as_ref();
        let noted = after.filter(|user| before != Some(user));
        let written = match noted.map_or(Ok(()), |user| users::note(self.tree, user, id)) {
            Ok(()) => self.write(id, record),
            failed => failed,
        };
        if let Err(error) = written {
            // Whoever tries again does so under another id: what is noted for this one would stay.
            // But a record that may be there has to be found.
            let may_be_there =
                !matches!(self.read(id), Ok(found) if found.as_ref() != Some(record));
            if let Some(user) = noted.filter(|_| !may_be_there) {
                users::forget(self.tree, user, id);
            }
            return Err(error);
        }
        if let Some(user) = before.filter(|user| after != Some(user)) {
            users::forget(self.tree, user, id);
        }
        Ok(())
    }

    fn write(&mut self, id: &RecordId, record: &Record) -> Result<(), StoreError> {
        let stripe = self.stripe(id)?;
        let shelf = stripe.shelf(&shelf_of(id))?;
        stripe.folder.put(&shelf, &id.to_hex(), &record.to_bytes())
    }

    /// Makes sure that what lies in the place of that id is on the disk: somebody may have put it
    /// there who was killed before it was.
    pub(super) fn sync(&mut self, id: &RecordId) -> Result<(), StoreError> {
        self.stripe(id)?.shelf(&shelf_of(id))?.sync()
    }

    /// Removes what lies in the place of that id, for good when this returns. Answers whether there
    /// was anything.
    pub(super) fn remove(
        &mut self,
        id: &RecordId,
        user: Option<&UserId>,
    ) -> Result<bool, StoreError> {
        let Some(shelf) = self.stripe(id)?.folder.child(&shelf_of(id))? else {
            return Ok(false);
        };
        let removed = shelf.remove(&id.to_hex())?;
        // Also what somebody has removed who was killed before it was on the disk.
        shelf.sync()?;
        if let Some(user) = user {
            users::forget(self.tree, user, id);
        }
        Ok(removed)
    }

    /// The folder of a stripe, for a sweep.
    pub(super) fn folder(&self, stripe: u8) -> Result<&Folder, StoreError> {
        let stripe = self.stripes.get(&stripe).ok_or_else(not_claimed)?;
        Ok(&stripe.folder)
    }

    fn stripe(&mut self, id: &RecordId) -> Result<&mut Stripe<'a>, StoreError> {
        match self.stripes.entry(stripe_of(id)) {
            Entry::Occupied(stripe) => Ok(stripe.into_mut()),
            Entry::Vacant(_) => Err(not_claimed()),
        }
    }
}

impl Stripe<'_> {
    /// The folder of that name, which is there and stays there.
    fn shelf(&mut self, name: &str) -> Result<Folder, StoreError> {
        let shelf = self.folder.made_child(name)?;
        if !self.synced.0.contains(name) {
            self.folder.sync()?;
            self.synced.0.insert(name.to_owned());
        }
        Ok(shelf)
    }
}

/// Does a piece of work with all of a claim held. Once begun it is done to its end, whether this
/// future is dropped or not.
///
/// A lock that another process holds is asked for again and again, which blocks no thread. A process
/// that was stopped with a lock in its hand makes this an error, not a wait without an end.
pub(super) async fn exclusively<T: Send + 'static>(
    tree: &Arc<Tree>,
    claim: Claim,
    mut work: impl FnOnce(&mut Held<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let claim = Arc::new(claim);
    let mut refused_since = None;
    loop {
        // Given back between attempts: others may want only a part of it.
        let mut guards = Guards::take(tree, &claim).await;
        let (shared_tree, shared_claim) = (Arc::clone(tree), Arc::clone(&claim));
        let outcome = blocking(move || {
            let held = Held::try_take(&shared_tree, &shared_claim, &mut guards)?;
            Ok(match held {
                Some(mut held) => Ok(work(&mut held)?),
                None => Err(work),
            })
        })
        .await;
        match outcome? {
            Ok(answer) => return Ok(answer),
            Err(unchanged) => work = unchanged,
        }
        if refused_since.get_or_insert_with(Instant::now).elapsed() > LOCK_WAIT_MAX {
            return Err(unavailable("another process holds a lock for too long"));
        }
        sleep(LOCK_RETRY).await;
    }
}

/// Keeps the sessions of a user under their ids, until it is dropped.
#[derive(Debug)]
pub(super) struct UserLock {
    _file: FileLock,
    _guards: Guards,
}

impl UserLock {
    pub(super) async fn take(tree: &Arc<Tree>, user: &UserId) -> Result<Self, StoreError> {
        let stripe = place_of(user).0;
        let claim = Claim::default().with_user(Some(user));
        let guards = Guards::take(tree, &claim).await;
        let started = Instant::now();
        loop {
            let tree = Arc::clone(tree);
            let attempt = blocking(move || {
                tree.check_presence()?;
                FileLock::try_take(&tree.users(stripe)?)
            });
            if let Some(file) = attempt.await? {
                return Ok(Self {
                    _file: file,
                    _guards: guards,
                });
            }
            if started.elapsed() > LOCK_WAIT_MAX {
                return Err(unavailable("another process holds a lock for too long"));
            }
            sleep(LOCK_RETRY).await;
        }
    }
}

/// An exclusive lock among all processes, until it is dropped or the process dies.
#[derive(Debug)]
struct FileLock(File);

impl FileLock {
    fn try_take(folder: &Folder) -> Result<Option<Self>, StoreError> {
        let file = folder.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("locking")(error)),
        }
    }
}

impl Drop for FileLock {
    /// To close the file is not enough while a child process is being started that has it, too.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn not_claimed() -> StoreError {
    debug_assert!(false, "work on a record that was not claimed");
    refused("work on a record that was not claimed")
}

/// A lock is held for a few milliseconds, by a process that is alive and a disk that answers.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);

/// Less than a write to a disk takes, more than a turn of the runtime.
const LOCK_RETRY: Duration = Duration::from_millis(1);
