//! For those who write a store, and for tests of applications.
//!
//! - [`conformance_tests!`] runs the contract of [`SessionStore`](crate::SessionStore) against a
//!   store, one named test a clause; [`user_sessions_tests!`], [`delete_expired_tests!`] and
//!   [`scan_sessions_tests!`] do the same for the capabilities that it has.
//! - [`record_cache_tests!`] does it for the contract of [`RecordCache`](crate::RecordCache).
//! - [`ManualClock`] moves time without waiting for it.
//! - [`CountingStore`] tells what a request costs, [`FaultyStore`] what happens when the store
//!   fails, hangs, or does the work and loses the reply.
//!
//! The tests of a store are then no longer than this. They need `tokio` with its features
//! `macros` and `rt-multi-thread`.
//!
//! ```
//! use tower_keep::{MemoryStore, testing::conformance_tests};
//!
//! conformance_tests!(MemoryStore::new());
//! ```

mod clock;
#[doc(hidden)]
#[allow(
    missing_docs,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "tests, which have to be public for the macros to call them"
)]
pub mod conformance;
mod counting;
mod faulty;

#[doc(inline)]
pub use crate::{
    conformance_tests, delete_expired_tests, record_cache_tests, scan_sessions_tests,
    user_sessions_tests,
};

pub use self::{
    clock::ManualClock,
    counting::{CountingStore, Counts},
    faulty::{Fault, FaultyStore, Operation},
};
