//! The program `tower-keep`, over real stores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    missing_docs
)]
#![cfg(unix)]

/// Makes a test for each store out of a function that takes its name.
macro_rules! on_each_store {
    ($($test:ident)*) => { $(
        mod $test {
            on_each_store!(@ $test file on_files);
            on_each_store!(@ $test sqlite on_sqlite);
            on_each_store!(@ $test postgres on_postgres);
            on_each_store!(@ $test mysql on_mysql);
            on_each_store!(@ $test redis on_redis);
            on_each_store!(@ $test redis_cluster on_redis_cluster);
            on_each_store!(@ $test redis_sentinel on_redis_behind_sentinels);
        }
    )* };
    (@ $test:ident $store:ident $name:ident) => {
        #[tokio::test]
        async fn $name() {
            super::$test(stringify!($store)).await;
        }
    };
}

mod copying;
mod ending;
mod health;
mod million;
mod mixed;
#[path = "../support/patience.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod patience;
mod place;
mod program;
mod reading;
mod refusals;
mod sessions;
mod stopped;
mod tables;
