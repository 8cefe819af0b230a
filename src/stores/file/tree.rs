//! The folder of a store: how it is laid out, opened, and known again.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf, absolute},
    sync::{Arc, atomic::AtomicU8},
};

use data_encoding::HEXLOWER;
use rustix::fs::{Mode, OFlags, open};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::{
    fault::{corrupt, failed, refused, unavailable},
    folder::Folder,
    lock::Synced,
};
use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::Record,
    user::UserId,
};

/// The open folder of a store.
///
/// ```text
/// records/ab/lock                 locks all below `records/ab` for a writer
/// records/ab/cd/abcd…             a record, under the 64 digits of its id
/// records/ab/new-…                a record that is being written
/// lock                            tells whose the folder is
/// users/01/lock                   locks the sessions of those users against rotation
/// users/01/0123…/abcd…            an empty file: this user (by SHA-256) may have this record
/// ```
pub(super) struct Tree {
    path: PathBuf,
    records_path: PathBuf,
    identity: (u64, u64),
    records: Folder,
    users: Folder,
    /// One for each folder below `records`, taken before its file lock.
    pub(super) record_locks: Vec<Arc<Mutex<Synced>>>,
    /// The same locks for `users`.
    pub(super) user_locks: Vec<Arc<Mutex<Synced>>>,
    /// Where the last sweep stopped.
    pub(super) swept: AtomicU8,
}

impl Tree {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = absolute(folder).map_err(failed("looking for the folder of the store"))?;
        let (root, own) = open_root(&path)?;
        let records = root.made_child(RECORDS)?;
        let users = root.made_child(USERS)?;
        for part in [&records, &users] {
            check_owner(part, own)?;
            for stripe in 0..=u8::MAX {
                check_owner(&part.made_child(&hex(&[stripe]))?, own)?;
            }
            part.sync()?;
        }
        root.sync()?;
        let records_path = path.join(RECORDS);
        let here = records
            .as_file()
            .metadata()
            .map_err(failed("looking at the folder of the store"))?;
        let locks = || (0..=u8::MAX).map(|_| Arc::default()).collect();
        let tree = Self {
            path,
            records_path,
            identity: (here.dev(), here.ino()),
            records,
            users,
            record_locks: locks(),
            user_locks: locks(),
            swept: AtomicU8::new(0),
        };
        tree.check_presence()?;
        Ok(tree)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the folder that was opened is still the one under its path.
    ///
    /// Folders stay open when a disk is taken away or a folder is replaced. Without this, what is
    /// missing in a store that is out would look like sessions that have ended, and two processes
    /// could go on in two different folders.
    pub(super) fn check_presence(&self) -> Result<(), StoreError> {
        match fs::metadata(&self.records_path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => Ok(()),
            Ok(_) => Err(unavailable("the folder of the store has been replaced")),
            Err(error) => Err(failed("looking for the folder of the store")(error)),
        }
    }

    /// The folder below `records` of all ids with that first byte.
    pub(super) fn records(&self, stripe: u8) -> Result<Folder, StoreError> {
        let folder = self.records.child(&hex(&[stripe]))?;
        folder.ok_or_else(|| unavailable("a part of the store's folder is missing"))
    }

    /// The folder below `users` of all users with that first byte.
    pub(super) fn users(&self, stripe: u8) -> Result<Folder, StoreError> {
        let folder = self.users.child(&hex(&[stripe]))?;
        folder.ok_or_else(|| unavailable("a part of the store's folder is missing"))
    }

    /// The record in the place of that id, alive or not.
    pub(super) fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        match self.records(stripe_of(id))?.child(&shelf_of(id))? {
            Some(shelf) => read_record(&shelf, id),
            None => Ok(None),
        }
    }
}

/// Reads a whole record.
pub(super) fn read_record(shelf: &Folder, id: &RecordId) -> Result<Option<Record>, StoreError> {
    match shelf.read(&id.to_hex(), RECORD_FILE_MAX + 1)? {
        None => Ok(None),
        Some(bytes) if bytes.len() > RECORD_FILE_MAX => Err(corrupt("the record is too long")),
        Some(bytes) => parse(bytes).map(Some),
    }
}

