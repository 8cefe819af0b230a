//! Requests one after another, against a reference model that knows every answer.

mod handler;
mod reference;
mod runner;
mod script;

pub(super) use self::{
    runner::run,
    script::{regressions, scripts},
};
