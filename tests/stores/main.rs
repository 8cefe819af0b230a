//! The contract, on every store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::manual_async_fn,
    clippy::single_match_else,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

mod cached;
mod cached_costs;
mod cached_doubts;
mod cached_hangs;
#[cfg(unix)]
mod cached_outages;
mod cached_steps;
mod cached_stops;
mod caches;
#[cfg(unix)]
mod encrypted;
mod file;
#[cfg(unix)]
mod file_faults;
#[cfg(unix)]
mod file_processes;
#[cfg(unix)]
mod file_sweep;
mod memcached;
#[cfg(unix)]
mod memcached_faults;
mod memory;
mod migrating;
mod migrating_steps;
mod model;
mod mysql;
#[cfg(unix)]
mod near_processes;
mod open;
#[cfg(unix)]
mod outages;
mod patient;
mod postgres;
#[cfg(unix)]
mod postgres_near;
mod redis;
mod redis_commands;
mod redis_damage;
mod redis_deadlines;
mod redis_doubts;
#[cfg(unix)]
mod redis_faults;
mod redis_near;
#[cfg(unix)]
mod redis_near_faults;
mod redis_places;
mod redis_quiet;
mod redis_rights;
mod redis_rotation;
mod redis_scan;
#[cfg(unix)]
mod secrets;
mod sql_clocks;
mod sql_damage;
#[cfg(unix)]
mod sql_faults;
mod sql_places;
mod sql_plans;
mod sql_schema;
mod sql_statements;
mod sqlite;
mod sweeper;
mod timeouts;
mod wrappers;
