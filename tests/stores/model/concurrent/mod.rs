//! Requests that overlap, and what must be true of their history.

mod handler;
mod history;
mod record;
mod runner;
mod script;

pub(super) use self::{runner::run, script::scripts};
