//! Points in time as people and programs read them: RFC 3339, in UTC.

use cookie::time::OffsetDateTime;
use tower_keep::Timestamp;

/// To the second, as `2026-11-21 22:05:09`.
pub(crate) fn for_people(time: Timestamp) -> String {
    let time = utc(time);
    let (hour, minute, second) = time.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02}", time.date())
}

/// To the millisecond, as `2026-11-21T22:05:09.123Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let time = utc(time);
    let (hour, minute, second, milli) = time.to_hms_milli();
    format!(
        "{}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z",
        time.date()
    )
}

/// RFC 3339 knows the years 0 to 9999. What is before or behind them is told as their beginning or end.
fn utc(time: Timestamp) -> OffsetDateTime {
    let millis = time.as_millis().clamp(FIRST_MS, LAST_MS);
    let nanos = i128::from(millis) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// 0000-01-01T00:00:00Z
const FIRST_MS: i64 = -62_167_219_200_000;

/// 9999-12-31T23:59:59.999Z
const LAST_MS: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    /// `date -u -d @SECONDS +%FT%T.000Z` says the same.
    #[test]
    fn times_are_written_to_the_millisecond_or_the_second() {
        for (millis, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_298_709_123, "2026-11-21T22:05:09.123Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), written);
        }
        let leap_day = Timestamp::from_millis(951_782_400_000);
        assert_eq!(for_people(leap_day), "2000-02-29 00:00:00");
    }

    #[test]
    fn times_out_of_reach_are_told_as_the_first_and_the_last_one() {
        for (millis, written) in [
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), written);
        }
    }
}
