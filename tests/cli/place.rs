//! A store of each kind, by its address.

use std::{
    collections::BTreeMap,
    path::Path,
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::patience::patiently;
use tempfile::TempDir;
use tower_keep::{
    Created, Record, RecordId, ScanSessions, SessionStore, StoredSession,
    stores::{self, OpenStore},
};
use tower_keep_servers::{Cluster, Kind, Sentinels, Server};

/// An empty store that no other test uses.
#[derive(Debug)]
pub struct Place {
    pub url: String,
    pub store: OpenStore,
    _folder: TempDir,
}

impl Place {
    /// With its table, if it has one.
    pub async fn new(kind: &str) -> Self {
        let place = Self::without_table(kind).await;
        patiently(|| place.store.migrate()).await.unwrap();
        place
    }

    pub async fn without_table(kind: &str) -> Self {
        let folder = temporary_folder();
        let path = folder.path().join("sessions");
        let name = new_name();
        let url = match kind {
            "file" => format!("file://{}", path.display()),
            "sqlite" => format!("sqlite://{}", path.display()),
            "postgres" => server(Kind::Postgres, &name).await,
            "mysql" => server(Kind::MariaDb, &name).await,
            "redis" => server(Kind::Redis, &name).await,
            "redis_cluster" => format!("{}#{name}", Cluster::shared().await.url()),
            "redis_sentinel" => format!("{}#{name}", Sentinels::shared().await.url()),
            "memcached" => server(Kind::Memcached, &name).await,
            other => panic!("{other} is no store"),
        };
        let store = stores::open(&url).await.unwrap();
        Self {
            url,
            store,
            _folder: folder,
        }
    }

    pub async fn put(&self, sessions: impl IntoIterator<Item = &StoredSession>) {
        for session in sessions {
            let created = patiently(|| self.store.create(&session.id, &session.record)).await;
            assert_eq!(created.unwrap(), Created::Done);
        }
    }

    /// All that is there.
    pub async fn all(&self) -> BTreeMap<RecordId, Record> {
        let scan = self.store.as_scan_sessions().unwrap();
        let mut all = BTreeMap::new();
        let mut after = None;
        loop {
            let page = patiently(|| scan.scan(after.as_ref(), 1000)).await.unwrap();
            all.extend(page.sessions.into_iter().map(|one| (one.id, one.record)));
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }
}

async fn server(kind: Kind, name: &str) -> String {
    format!("{}#{name}", Server::shared(kind).await.url())
}

/// In memory where that is possible: each session is synced to the disk.
pub fn temporary_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")),
    }
    .unwrap()
}

fn new_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("cli_{}_{number}", process::id())
}
