//! Sessions in files.

mod fault;
mod folder;
mod lock;
mod tree;
mod users;
mod walk;

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;
use tokio::task::AbortHandle;

use self::{
    fault::STORE,
    lock::{Claim, Held, exclusively},
    tree::{RECORD_FILE_MAX, Tree},
};
use crate::{
    clock::{Clock, SystemClock},
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::{Record, Version},
    store::{Created, Rotated, SessionStore, Updated},
    timestamp::Timestamp,
    user::UserId,
};

/// Keeps each session in a file of its own, in a folder that many processes of one machine share.
///
/// For applications on one machine that have no database, and whose sessions are to survive a
/// restart.
///
/// # What it promises
///
/// - **What is acknowledged is on the disk.** A record is written to a new file, synced, and renamed
///   into its place; then the folder is synced. A session survives `kill -9` and, as far as the disk
///   does what `fsync` says, a power failure; so does the end of one.
/// - **The old content or the new, never a part.** A full disk, a failing one and a killed process
///   leave what was there.
/// - **No update is lost** between tasks, nor between processes: writers take turns by locks on
///   files (`flock`), which the system releases when their process dies.
/// - **An outage is not a logout.** If the folder is removed or replaced while the store is open, or
///   its disk is taken away, every operation is an error.
/// - **Nobody else reads it.** Files have the mode 0600 and folders 0700, whatever the umask.
///   Symbolic links inside of the store's folder are not followed.
///
/// # What it does not
///
/// It is for local file systems. On a network file system, machines share the sessions as well as its
/// `flock` excludes them from one another and its `rename` is atomic, which differs.
///
/// A rotation that is cut short by the death of its process may leave the session under both ids.
/// Nobody has been told the new one; it dies at its deadline.
///
/// # What it costs
///
/// A load opens one file and takes no lock. A write is one new file and two syncs; a rotation three;
/// a login, which also writes to the index of users, three more. Writers wait for one another if
/// their record ids begin with the same byte. All of it runs on tokio's threads for blocking work.
///
/// Expired sessions are never served, but their files stay until
/// [`delete_expired`](crate::DeleteExpired::delete_expired) removes them, with the leftovers of
/// killed processes. The folders stay: at most 65,536 for records.
///
/// Cheap to clone; clones are the same store.
///
/// # Examples
///
/// ```
/// use tower_keep::{FileStore, SessionLayer};
///
/// # let temporary = tempfile::tempdir()?;
/// # let folder = temporary.path().join("sessions");
/// // such as /var/lib/shop/sessions
/// let store = FileStore::open(folder)?;
/// let sessions = SessionLayer::new(store.clone());
/// // `store` stays at hand, to list and end the sessions of a user.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FileStore {
    tree: Arc<Tree>,
    clock: Arc<dyn Clock>,
}

impl FileStore {
    /// The largest record that it takes, its user and 50 bytes included: 16 MiB.
    pub const RECORD_BYTES_MAX: usize = RECORD_FILE_MAX;

