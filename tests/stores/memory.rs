//! `MemoryStore` against the contract.

use tower_keep::{
    MemoryStore,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

use crate::model::model_tests;

conformance_tests!(MemoryStore::new());
user_sessions_tests!(MemoryStore::new());
delete_expired_tests!(MemoryStore::new());
scan_sessions_tests!(MemoryStore::new());
model_tests!(|clock| async move { MemoryStore::new().with_clock(clock) });
