//! Folders that go with the test.

use std::path::Path;

use tempfile::TempDir;

/// Where there is a file system in memory, there: thousands of syncs to a disk take minutes.
/// The tests of what a crash leaves do not depend on it, for the system outlives the process.
pub(crate) fn temporary_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")),
    }
    .unwrap()
}
