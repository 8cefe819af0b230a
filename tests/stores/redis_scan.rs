//! A walk through the sessions of servers that change meanwhile.

use std::collections::BTreeSet;

use tower_keep::{Created, Cursor, RecordId, RedisStore, ScanSessions, SessionStore};
use tower_keep_servers::{Kind, Server};

use crate::{
    redis_places::patient,
    sql_places::{HOUR, new_id, now, record},
};

async fn fill(store: &RedisStore) -> BTreeSet<RecordId> {
    let ours = record(now(), HOUR, None);
    let mut ids = BTreeSet::new();
    for _ in 0..COUNT {
        let id = new_id();
        assert_eq!(store.create(&id, &ours).await.unwrap(), Created::Done);
        ids.insert(id);
    }
    ids
}

/// So many pages, or all that are left.
async fn pages(
    store: &RedisStore,
    mut after: Option<Cursor>,
    count: usize,
    seen: &mut BTreeSet<RecordId>,
) -> Option<Cursor> {
    for _ in 0..count {
        let page = store.scan(after.as_ref(), 20).await.unwrap();
        seen.extend(page.sessions.iter().map(|session| session.id));
        after = page.next;
        after.as_ref()?;
    }
    after
}

/// One that is started anew has its keys in another order.
#[tokio::test]
async fn a_scan_goes_on_behind_a_restart_and_misses_nothing() {
    let server = Server::start_with(Kind::Redis, &["--appendonly", "yes"]).await;
    let store = patient(&server.url());
    let ids = fill(&store).await;
    for behind in [1, COUNT / 40, COUNT / 20 - 10] {
        let mut seen = BTreeSet::new();
        let after = pages(&store, None, behind, &mut seen).await;
        assert!(after.is_some() && seen.len() < COUNT, "{}", seen.len());
        server.kill9().await;
        server.start_again().await;
        let end = pages(&store, after, usize::MAX, &mut seen).await;
        assert_eq!((end, seen.len()), (None, COUNT), "{behind}");
        assert_eq!(seen, ids);
    }
}

/// As many as take some dozens of pages.
const COUNT: usize = 1000;
