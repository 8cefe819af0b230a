//! From an address to a store that is there.

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tower_keep::{
    DeleteExpired, RecordId, ScanSessions, SessionStore, StoreError, StoreErrorKind, UserSessions,
    stores::{self, OpenStore},
};

use crate::exit::Refusal;

/// Opens a store and asks it for a session that nobody has, so that one that is away, or has no table, is
/// told before anything begins.
pub(crate) async fn open(url: &str) -> anyhow::Result<OpenStore> {
    // It would be made, and what was mistyped would be an empty store.
    if let Some(path) = path_of(url).filter(|path| !path.exists()) {
        let missing = format!("{} is not there; run `tower-keep migrate`", path.display());
        return Err(Refusal::Lacks(missing).into());
    }
    let store = open_unasked(url).await?;
    check(&store).await?;
    Ok(store)
}

/// The file or folder of a store that is one.
fn path_of(url: &str) -> Option<&Path> {
    if let Some(folder) = url.strip_prefix("file://") {
        return Some(Path::new(folder));
    }
    let file = url.strip_prefix("sqlite:")?;
    let file = file.strip_prefix("//").unwrap_or(file);
    let file = file.split(['?', '#']).next()?;
    // One with escapes is looked for by SQLite alone.
    let is_plain = !file.is_empty() && !file.contains('%') && file != ":memory:";
    is_plain.then_some(Path::new(file))
}

/// The same for a store that may still have no table.
pub(crate) async fn open_without_table(url: &str) -> anyhow::Result<OpenStore> {
    let store = open_unasked(url).await?;
    match check(&store).await {
        Err(error) if is_away(&error) => Err(error),
        Ok(()) | Err(_) => Ok(store),
    }
}

/// For what is known of a store without asking it.
pub(crate) async fn open_unasked(url: &str) -> anyhow::Result<OpenStore> {
    let opened = tokio::time::timeout(CONNECT_TIMEOUT, stores::open(url)).await;
    let store = match opened {
        Ok(Ok(store)) => store,
        Ok(Err(error)) => return Err(wrong_address(error)),
        Err(_) => return Err(Refusal::Unavailable(SILENT.to_owned()).into()),
    };
    if store.kind() == "memory" {
        let nothing = "a store in memory is gone with its process: name one that lasts";
        return Err(Refusal::Usage(nothing.to_owned()).into());
    }
    Ok(store)
}

/// An address that is none is a fault of the command line, unless a file or a folder is in the way.
fn wrong_address(error: StoreError) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    let is_of_system = error.chain().any(|cause| cause.is::<io::Error>());
    match error.chain().last() {
        Some(cause) if !is_of_system => Refusal::Usage(format!("wrong address: {cause}")).into(),
        _ => error,
    }
}

pub(crate) fn scan_of(store: &OpenStore) -> anyhow::Result<Arc<dyn ScanSessions>> {
    let lacks = || lacks(store, "can not be read from one end to the other");
    store.as_scan_sessions().with_context(lacks)
}

pub(crate) fn users_of(store: &OpenStore) -> anyhow::Result<Arc<dyn UserSessions>> {
    let lacks = || lacks(store, "does not find the sessions of a user");
    store.as_user_sessions().with_context(lacks)
}

/// `None` for a store that lets go of what has expired by itself.
pub(crate) fn sweep_of(store: &OpenStore) -> Option<Arc<dyn DeleteExpired>> {
    store.as_delete_expired()
}

fn lacks(store: &OpenStore, what: &str) -> Refusal {
    Refusal::Lacks(format!("{} {what}", store.kind()))
}

/// Asks for a session that nobody has; twice, as a store gives up soon and the server may only be busy.
pub(crate) async fn check(store: &OpenStore) -> anyhow::Result<()> {
    let asked = async {
        match store.load(&NOBODYS).await {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => store.load(&NOBODYS).await,
            asked => asked,
        }
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Refusal::Unavailable(format!("{}: {SILENT}", store.kind())).into()),
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<StoreError>() {
        Some(error) => error.kind() == StoreErrorKind::Unavailable,
        None => true,
    }
}

/// No hash is known that is this.
const NOBODYS: RecordId = RecordId::from_bytes([0; RecordId::LEN]);

/// For a far server that is busy; one that is down has refused long before.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const SILENT: &str = "the store did not answer within 10 seconds";
