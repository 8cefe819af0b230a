//! An application behind the layer, seen from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod aborts;
mod caching;
mod cancellation;
mod clocks;
mod collisions;
mod concurrency;
mod contention;
mod cookies_in;
mod cookies_large;
mod cookies_out;
mod costs;
mod counted;
mod damage;
mod detours;
mod devices;
mod django;
mod drain;
mod expiry;
mod failures;
mod handles;
mod interplay;
mod late;
mod late_deadlines;
mod lifecycle;
mod lost_replies;
mod outages;
mod panics;
mod save;
mod secrets;
mod slow;
mod smoke;
