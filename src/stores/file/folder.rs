//! A folder that is held open, and what is done in it: no path is walked twice, no link is followed.

use std::{
    fs::File,
    io::{Read, Write},
};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, chmodat, fchmod, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};

use super::fault::{corrupt, failed, unavailable};
use crate::{
    error::StoreError,
    id::{SystemRandom, WriteToken},
};

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(File);

impl Folder {
    pub(super) fn from_file(file: File) -> Self {
        Self(file)
    }

    pub(super) fn as_file(&self) -> &File {
        &self.0
    }

    /// The folder of that name in this one, or `None` if there is nothing of that name.
    pub(super) fn child(&self, name: &str) -> Result<Option<Self>, StoreError> {
        match openat(&self.0, name, FOLDER, Mode::empty()) {
            Ok(folder) => Ok(Some(Self(folder.into()))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("opening a folder")(errno)),
        }
    }

    /// The folder of that name in this one, made if it is missing. [Sync](Self::sync) this one then.
    pub(super) fn made_child(&self, name: &str) -> Result<Self, StoreError> {
        match mkdirat(&self.0, name, FOLDER_MODE) {
            // Whatever the umask has taken away.
            Ok(()) => chmodat(&self.0, name, FOLDER_MODE, AtFlags::empty())
                .map_err(failed("setting the mode of a folder"))?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("making a folder")(errno)),
        }
        self.child(name)?
            .ok_or_else(|| unavailable("a folder is gone as soon as it is made"))
    }

    /// The first bytes of a file, at most `limit`, or `None` if there is nothing of that name.
    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let file: File = match openat(&self.0, name, FILE, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            // A symbolic link (FreeBSD says `MLINK`); a socket.
            Err(Errno::LOOP | Errno::MLINK | Errno::NXIO) => return Err(no_file()),
            Err(errno) => return Err(failed("opening a record")(errno)),
        };
        let found = file.metadata().map_err(failed("looking at a record"))?;
        if !found.is_file() {
            return Err(no_file());
        }
        let size = usize::try_from(found.len()).unwrap_or(limit).min(limit);
        let mut bytes = Vec::with_capacity(size + 1);
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(failed("reading a record"))?;
        Ok(Some(bytes))
    }

    /// Puts a file into another folder of the same file system, in the place of whatever is there: a
    /// link is replaced, not followed. When this returns it is on the disk; if it fails, what was
    /// there is still there, or the new file is, never a part.
    ///
    /// Until then the bytes lie in this folder.
    pub(super) fn put(&self, target: &Self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = Temporary::write(self, bytes)?;
        renameat(&self.0, &temporary.name, &target.0, name)
            .map_err(failed("putting a record in its place"))?;
        temporary.keep_in_place();
        target.sync()
    }

    /// Makes an empty file, or leaves the one that is there; `false` if this folder has been removed.
    pub(super) fn put_empty(&self, name: &str) -> Result<bool, StoreError> {
        let flags = FILE | OFlags::CREATE;
        let file: File = match openat(&self.0, name, flags, FILE_MODE) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed("making a file of the user index")(errno)),
        };
        fchmod(&file, FILE_MODE).map_err(failed("setting the mode of a file"))?;
        file.sync_all()
            .map_err(failed("syncing a file of the user index"))?;
        Ok(true)
    }

    /// An empty file that is there for its lock.
    pub(super) fn lock_file(&self) -> Result<File, StoreError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::CREATE;
        let file = openat(&self.0, LOCK, flags, FILE_MODE).map_err(failed("opening a lock"))?;
        fchmod(&file, FILE_MODE).map_err(failed("setting the mode of a lock"))?;
        Ok(file.into())
    }

    /// Removes what has that name, the link and not what it points to. Answers whether there was
    /// anything. [Sync](Self::sync) then, if it may not come back.
    pub(super) fn remove(&self, name: &str) -> Result<bool, StoreError> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("removing a file")(errno)),
        }
    }

    /// Removes the folder of that name if it is empty.
    pub(super) fn remove_empty_child(&self, name: &str) -> Result<(), StoreError> {
        match unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(failed("removing a folder")(errno)),
        }
    }

    /// The names in it, in order.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = Dir::read_from(&self.0).map_err(failed("listing a folder"))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("listing a folder"))?;
            // A name that is no text is none of ours.
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Returns once the names in it are on the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.0.sync_all().map_err(failed("syncing a folder"))
    }
}

/// Whether a file is one that a killed writer has left behind, for its folder's lock is ours.
pub(super) fn is_leftover(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// A file that is removed unless it gets its place.
struct Temporary<'a> {
    folder: &'a Folder,
    name: String,
    in_place: bool,
}

impl<'a> Temporary<'a> {
    fn write(folder: &'a Folder, bytes: &[u8]) -> Result<Self, StoreError> {
        let token = WriteToken::generate(&SystemRandom).map_err(|error| {
            StoreError::new(
                super::fault::STORE,
                crate::error::StoreErrorKind::Other,
                error,
            )
        })?;
        let name = format!("{TEMPORARY}{}", super::tree::hex(token.as_bytes()));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder.0, &name, flags, FILE_MODE).map_err(failed("making a file"))?;
        let mut file = File::from(file);
        let temporary = Self {
            folder,
            name,
            in_place: false,
        };
        fchmod(&file, FILE_MODE).map_err(failed("setting the mode of a file"))?;
        file.write_all(bytes).map_err(failed("writing a record"))?;
        file.sync_all().map_err(failed("syncing a record"))?;
        Ok(temporary)
    }

    fn keep_in_place(mut self) {
        self.in_place = true;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.in_place {
            // What can not be removed now is removed by the sweep.
            let _ = self.folder.remove(&self.name);
        }
    }
}

fn no_file() -> StoreError {
    corrupt("what lies in the record's place is not a file")
}

/// Without `NONBLOCK`, opening a named pipe would wait for somebody to write into it.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// For their owner alone: records hold the data of sessions.
const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

const LOCK: &str = "lock";
const TEMPORARY: &str = "new-";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_that_appears_in_the_place_of_a_file_is_replaced_and_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let victim = temporary.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, temporary.path().join("target")).unwrap();
        let folder = Folder::from_file(File::open(temporary.path()).unwrap());
        folder.put(&folder, "target", b"a record").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        let read = folder.read("target", 100).unwrap();
        assert_eq!(read.as_deref(), Some(b"a record".as_slice()));
        assert_eq!(folder.names().unwrap().len(), 4, "with `.` and `..`");
    }

    #[test]
    fn a_file_that_can_not_get_its_place_is_removed() {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("target")).unwrap();
        let folder = Folder::from_file(File::open(temporary.path()).unwrap());
        let _ = folder.put(&folder, "target", b"a record").unwrap_err();
        assert!(!folder.names().unwrap().iter().any(|name| is_leftover(name)));
    }
}
