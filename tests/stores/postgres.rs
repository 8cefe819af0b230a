//! `PostgresStore` against the contract, on a server of the tests' own.

use tower_keep::testing::{
    conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests,
};

use crate::{model::model_tests, support::postgres};

conformance_tests!(postgres(5));
user_sessions_tests!(postgres(5));
delete_expired_tests!(postgres(5));
scan_sessions_tests!(postgres(5));
model_tests!(|clock| async move { postgres(5).with_clock(clock) });
