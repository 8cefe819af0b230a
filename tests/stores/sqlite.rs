//! `SqliteStore` against the contract, in a file and in memory.

use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};
use tower_keep::{
    SqliteStore,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

use crate::{model::model_tests, support::TestStore};

/// A database in memory is one connection's own, and goes with it. A request that is dropped while
/// the pool tests the connection would close it.
async fn in_memory() -> SqliteStore {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect("sqlite::memory:")
        .await
        .unwrap();
    migrated(pool).await
}

async fn migrated(pool: SqlitePool) -> SqliteStore {
    let store = SqliteStore::new(pool);
    store.migrate().await.unwrap();
    store
}

/// The file can not be made.
fn unreachable() -> SqliteStore {
    let pool = SqlitePoolOptions::new().connect_lazy("sqlite:/nowhere/sessions.sqlite?mode=rwc");
    SqliteStore::new(pool.unwrap())
}

mod file {
    use super::*;

    conformance_tests!(TestStore::named("sqlite"), unreachable = unreachable());
    user_sessions_tests!(TestStore::named("sqlite"));
    delete_expired_tests!(TestStore::named("sqlite"));
    scan_sessions_tests!(TestStore::named("sqlite"));
    model_tests!(|clock| async move { TestStore::named("sqlite").with_clock(clock) });
}

mod memory {
    use super::*;

    conformance_tests!(in_memory().await);
    user_sessions_tests!(in_memory().await);
    delete_expired_tests!(in_memory().await);
    scan_sessions_tests!(in_memory().await);
    model_tests!(|clock| async move { in_memory().await.with_clock(clock) });
}
