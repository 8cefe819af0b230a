//! The contract, on every store.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod memory;
