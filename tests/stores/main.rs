//! The contract, on every store.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod memory;
mod model;

mod sqlite;