    /// Opens the store in a folder, and makes the folder if it is missing, but not the one that it
    /// is to lie in. Touches the disk, for a moment: call it when the application starts.
    ///
    /// The folder may be reached by a symbolic link. It has to belong to the user of this process,
    /// and nobody else may write to it.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Other`] if the folder is none, belongs to another user, can be written by
    /// others, or cannot be written; the source tells which. [`StoreErrorKind::Unavailable`] if the
    /// folder that it is to lie in is missing, or the disk is full or fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{fs, os::unix::fs::PermissionsExt};
    /// use tower_keep::{FileStore, StoreErrorKind};
    ///
    /// # let temporary = tempfile::tempdir()?;
    /// # let shared = temporary.path();
    /// fs::set_permissions(shared, fs::Permissions::from_mode(0o777))?;
    /// let refused = FileStore::open(shared).unwrap_err();
    /// assert_eq!(refused.kind(), StoreErrorKind::Other);
    /// let own = FileStore::open(shared.join("sessions"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Ok(Self {
            tree: Arc::new(Tree::open(folder.as_ref())?),
            clock: Arc::new(SystemClock),
        })
    }

    /// Takes the time from another clock. Clones that were made before keep theirs.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self {
            clock: Arc::new(clock),
            ..self
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    /// Does a piece of work with the claim held, to its end.
    async fn exclusively<T: Send + 'static>(
        &self,
        claim: Claim,
        work: impl FnOnce(&mut Held<'_>, Timestamp) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        exclusively(&self.tree, claim, move |held| work(held, store.now())).await
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("folder", &self.tree.path())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for FileStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let (store, id) = (self.clone(), *id);
        blocking(move || {
            store.tree.check_presence()?;
            Ok(live(store.tree.read(&id)?, store.now()))
        })
        .await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        check_size(record)?;
        let (id, record) = (*id, record.clone());
        self.exclusively(Claim::records([&id]), move |held, now| {
            let present = held.read(&id)?;
            match &present {
                Some(present) if !present.is_expired(now) => {
                    if present.version != record.version {
                        return Ok(Created::Exists);
                    }
                    held.sync(&id)?;
                    Ok(Created::Done)
                }
                _ => {
                    held.put(&id, present.as_ref(), &record)?;
                    Ok(Created::Done)
                }
            }
        })
        .await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        check_size(record)?;
        let (id, record) = (*id, record.clone());
        self.exclusively(Claim::records([&id]), move |held, now| {
            match live(held.read(&id)?, now) {
                None => Ok(Updated::Gone),
                Some(present) if present.version == record.version => {
                    held.sync(&id)?;
                    Ok(Updated::Done)
                }
                Some(present) if present.version != expected => Ok(Updated::Conflict(present)),
                Some(present) => {
                    held.put(&id, Some(&present), &record)?;
                    Ok(Updated::Done)
                }
            }
        })
        .await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        check_size(record)?;
        let claim = Claim::records([old, new]).with_user(record.user.as_ref());
        let (old, new, record) = (*old, *new, record.clone());
        self.exclusively(claim, move |held, now| {
            rotate(held, (&old, &new), &record, expected, now)
        })
        .await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        let id = *id;
        self.exclusively(Claim::records([&id]), move |held, now| {
            match live(held.read(&id)?, now).filter(|present| present.version == expected) {
                None => Ok(false),
                Some(present) if expires_at < present.expires_at => Ok(true),
                Some(present) if expires_at == present.expires_at => {
                    held.sync(&id)?;
                    Ok(true)
                }
                Some(present) => {
                    let touched = Record {
                        expires_at,
                        ..present.clone()
                    };
                    held.put(&id, Some(&present), &touched)?;
                    Ok(true)
                }
            }
        })
        .await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        let id = *id;
        self.exclusively(Claim::records([&id]), move |held, now| {
            let present = match held.read(&id) {
                // A session ends, whether its record can be read or not.
                Err(error) if tree::is_damage(&error) => return held.remove(&id, None),
                present => present?,
            };
            let user = present.as_ref().and_then(|present| present.user.as_ref());
            held.remove(&id, user)?;
            Ok(live(present, now).is_some())
        })
        .await
    }
}

/// The contract's `rotate`, with both records held: the new one is on the disk before the old one
/// goes.
fn rotate(
    held: &mut Held<'_>,
    ids: (&RecordId, &RecordId),
    record: &Record,
    expected: Version,
    now: Timestamp,
) -> Result<Rotated, StoreError> {
    let (old, new) = ids;
    let target = held.read(new)?;
    if old == new {
        let live = live(target, now).is_some();
        return Ok(if live { Rotated::Exists } else { Rotated::Gone });
    }
    let source = live(held.read(old)?, now);
    let user = source.as_ref().and_then(|source| source.user.clone());
    match target.as_ref().filter(|target| !target.is_expired(now)) {
        Some(target) if target.version == record.version => match source {
            // Sent again after the old one could not be removed, and written to since.
            Some(source) if source.version != expected => {
                held.remove(new, record.user.as_ref())?;
                Ok(Rotated::Conflict(source))
            }
            _ => {
                held.sync(new)?;
                held.remove(old, user.as_ref())?;
                Ok(Rotated::Done)
            }
        },
        Some(_) => Ok(Rotated::Exists),
        None => match source {
            None => Ok(Rotated::Gone),
            Some(source) if source.version != expected => Ok(Rotated::Conflict(source)),
            Some(_) => {
                held.put(new, target.as_ref(), record)?;
                held.remove(old, user.as_ref())?;
                Ok(Rotated::Done)
            }
        },
    }
}

fn live(record: Option<Record>, now: Timestamp) -> Option<Record> {
    record.filter(|record| !record.is_expired(now))
}

fn check_size(record: &Record) -> Result<(), StoreError> {
    let user = record.user.as_ref().map_or("", UserId::as_str);
    if Record::HEADER_LEN + user.len() + record.payload.len() > RECORD_FILE_MAX {
        let problem = "a record has at most 16 MiB";
        return Err(StoreError::new(STORE, StoreErrorKind::TooLarge, problem));
    }
    Ok(())
}

/// Runs a piece of work where it may wait for the disk. Once begun it runs to its end, also if this
/// future is dropped.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let task = tokio::task::spawn_blocking(work);
    let _unless_begun = Abort(task.abort_handle());
    match task.await {
        Ok(answer) => answer,
        // The text of a panic may hold anything.
        Err(error) if error.is_panic() => Err(fault::refused("the work has panicked")),
        Err(_) => Err(fault::unavailable("the runtime is at its end")),
    }
}

/// Takes work out of the queue that nobody waits for any more. A disk that hangs would otherwise find
/// all of it when it returns.
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}
