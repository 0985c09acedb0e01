//! Seconds since 1970 to and from the dates in lists of models (RFC 3339, UTC). Counting days in years that begin in
//! March puts the leap day at the end, as Howard Hinnant's `days_from_civil` does.

const DAY: u64 = 86_400;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_EPOCH: u64 = 719_468;
const DAYS_IN_ERA: u64 = 146_097;
/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

/// `2025-02-19T00:00:00Z`; years beyond 9999 become the last second that can be written.
pub(super) fn write(seconds: u64) -> String {
    let seconds = seconds.min(LAST);
    let days = seconds / DAY + DAYS_BEFORE_EPOCH;
    let (era, day) = (days / DAYS_IN_ERA, days % DAYS_IN_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + 400 * era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The seconds of `2025-02-19T00:00:00[.fraction]Z`, to the second. Nothing before 1970, nor with an offset: no
/// provider writes one.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let whole = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = whole.splitn(3, ':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (year / 400 * DAYS_IN_ERA + day_of_era).checked_sub(DAYS_BEFORE_EPOCH)?;
    Some(days * DAY + hour * 3600 + minute * 60 + second)
}

fn number(digits: &str) -> Option<u64> {
    let is_plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{parse, write};

    #[test]
    fn known_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_739_923_200, "2025-02-19T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(write(seconds), text);
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
        assert_eq!(write(u64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(parse("2025-02-19T00:00:00.123456Z"), Some(1_739_923_200));
        assert_eq!(parse("2025-02-19T00:00:00+00:00"), Some(1_739_923_200));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in
            ["", "2025-02-19", "2025-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "x-1-1T0:0:0Z", "+2025-1-1T0:0:0Z"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_second_is_read_back(seconds in 0..=super::LAST) {
            proptest::prop_assert_eq!(parse(&write(seconds)), Some(seconds));
        }

        #[test]
        fn nothing_panics(text in ".*") {
            parse(&text);
        }
    }
}
