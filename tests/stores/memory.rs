//! `MemoryStore` against the contract.

use tower_keep::{
    MemoryStore,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

conformance_tests!(MemoryStore::new());
user_sessions_tests!(MemoryStore::new());
delete_expired_tests!(MemoryStore::new());
scan_sessions_tests!(MemoryStore::new());
