//! What the layer adds to a request: time and heap allocations over the bare router.
//!
//! `cargo bench --all-features --bench cost`. The same beside other crates: `benches/peers`.

#![allow(missing_docs, clippy::expect_used)]

use tower_keep::MemoryStore;
use tower_keep_harness::{Contender, CountingAllocator, bare, main as measure};

mod keep;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() {
    measure(&[
        Contender::new("bare", bare()),
        Contender::new("tower-keep", keep::router(MemoryStore::new())),
    ]);
}
