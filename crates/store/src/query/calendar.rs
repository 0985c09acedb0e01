//! Hours, days and months of a time zone: where each begins and ends.
//!
//! A period is named by the unix second of its start, its *bucket*. In a zone that moves its clock by half an hour the
//! rest of a broken hour is named by a second before it begins, so a period is always looked up by a moment in it, never
//! counted from its name.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::buckets::Granularity;

/// The calendar of one time zone.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    zone: TimeZone,
}

impl Calendar {
    /// The calendar of `zone`.
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone }
    }

    /// The zone itself.
    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The bucket of the period that `second` is in.
    pub(super) fn bucket(&self, granularity: Granularity, second: i64) -> i64 {
        granularity.bucket(&self.zone, second).start
    }

    /// The first moment from `ms` on at which a period begins, in milliseconds.
    pub(super) fn ceil(&self, granularity: Granularity, ms: i64) -> i64 {
        let second = ms.div_euclid(1000);
        let floor = self.begin(granularity, second) * 1000;
        if floor == ms { ms } else { self.next(granularity, second) * 1000 }
    }

    /// The last moment until `ms` at which a period begins, in milliseconds.
    pub(super) fn floor(&self, granularity: Granularity, ms: i64) -> i64 {
        self.begin(granularity, ms.div_euclid(1000)) * 1000
    }

    /// When the period that `second` is in began.
    fn begin(&self, granularity: Granularity, second: i64) -> i64 {
        let bucket = self.bucket(granularity, second);
        if self.bucket(granularity, bucket) == bucket {
            return bucket;
        }
        // The name lies in the period before: this one began where the clock was moved.
        self.moved_until(second).unwrap_or(bucket)
    }

    /// When the period after the one that `second` is in begins.
    fn next(&self, granularity: Granularity, second: i64) -> i64 {
        match granularity {
            Granularity::Hour => self.next_hour(second),
            Granularity::Day | Granularity::Month => granularity.bucket(&self.zone, second).end,
        }
    }

    fn next_hour(&self, second: i64) -> i64 {
        let bucket = self.bucket(Granularity::Hour, second);
        let mut at = second;
        // Two steps at most: to where the clock is moved, and to the full hour behind it.
        for _ in 0..4 {
            let offset = timestamp(at).map_or(0, |at| i64::from(self.zone.to_offset(at).seconds()));
            let full = at - (at + offset).rem_euclid(3600) + 3600;
            at = self.moved_after(at).filter(|moved| *moved < full).unwrap_or(full);
            if self.bucket(Granularity::Hour, at) != bucket {
                return at;
            }
        }
        at
    }

    /// When the clock was last moved, until `second`.
    fn moved_until(&self, second: i64) -> Option<i64> {
        // `preceding` is strictly before.
        let transition = self.zone.preceding(timestamp(second + 1)?).next()?;
        Some(transition.timestamp().as_second())
    }

    /// When the clock is moved next, after `second`.
    fn moved_after(&self, second: i64) -> Option<i64> {
        let transition = self.zone.following(timestamp(second)?).next()?;
        Some(transition.timestamp().as_second())
    }
}

fn timestamp(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(name: &str) -> Calendar {
        Calendar::new(TimeZone::get(name).unwrap())
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn periods_begin_where_the_clock_on_the_wall_says_so() {
        let shanghai = calendar("Asia/Shanghai");
        let at = ms("2026-03-05T10:20:30.5Z");
        assert_eq!(shanghai.floor(Granularity::Hour, at), ms("2026-03-05T10:00:00Z"));
        assert_eq!(shanghai.ceil(Granularity::Hour, at), ms("2026-03-05T11:00:00Z"));
        assert_eq!(shanghai.floor(Granularity::Day, at), ms("2026-03-04T16:00:00Z"));
        assert_eq!(shanghai.ceil(Granularity::Month, at), ms("2026-03-31T16:00:00Z"));
        let kolkata = calendar("Asia/Kolkata");
        assert_eq!(kolkata.floor(Granularity::Hour, at), ms("2026-03-05T09:30:00Z"));
        let whole = ms("2026-03-05T10:00:00Z");
        assert_eq!((shanghai.floor(Granularity::Hour, whole), shanghai.ceil(Granularity::Hour, whole)), (whole, whole));
    }

    #[test]
    fn every_second_is_in_one_period_in_any_zone_also_where_the_clock_is_moved() {
        // By an hour, by half an hour, at midnight.
        let zones = [
            ("Europe/Berlin", "2026-10-24T00:00:00Z"),
            ("Europe/Berlin", "2026-03-28T00:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T00:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T00:00:00Z"),
            ("America/Santiago", "2026-04-04T00:00:00Z"),
            ("America/Santiago", "2026-09-05T00:00:00Z"),
        ];
        for (name, start) in zones {
            let calendar = calendar(name);
            let start = ms(start) / 1000;
            for granularity in [Granularity::Hour, Granularity::Day] {
                let mut begun = calendar.begin(granularity, start);
                for second in (start..start + 3 * 86_400).step_by(300) {
                    let bucket = calendar.bucket(granularity, second);
                    if bucket != calendar.bucket(granularity, second - 300) && second > start {
                        assert!(bucket > calendar.bucket(granularity, second - 300), "{name} {second}");
                        begun = second;
                    }
                    assert_eq!(calendar.begin(granularity, second), begun, "{name} {granularity:?} {second}");
                    let next = calendar.next(granularity, second);
                    assert_ne!(calendar.bucket(granularity, next), bucket, "{name} {second}");
                    assert_eq!(calendar.bucket(granularity, next - 1), bucket, "{name} {granularity:?} {second}");
                }
            }
        }
    }
}