/// Reads a record up to its payload, which is cut off.
pub(super) fn read_head(shelf: &Folder, id: &RecordId) -> Result<Option<Record>, StoreError> {
    let bytes = shelf.read(&id.to_hex(), Record::HEADER_LEN + UserId::LEN_MAX)?;
    bytes.map(parse).transpose()
}

fn parse(bytes: Vec<u8>) -> Result<Record, StoreError> {
    Record::from_bytes(bytes)
        .map_err(|error| StoreError::new(super::fault::STORE, error.kind(), error))
}

/// Whether one record is damaged, and all others can be read.
pub(super) fn is_damage(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        StoreErrorKind::Corrupt | StoreErrorKind::Unsupported
    )
}

/// The folder below `records` that an id belongs to: its first byte.
pub(super) fn stripe_of(id: &RecordId) -> u8 {
    id.as_bytes()[0]
}

/// The name of the folder in there: the second byte.
pub(super) fn shelf_of(id: &RecordId) -> String {
    hex(&id.as_bytes()[1..2])
}

/// The folder below `users` that a user belongs to, and the name of his own in there.
pub(super) fn place_of(user: &UserId) -> (u8, String) {
    let hash = Sha256::digest(user.as_str());
    (hash[0], hex(&hash))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Reads the name of a folder of the tree.
pub(super) fn parse_byte(name: &str) -> Option<u8> {
    match HEXLOWER.decode(name.as_bytes()).ok()?[..] {
        [byte] => Some(byte),
        _ => None,
    }
}

/// Reads the name of a record.
pub(super) fn parse_id(name: &str) -> Option<RecordId> {
    let bytes = HEXLOWER.decode(name.as_bytes()).ok()?;
    bytes.try_into().ok().map(RecordId::from_bytes)
}

/// The folder, and the user whose it and this process are.
fn open_root(path: &Path) -> Result<(Folder, u32), StoreError> {
    let made = match fs::DirBuilder::new().mode(OWNER_ALONE).create(path) {
        Ok(()) => {
            // Whatever the umask has taken away.
            let own = fs::Permissions::from_mode(OWNER_ALONE);
            fs::set_permissions(path, own).map_err(failed("setting the mode of the folder"))?;
            true
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(failed("making the folder of the store")(error)),
    };
    match sync_parent(path) {
        // Whoever has made it has had the right to.
        Err(_) if !made => {}
        synced => synced?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(path, flags, Mode::empty()).map_err(failed("opening the store's folder"))?;
    let root = Folder::from_file(root.into());
    check_mode(&root)?;
    // A file that this process makes tells whose process it is, and that it may make files there.
    let probe = root.lock_file()?;
    let own = probe.metadata().map_err(failed("looking at a lock"))?;
    check_owner(&root, own.uid())?;
    Ok((root, own.uid()))
}

/// Whether nobody else can put anything into a folder of the store.
fn check_owner(folder: &Folder, own: u32) -> Result<(), StoreError> {
    if check_mode(folder)?.uid() != own {
        return Err(refused(
            "the store's folder belongs to another user: run as that user, or `chown -R` it",
        ));
    }
    Ok(())
}

fn check_mode(folder: &Folder) -> Result<fs::Metadata, StoreError> {
    let found = folder
        .as_file()
        .metadata()
        .map_err(failed("looking at the store's folder"))?;
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(refused(
            "the store's folder can be written by others than its owner: `chmod -R go-w` it, or choose a folder of the application's own",
        ));
    }
    Ok(found)
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(failed("syncing the folder of the store's folder"))
}

const RECORDS: &str = "records";
const USERS: &str = "users";

/// The mode of the store's folder.
const OWNER_ALONE: u32 = 0o700;

/// The bits of a mode that let a group or everybody write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The longest record that is written or read: 16 MiB, more than any session should be, and little
/// enough for a damaged or planted file not to fill the memory.
pub(super) const RECORD_FILE_MAX: usize = 16 * 1024 * 1024;
