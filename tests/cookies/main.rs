//! Sessions in cookies, signed and encrypted, seen from outside.
//!
//! What they promise as every session does is tested here for both kinds, as far as the tests of `tests/http` look into
//! a store, which these have not; the others of those run over cookies too, see `tests/run`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod keys;
mod late;
mod lifecycle;
mod overtaken;
mod presented;
mod revocations;
mod sealed;
mod sizes;
mod without_revocations;
mod world;

use world::both_kinds;
