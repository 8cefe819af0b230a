//! `MySqlStore` against the contract, on a MariaDB server of the tests' own.

use std::time::Duration;

use sqlx::mysql::MySqlPoolOptions;
use tower_keep::{
    MySqlStore,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

use crate::{model::model_tests, support::mysql};

/// Nobody listens there.
fn unreachable() -> MySqlStore {
    let pool = MySqlPoolOptions::new()
        .acquire_timeout(Duration::from_millis(100))
        .connect_lazy("mysql://app:hunter2@127.0.0.1:1/app");
    MySqlStore::new(pool.unwrap())
}

conformance_tests!(mysql(5), unreachable = unreachable());
user_sessions_tests!(mysql(5));
delete_expired_tests!(mysql(5));
scan_sessions_tests!(mysql(5));
model_tests!(|clock| async move { mysql(5).with_clock(clock) });
