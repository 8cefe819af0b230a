//! `FileStore` against the contract.

use tower_keep::testing::{
    conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests,
};

use crate::{
    model::model_tests,
    support::{file_store, file_store_with, file_store_without_folder},
};

conformance_tests!(file_store(), unreachable = file_store_without_folder());
user_sessions_tests!(file_store());
delete_expired_tests!(file_store());
scan_sessions_tests!(file_store());
model_tests!(|clock| async move { file_store_with(clock) });
