//! The cases that the benchmarks measure, and how they measure them.
//!
//! A contender is an axum router with the routes of [`cases`]; the first one is bare, without
//! sessions, and what the others cost is told over it.

mod allocations;
mod bare;
mod cases;
mod contender;
mod measure;

pub use self::{
    allocations::CountingAllocator,
    bare::bare,
    cases::{CASES, Case, PREFERENCE_LEN, preferences},
    contender::Contender,
    measure::{Added, main, print_table},
};
