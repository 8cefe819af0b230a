//! How much of what can be tried is tried: all of it with `TOWER_KEEP_TEST_ALL=1`.

use std::{
    env,
    hash::{BuildHasher, RandomState},
};

use super::test_store::CHOICE;

pub fn all_is_tried() -> bool {
    env::var_os("TOWER_KEEP_TEST_ALL").is_some()
}

/// 1 if all is to be tried, otherwise that.
pub fn one_in(part: usize) -> usize {
    if all_is_tried() { 1 } else { part }
}

/// The same for what does not depend on the store. In memory all of it is tried.
pub fn one_in_elsewhere(part: usize) -> usize {
    match env::var_os(CHOICE) {
        Some(_) => one_in(part),
        None => 1,
    }
}

/// One of so many, each time others.
pub fn some_of<T>(all: impl IntoIterator<Item = T>, part: usize) -> impl Iterator<Item = T> {
    let [random, ..] = RandomState::new().hash_one(()).to_le_bytes();
    all.into_iter()
        .skip(usize::from(random) % part)
        .step_by(part)
}
