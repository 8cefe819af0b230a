//! File stores in folders that are removed with them.

use std::time::SystemTime;

use tempfile::TempDir;
use tower_keep::{Clock, FileStore, SystemClock};

use super::temporary_folder;

/// An empty store in a folder of its own.
pub fn file_store() -> FileStore {
    file_store_with(SystemClock)
}

/// The same, with that clock.
pub fn file_store_with(clock: impl Clock) -> FileStore {
    let folder = temporary_folder();
    let store = FileStore::open(folder.path()).unwrap();
    store.with_clock(KeepsFolder {
        clock,
        _folder: folder,
    })
}

/// A store whose folder has gone away while it was open.
pub fn file_store_without_folder() -> FileStore {
    let folder = temporary_folder();
    let store = FileStore::open(folder.path()).unwrap();
    folder.close().unwrap();
    store
}

/// A store has its clock for as long as it lives, and so the clock takes the folder with it.
#[derive(Debug)]
struct KeepsFolder<C> {
    clock: C,
    _folder: TempDir,
}

impl<C: Clock> Clock for KeepsFolder<C> {
    fn now(&self) -> SystemTime {
        self.clock.now()
    }
}
