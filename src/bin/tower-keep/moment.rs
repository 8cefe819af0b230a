//! Points in time as people and programs read them: RFC 3339, in UTC.

use tower_keep::Timestamp;

/// To the second, as `2026-11-21 22:05:09`.
pub(crate) fn for_people(time: Timestamp) -> String {
    let (date, seconds, _) = parts(time);
    format!("{date} {}", clock(seconds))
}

/// To the millisecond, as `2026-11-21T22:05:09.123Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let (date, seconds, millis) = parts(time);
    format!("{date}T{}.{millis:03}Z", clock(seconds))
}

/// The date, the second of the day, the millisecond of the second.
fn parts(time: Timestamp) -> (String, i64, i64) {
    let millis = time.as_millis();
    let second = millis.div_euclid(1000);
    let (year, month, day) = civil(second.div_euclid(DAY));
    let date = format!("{year:04}-{month:02}-{day:02}");
    (date, second.rem_euclid(DAY), millis.rem_euclid(1000))
}

fn clock(second: i64) -> String {
    let (hours, minutes) = (second / 3600, second / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", second % 60)
}

/// The date of a day, counted from 1970-01-01, in the Gregorian calendar. Years begin in March here, so that
/// the day that comes every four years is the last one.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + DAYS_BEFORE_1970;
    let (era, day_of_era) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_month)
}

/// Seconds in a day.
const DAY: i64 = 24 * 3600;

/// Days in 400 years.
const ERA: i64 = 146_097;

/// From the 1st of March of the year 0.
const DAYS_BEFORE_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    /// `date -u -d @SECONDS +%FT%T.000Z` says the same.
    #[test]
    fn leap_days_ends_of_years_and_times_before_1970_are_right() {
        for (millis, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_298_709_123, "2026-11-21T22:05:09.123Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), written);
        }
        assert_eq!(
            for_people(Timestamp::from_millis(951_782_400_000)),
            "2000-02-29 00:00:00"
        );
    }

    #[test]
    fn the_last_and_the_first_point_are_written_too() {
        assert!(rfc3339(Timestamp::from_millis(i64::MAX)).starts_with("292278994-"));
        assert!(rfc3339(Timestamp::from_millis(i64::MIN)).starts_with("-292275055-"));
    }
}
