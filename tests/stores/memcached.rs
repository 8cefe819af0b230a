//! `MemcachedStore` against the contract, over two nodes.

use std::time::Duration;

use tower_keep::{MemcachedStore, testing::conformance_tests};

use crate::{model::model_tests, support::memcached};

/// Nobody listens there.
fn unreachable() -> MemcachedStore {
    let store = MemcachedStore::open("memcached://127.0.0.1:1,127.0.0.1:2").unwrap();
    store.with_timeout(Duration::from_millis(200))
}

conformance_tests!(memcached(), unreachable = unreachable());
model_tests!(|clock| async move { memcached().with_clock(clock) });
