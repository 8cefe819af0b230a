//! The file that holds the sessions.

use std::{fs, io, path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub(crate) async fn open(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    create_private(file)?;
    let options = SqliteConnectOptions::new()
        .filename(file)
        // Requests read while one writes.
        .journal_mode(SqliteJournalMode::Wal)
        // A logout that was acknowledged outlives a power failure. FULL is SQLite's default, but a
        // library that somebody else has built may have another one for WAL.
        .synchronous(SqliteSynchronous::Full);
    SqlitePoolOptions::new()
        .acquire_timeout(ACQUIRE_TIME_MAX)
        .connect_with(options)
        .await
}

/// Makes the file unless it is there, for the owner alone: SQLite would let everybody read it.
/// What SQLite puts beside it, `-wal` and `-shm`, it makes with the same mode.
///
/// That is why `create_if_missing` stays off: it would make a new file for everybody to read, and an
/// empty one, should this one disappear from under the pool.
fn create_private(file: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)] // Elsewhere the folder decides who may read.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Shorter than the two seconds for which the layer waits for its store.
const ACQUIRE_TIME_MAX: Duration = Duration::from_secs(1);
