//! A point in time as stores keep it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time: whole milliseconds since 1970-01-01 00:00 UTC, leap seconds not counted.
///
/// Stores keep integers, never dates in text, so that there is no time zone to get wrong and
/// order is the order of numbers. Arithmetic saturates: no duration is too long to add.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_keep::Timestamp;
///
/// let login = Timestamp::from(UNIX_EPOCH + Duration::from_millis(1_500));
/// assert_eq!(login.as_millis(), 1_500);
/// assert!(login < login.saturating_add(Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A point so many milliseconds after (negative: before) the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch, negative before it.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// So much later, or the last point that can be written.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(duration)))
    }

    /// So much earlier, or the first point that can be written.
    pub(crate) fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(duration)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn duration_since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// Parts of a millisecond are cut off towards the past.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(whole_millis(after)),
            Err(before) => {
                let before = before.duration();
                let cut = i64::from(!before.subsec_nanos().is_multiple_of(1_000_000));
                Self(
                    0_i64
                        .saturating_sub(whole_millis(before))
                        .saturating_sub(cut),
                )
            }
        }
    }
}

/// A point that the platform cannot express becomes the epoch (far past) or stays as near as
/// the platform comes (far future).
impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        let distance = Duration::from_millis(timestamp.0.unsigned_abs());
        if timestamp.0 < 0 {
            UNIX_EPOCH.checked_sub(distance).unwrap_or(UNIX_EPOCH)
        } else {
            UNIX_EPOCH
                .checked_add(distance)
                .unwrap_or(UNIX_EPOCH + PLATFORM_FAR_FUTURE)
        }
    }
}

fn whole_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The year 2100: later than any session, and representable wherever Rust runs.
const PLATFORM_FAR_FUTURE: Duration = Duration::from_secs(4_102_444_800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_epoch_is_cut_off_towards_the_past() {
        let just_before = UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(Timestamp::from(just_before).as_millis(), -1);
        assert_eq!(
            SystemTime::from(Timestamp::from_millis(-1)),
            UNIX_EPOCH - Duration::from_millis(1)
        );
    }

    #[test]
    fn extreme_values_saturate_and_do_not_panic() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last.saturating_add(Duration::MAX), last);
        assert!(SystemTime::from(last) > UNIX_EPOCH);
        let first = Timestamp::from_millis(i64::MIN);
        assert!(SystemTime::from(first) <= UNIX_EPOCH);
        assert_eq!(first.duration_since(last), Duration::ZERO);
        assert!(last.duration_since(first) > Duration::ZERO);
    }
}
