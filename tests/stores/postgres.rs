//! `PostgresStore` against the contract, on a server of the tests' own.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use tower_keep::{
    PostgresStore,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

use crate::{model::model_tests, support::postgres};

/// Nobody listens there.
fn unreachable() -> PostgresStore {
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(100))
        .connect_lazy("postgres://app:hunter2@127.0.0.1:1/app");
    PostgresStore::new(pool.unwrap())
}

conformance_tests!(postgres(5), unreachable = unreachable());
user_sessions_tests!(postgres(5));
delete_expired_tests!(postgres(5));
scan_sessions_tests!(postgres(5));
model_tests!(|clock| async move { postgres(5).with_clock(clock) });
