//! The contract, on every store.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
mod file;
#[cfg(unix)]
mod file_faults;
#[cfg(unix)]
mod file_processes;
#[cfg(unix)]
mod file_sweep;
mod memory;
mod model;
mod mysql;
mod postgres;
mod sqlite;
mod sweeper;
mod wrappers;
