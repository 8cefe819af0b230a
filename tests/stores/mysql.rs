//! `MySqlStore` against the contract, on a server of its own.

use sqlx::mysql::MySqlPoolOptions;
use tower_keep::{
    MySqlStore, TableName,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

use crate::model::model_tests;

async fn store() -> MySqlStore {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static N: AtomicUsize = AtomicUsize::new(0);
    let pool = MySqlPoolOptions::new()
        .max_connections(5)
        .connect(&std::env::var("KEEP_MY").unwrap())
        .await
        .unwrap();
    let store = MySqlStore::new(pool).with_table(TableName::parse(&format!("t{}_{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed))).unwrap());
    store.migrate().await.unwrap();
    store
}

conformance_tests!(store().await);
user_sessions_tests!(store().await);
delete_expired_tests!(store().await);
scan_sessions_tests!(store().await);
model_tests!(|clock| async move { store().await.with_clock(clock) });
