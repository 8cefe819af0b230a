//! Random scripts of many clients against a store, for every store the same.
//!
//! - [`one_after_another`]: requests follow one another, time passes between them, some are cut off
//!   or fail. Each answer, and what then lies in the store, is what a reference model says.
//! - [`at_once`]: requests overlap as the script wants. Afterwards nothing that was acknowledged is
//!   missing, nothing that was ended lives, and nobody has seen what belongs to another.
//!
//! `PROPTEST_CASES=10000 cargo test --all-features --test stores model` runs more scripts.

mod concurrent;
mod gates;
mod minted;
mod sequential;
mod world;

use std::{env, fmt::Debug};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use tokio::runtime::{Builder, Runtime};
use tower_keep::{SessionStore, testing::ManualClock};

use self::world::World;
use crate::support::all_is_tried;

/// Runs the scripts on a store: `model_tests!(|clock| async move { … })`.
///
/// The closure opens the store for one script, inside of the runtime of that script. It may find
/// there what other scripts have left. The clock starts at the present time and only moves forward.
macro_rules! model_tests {
    ($open:expr) => {
        crate::model::model_tests!($open, crate::model::CASES);
    };
    ($open:expr, $cases:expr) => {
        mod model {
            #[allow(unused_imports, reason = "not every store needs a name from there")]
            use super::*;

            #[test]
            fn requests_one_after_another_are_answered_as_the_reference_model_predicts() {
                crate::model::one_after_another($open, $cases);
            }

            #[test]
            fn scripts_that_once_found_a_fault_find_none() {
                crate::model::once_more($open);
            }

            #[test]
            fn requests_at_once_lose_nothing_acknowledged_and_revive_nothing_ended() {
                crate::model::at_once($open, $cases);
            }
        }
    };
}
pub(crate) use model_tests;

pub(crate) fn one_after_another<S, F>(open: impl Fn(ManualClock) -> F, cases: u32)
where
    S: SessionStore,
    F: Future<Output = S>,
{
    check(cases, sequential::scripts(), &async |script| {
        sequential::run(&World::new(&open).await, script).await
    });
}

pub(crate) fn once_more<S, F>(open: impl Fn(ManualClock) -> F)
where
    S: SessionStore,
    F: Future<Output = S>,
{
    for script in sequential::regressions() {
        let run = async { sequential::run(&World::new(&open).await, &script).await };
        if let Err(problem) = runtime().block_on(run) {
            panic!("{problem}\nby the script {script:#?}");
        }
    }
}

pub(crate) fn at_once<S, F>(open: impl Fn(ManualClock) -> F, cases: u32)
where
    S: SessionStore,
    F: Future<Output = S>,
{
    check(cases, concurrent::scripts(), &async |script| {
        concurrent::run(&World::new(&open).await, script).await
    });
}

fn check<T: Debug + Clone>(
    cases: u32,
    scripts: impl Strategy<Value = T>,
    run: &impl AsyncFn(&T) -> Result<(), String>,
) {
    let mut config = Config {
        failure_persistence: None,
        max_shrink_iters: SHRINK_ITERATIONS_MAX,
        ..Config::default()
    };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases * if all_is_tried() { 4 } else { 1 };
    }
    let outcome = TestRunner::new(config).run(&scripts, |script| {
        let judged = runtime().block_on(run(&script));
        judged.map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, script)) => panic!("{reason}\nby the script {script:#?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.unwrap()
}

/// A few seconds each in a debug build, on a store in memory.
pub(crate) const CASES: u32 = 100;

const SHRINK_ITERATIONS_MAX: u32 = 4000;
