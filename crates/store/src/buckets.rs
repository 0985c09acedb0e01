//! Where hours, days and months begin: the buckets of rollups.

use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Granularity {
    /// An hour of the clock.
    Hour,
    /// A day of the calendar.
    Day,
    /// A month of the calendar.
    Month,
}

impl Granularity {
    /// All of them, shortest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// As the column `granularity` has it.
    #[must_use]
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The bucket that `unix` seconds lie in: its first second in `zone`, which names it, and the first one after it.
    ///
    /// An hour that the clock repeats in autumn is two buckets. Where a zone shifts by half an hour, what is left of
    /// the broken hour is named by the second at which it would have begun by the new time.
    #[must_use]
    pub fn bucket(self, zone: &TimeZone, unix: i64) -> Range<i64> {
        // Moments outside of the calendar, which no call has, are a bucket of their own.
        self.calendar_bucket(zone, unix).unwrap_or(unix..unix.saturating_add(1))
    }

    fn calendar_bucket(self, zone: &TimeZone, unix: i64) -> Option<Range<i64>> {
        let moment = Timestamp::from_second(unix).ok()?;
        if self == Self::Hour {
            let offset = i64::from(zone.to_offset(moment).seconds());
            let start = unix - (unix + offset).rem_euclid(3600);
            return Some(start..start + 3600);
        }
        let date = moment.to_zoned(zone.clone()).date();
        let (first, last) = match self {
            Self::Month => (date.first_of_month(), date.last_of_month()),
            Self::Hour | Self::Day => (date, date),
        };
        let begin = |date: Date| Some(date.to_zoned(zone.clone()).ok()?.timestamp().as_second());
        Some(begin(first)?..begin(last.tomorrow().ok()?)?)
    }
}

/// The buckets that one moment lies in: of an hour, a day, a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Period {
    pub(crate) hour: i64,
    pub(crate) day: i64,
    pub(crate) month: i64,
}

impl Period {
    pub(crate) fn bucket(self, granularity: Granularity) -> i64 {
        match granularity {
            Granularity::Hour => self.hour,
            Granularity::Day => self.day,
            Granularity::Month => self.month,
        }
    }
}

/// Periods of one time zone, remembering the last one: calls come in nearly the order of time.
#[derive(Clone, Debug)]
pub(crate) struct Periods {
    zone: TimeZone,
    last: Option<(i64, Period)>,
}

impl Periods {
    pub(crate) fn new(zone: TimeZone) -> Self {
        Self { zone, last: None }
    }

    /// The period that `unix_ms` lies in.
    pub(crate) fn at(&mut self, unix_ms: i64) -> Period {
        let unix = unix_ms.div_euclid(1000);
        // Hours, days and shifts of the clock all begin at a quarter of an hour, in every zone of our days.
        let quarter = unix.div_euclid(900);
        if let Some((last, period)) = self.last
            && last == quarter
        {
            return period;
        }
        let bucket = |granularity: Granularity| granularity.bucket(&self.zone, unix).start;
        let period = Period {
            hour: bucket(Granularity::Hour),
            day: bucket(Granularity::Day),
            month: bucket(Granularity::Month),
        };
        self.last = Some((quarter, period));
        period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[test]
    fn buckets_begin_where_the_calendar_of_the_zone_says() {
        let zone = TimeZone::get("Asia/Kolkata").unwrap();
        let at = unix("2026-01-31T19:45:00Z");
        assert_eq!(Granularity::Hour.bucket(&zone, at).start, unix("2026-01-31T19:30:00Z"));
        assert_eq!(Granularity::Day.bucket(&zone, at).start, unix("2026-01-31T18:30:00Z"));
        assert_eq!(Granularity::Month.bucket(&zone, at).start, unix("2026-01-31T18:30:00Z"));
        assert_eq!(Granularity::Month.bucket(&TimeZone::UTC, at).start, unix("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn an_hour_that_the_clock_repeats_is_two_buckets() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let summer = Granularity::Hour.bucket(&zone, unix("2026-10-25T00:30:00Z")).start;
        let winter = Granularity::Hour.bucket(&zone, unix("2026-10-25T01:30:00Z")).start;
        assert_eq!(winter - summer, 3600);
        assert_eq!(Granularity::Day.bucket(&zone, winter).start, unix("2026-10-24T22:00:00Z"));
    }

    #[test]
    fn a_moment_outside_of_the_calendar_has_a_bucket_too() {
        assert_eq!(Granularity::Month.bucket(&TimeZone::UTC, i64::MAX).start, i64::MAX);
        assert_eq!(Periods::new(TimeZone::UTC).at(i64::MIN).hour, i64::MIN.div_euclid(1000));
    }

    #[test]
    fn what_is_remembered_is_what_would_be_worked_out() {
        for name in ["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"] {
            let zone = TimeZone::get(name).unwrap();
            let mut periods = Periods::new(zone.clone());
            for second in (unix("2026-03-25T00:00:00Z")..unix("2026-04-10T00:00:00Z")).step_by(337) {
                let period = periods.at(second * 1000 + 999);
                for granularity in Granularity::ALL {
                    assert_eq!(period.bucket(granularity), granularity.bucket(&zone, second).start, "{name} {second}");
                }
            }
        }
    }
}
