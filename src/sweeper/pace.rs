//! How long a sweeper rests.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Before the first sweep: anything up to the period.
pub(super) fn first_rest(period: Duration, random: f64) -> Duration {
    scaled(period, random)
}

/// Between two sweeps: the period, give or take [`JITTER`] of it.
pub(super) fn next_rest(period: Duration, random: f64) -> Duration {
    scaled(period, 1.0 - JITTER).saturating_add(scaled(period, 2.0 * JITTER * random))
}

/// After a full batch: as long as it took.
pub(super) fn after_batch(took: Duration) -> Duration {
    took.max(REST_MIN)
}

/// After so many failures in a row: up to 1, 2, 4, 8 … seconds, and half of that at least, so that
/// the nodes whose store is back do not come all at once.
pub(super) fn back_off(failures: u32, period: Duration, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(u32::BITS - 1);
    let longest = BACK_OFF_FIRST.saturating_mul(1 << doublings);
    let half = longest.min(BACK_OFF_MAX).min(period) / 2;
    half.saturating_add(scaled(half, random))
}

fn scaled(duration: Duration, factor: f64) -> Duration {
    let seconds = duration.as_secs_f64() * factor;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// From 0 to 1. No secret, so that a source that cannot fail is strong enough.
pub(super) fn random() -> f64 {
    // Each `RandomState` of the standard library hashes differently.
    let bits = RandomState::new().hash_one(()) >> u32::BITS;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}

/// A store in memory takes no time that could be measured, and must not keep its thread either.
const REST_MIN: Duration = Duration::from_millis(1);

/// Enough to drive apart what has met by chance, and too little for anybody to notice.
const JITTER: f64 = 0.1;

/// A store that is being restarted is back after some seconds.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);

/// A store that is out for longer is not noticed much later, and the log not filled.
const BACK_OFF_MAX: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(600);

    #[test]
    fn the_first_rest_is_any_part_of_the_period() {
        assert_eq!(first_rest(PERIOD, 0.0), Duration::ZERO);
        assert_eq!(first_rest(PERIOD, 0.5), PERIOD / 2);
        assert_eq!(first_rest(PERIOD, 1.0), PERIOD);
    }

    #[test]
    fn later_rests_are_the_period_give_or_take_a_tenth() {
        for (random, seconds) in [(0.0, 540), (0.5, 600), (1.0, 660)] {
            let rest = next_rest(PERIOD, random).as_secs_f64();
            assert!((rest - f64::from(seconds)).abs() < 1e-6, "{rest}");
        }
    }

    #[test]
    fn after_a_batch_it_rests_as_long_and_a_moment_at_least() {
        assert_eq!(after_batch(PERIOD), PERIOD);
        assert_eq!(after_batch(Duration::ZERO), Duration::from_millis(1));
    }

    #[test]
    fn a_back_off_doubles_up_to_its_bound_and_is_half_of_it_at_least() {
        let day = Duration::from_secs(24 * 60 * 60);
        for (failures, seconds) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            let longest = Duration::from_secs(seconds);
            assert_eq!(back_off(failures, day, 1.0), longest);
            assert_eq!(back_off(failures, day, 0.0), longest / 2);
        }
    }

    #[test]
    fn a_back_off_is_never_longer_than_the_period() {
        for failures in [1, 5, 20, u32::MAX] {
            let period = Duration::from_millis(700);
            assert_eq!(back_off(failures, period, 1.0), period);
        }
    }

    #[test]
    fn the_longest_period_overflows_nothing() {
        assert_eq!(next_rest(Duration::MAX, 1.0), Duration::MAX);
        assert!(first_rest(Duration::MAX, 0.5) > PERIOD);
    }

    #[test]
    fn random_numbers_lie_between_0_and_1_and_everywhere_there() {
        let numbers: Vec<f64> = (0..1000).map(|_| random()).collect();
        assert!(numbers.iter().all(|n| (0.0..=1.0).contains(n)));
        for tenth in 0..10 {
            let part = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
            assert!(numbers.iter().any(|n| part.contains(n)), "{part:?}");
        }
    }
}
