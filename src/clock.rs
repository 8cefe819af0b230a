//! Where the time comes from.

use std::{fmt::Debug, sync::Arc, time::SystemTime};

/// Tells the time to a [`SessionLayer`](crate::SessionLayer) and to the stores.
///
/// The times in a session's record, and whether it has expired, are told by a `Clock`, so that a test can
/// move it (see `ManualClock` of the `testing` feature) instead of waiting. What is measured is not:
/// timeouts, pauses and the age of copies in caches go by the timer of tokio or by the server, and the time
/// in a [`WriteToken`](crate::WriteToken) is that of the operating system.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_keep::Clock;
///
/// /// A clock that is deliberately ahead, to try how nodes with unequal clocks get along.
/// #[derive(Debug)]
/// struct FastClock;
///
/// impl Clock for FastClock {
///     fn now(&self) -> SystemTime {
///         SystemTime::now() + Duration::from_secs(60)
///     }
/// }
/// ```
pub trait Clock: Debug + Send + Sync + 'static {
    /// The present time.
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system, and the default everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> SystemTime {
        (**self).now()
    }
}
