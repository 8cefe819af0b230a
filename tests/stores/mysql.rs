//! `MySqlStore` against the contract, on a MariaDB server of the tests' own.

use tower_keep::testing::{
    conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests,
};

use crate::{model::model_tests, support::mysql};

conformance_tests!(mysql(5));
user_sessions_tests!(mysql(5));
delete_expired_tests!(mysql(5));
scan_sessions_tests!(mysql(5));
model_tests!(|clock| async move { mysql(5).with_clock(clock) });
