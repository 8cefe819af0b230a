//! What tower-keep, tower-sessions and axum_session add to a request, side by side.
//!
//! `cargo run --release` here. Everyone keeps sessions in memory and has its default options; the
//! handlers do the same work, over the same data, on the same runtime.

use tower_keep::MemoryStore;
use tower_keep_harness::{Contender, CountingAllocator, bare, main as measure};

mod axum_session;
#[path = "../../cost/keep.rs"]
mod keep;
mod tower_sessions;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let axum_session = runtime.expect("a runtime").block_on(axum_session::router());
    measure(&[
        Contender::new("bare", bare()),
        Contender::new("tower-keep 0.1.0", keep::router(MemoryStore::new())),
        Contender::new("tower-sessions 0.15.0", tower_sessions::router()),
        Contender::new("axum_session 0.22.1", axum_session),
    ]);
}
