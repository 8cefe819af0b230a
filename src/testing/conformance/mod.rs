//! The contract of the stores as tests. The macros name them; the functions do them.

mod cache;
mod capabilities;
mod clauses;
mod fixtures;

pub use self::{cache::*, capabilities::*, clauses::*};

/// Tests a store against the contract of [`SessionStore`](crate::SessionStore), one test a clause.
///
/// Takes an expression for the store, which may `.await`, and is evaluated anew for each test. All
/// of them may share one server: no two use the same ids.
///
/// With `unreachable = …`, a store whose server cannot be reached, the two clauses about outages
/// are tested on the real thing.
///
/// The tests go by the store's own clock, which has to be the time of day.
///
/// # Examples
///
/// ```
/// use tower_keep::{MemoryStore, testing::conformance_tests};
///
/// async fn connect(_url: &str) -> MemoryStore {
///     MemoryStore::new()
/// }
///
/// conformance_tests!(connect("store://localhost").await);
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($store:expr $(, unreachable = $unreachable:expr)? $(,)?) => {
        $crate::conformance_tests! { @tests $store;
            c01_load_is_honest
            c02_create_inserts_and_never_replaces
            c03_nothing_comes_back
            c04_update_and_rotate_compare_and_set
            c05_sent_twice_is_applied_once
            c06_rotation_leaves_exactly_one_live_id
            c07_touch_moves_the_deadline_alone_and_only_later
            c08_a_record_comes_back_byte_for_byte
            c09_deleting_nothing_is_no_error
            c10_concurrent_writers_lose_nothing
            c11_a_cancelled_call_leaves_before_or_after
            c12_errors_and_debug_are_quiet
        }
        $($crate::conformance_tests! { @tests $unreachable;
            c01_an_outage_is_an_error
            c12_the_errors_of_an_outage_are_quiet
        })?
    };
    (@tests $store:expr; $($test:ident)*) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $test() {
                $crate::testing::conformance::$test(::std::sync::Arc::new($store)).await;
            }
        )*
    };
}

/// Tests a store against the clauses of [`UserSessions`](crate::UserSessions), as
/// [`conformance_tests!`](crate::conformance_tests) does for the contract itself.
#[macro_export]
macro_rules! user_sessions_tests {
    ($store:expr) => {
        $crate::conformance_tests! { @tests $store;
            u01_the_sessions_of_a_user_are_complete
            u02_ending_them_is_final
        }
    };
}

/// Tests a store against the clauses of [`DeleteExpired`](crate::DeleteExpired). The store must not
/// be shared with other tests.
#[macro_export]
macro_rules! delete_expired_tests {
    ($store:expr) => {
        $crate::conformance_tests! { @tests $store;
            d01_only_the_expired_are_deleted
            d02_a_call_deletes_no_more_than_its_limit
        }
    };
}

/// Tests a store against the clauses of [`ScanSessions`](crate::ScanSessions).
#[macro_export]
macro_rules! scan_sessions_tests {
    ($store:expr) => {
        $crate::conformance_tests! { @tests $store;
            s01_a_scan_is_complete
            s02_pages_are_bounded
        }
    };
}
