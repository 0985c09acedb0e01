//! Where hours, days and months begin and end in a time zone.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aiproxy_config::snapshot::QuotaPeriod;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

const HOUR_S: i64 = 3_600;

/// A time zone's calendar. What it found of the last two hours it was asked about is kept, for that is nearly always the
/// answer: calls that begin now, and those that began before the hour struck.
#[derive(Debug)]
pub struct Calendar {
    zone: TimeZone,
    latest: Mutex<[Hour; 2]>,
}

/// The hour, day and month that a moment lies in, by when they began, in seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Periods {
    /// An hour of the clock. One that a change of the clock's offset interrupts is two.
    pub hour: i64,
    /// A day of the calendar: 23 or 25 hours where the clocks change.
    pub day: i64,
    /// A month of the calendar.
    pub month: i64,
}

/// A moment as it is told to people; displays as RFC 3339 in the calendar's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970-01-01 UTC.
    pub unix_s: i64,
    offset: Offset,
}

/// One hour, and the day and month it is part of.
#[derive(Clone, Copy, Debug, Default)]
struct Hour {
    /// The first second after it; before all others in one that was never found.
    end: i64,
    periods: Periods,
}

impl Hour {
    fn contains(&self, second: i64) -> bool {
        self.periods.hour <= second && second < self.end
    }
}

impl Calendar {
    /// The calendar of `zone`.
    #[must_use]
    pub fn new(zone: TimeZone) -> Self {
        Self { zone, latest: Mutex::default() }
    }

    /// Whose calendar it is.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The periods that a moment lies in, given in milliseconds since 1970-01-01 UTC. Later than the year 9999 counts as
    /// the end of that.
    #[must_use]
    pub fn periods(&self, unix_ms: u64) -> Periods {
        let second = second(unix_ms);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hour) = latest.iter().find(|hour| hour.contains(second)) {
            return hour.periods;
        }
        let hour = self.hour(second);
        *latest = [hour, latest[0]];
        hour.periods
    }

    /// When the period ends that a moment (in milliseconds since 1970-01-01 UTC) lies in; never, for a total.
    #[must_use]
    pub fn end(&self, per: QuotaPeriod, unix_ms: u64) -> Option<Moment> {
        let second = second(unix_ms);
        let date = || self.zoned(second).date();
        let unix_s = match per {
            QuotaPeriod::Hour => self.hour(second).end,
            QuotaPeriod::Day => self.start_of(date().tomorrow().ok()),
            QuotaPeriod::Month => self.start_of(date().last_of_month().tomorrow().ok()),
            QuotaPeriod::Total => return None,
        };
        Some(Moment { unix_s, offset: self.zone.to_offset(timestamp(unix_s)) })
    }

    fn hour(&self, second: i64) -> Hour {
        let offset = |second| i64::from(self.zone.to_offset(timestamp(second)).seconds());
        let here = offset(second);
        let mut start = (second + here).div_euclid(HOUR_S) * HOUR_S - here;
        let mut end = start + HOUR_S;
        // Clocks change at a full hour, with few exceptions. Those cut the hour.
        if offset(start) != here {
            let changes = self.zone.preceding(timestamp(second + 1)).map(|change| change.timestamp().as_second());
            start = changes.take_while(|change| *change > start).find(|change| *change <= second).unwrap_or(start);
        }
        if offset(end - 1) != here {
            let changes = self.zone.following(timestamp(second)).map(|change| change.timestamp().as_second());
            end = changes.take_while(|change| *change < end).find(|change| *change > second).unwrap_or(end);
        }
        let date = self.zoned(second).date();
        let [day, month] = [date, date.first_of_month()].map(|date| self.start_of(Some(date)));
        Hour { end, periods: Periods { hour: start, day, month } }
    }

    fn zoned(&self, second: i64) -> Zoned {
        timestamp(second).to_zoned(self.zone.clone())
    }

    /// The first second of a date, which is not midnight where the clock skips that.
    fn start_of(&self, date: Option<Date>) -> i64 {
        let start = date.and_then(|date| date.to_zoned(self.zone.clone()).ok());
        start.map_or(Timestamp::MAX.as_second(), |start| start.timestamp().as_second())
    }
}

impl Periods {
    /// When one of them began; a total has always been.
    #[must_use]
    pub fn start(&self, per: QuotaPeriod) -> i64 {
        match per {
            QuotaPeriod::Hour => self.hour,
            QuotaPeriod::Day => self.day,
            QuotaPeriod::Month => self.month,
            QuotaPeriod::Total => i64::MIN,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", timestamp(self.unix_s).display_with_offset(self.offset))
    }
}

fn second(unix_ms: u64) -> i64 {
    // A day of room, for sums with an offset.
    i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX).min(Timestamp::MAX.as_second() - 86_400)
}

fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(name: &str) -> Calendar {
        Calendar::new(TimeZone::get(name).unwrap())
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn periods(calendar: &Calendar, text: &str) -> Periods {
        calendar.periods(at(text) as u64 * 1000)
    }

    fn end(calendar: &Calendar, per: QuotaPeriod, text: &str) -> String {
        calendar.end(per, at(text) as u64 * 1000).unwrap().to_string()
    }

    #[test]
    fn days_and_months_begin_at_midnight_in_the_time_zone() {
        let shanghai = calendar("Asia/Shanghai");
        let last = periods(&shanghai, "2026-10-31T23:59:59+08:00");
        assert_eq!(last.hour, at("2026-10-31T23:00:00+08:00"));
        assert_eq!(last.day, at("2026-10-31T00:00:00+08:00"));
        assert_eq!(last.month, at("2026-10-01T00:00:00+08:00"));
        let midnight = at("2026-11-01T00:00:00+08:00");
        let all = Periods { hour: midnight, day: midnight, month: midnight };
        assert_eq!(periods(&shanghai, "2026-11-01T00:00:00+08:00"), all);
        assert_eq!(periods(&calendar("UTC"), "2026-11-01T00:00:00+08:00").month, at("2026-10-01T00:00:00Z"));
        let now = "2026-12-31T23:30:00+08:00";
        assert_eq!(end(&shanghai, QuotaPeriod::Hour, now), "2027-01-01T00:00:00+08:00");
        assert_eq!(end(&shanghai, QuotaPeriod::Day, now), "2027-01-01T00:00:00+08:00");
        assert_eq!(end(&shanghai, QuotaPeriod::Month, "2026-02-10T00:00:00+08:00"), "2026-03-01T00:00:00+08:00");
        assert_eq!(end(&shanghai, QuotaPeriod::Month, "2028-02-10T00:00:00+08:00"), "2028-03-01T00:00:00+08:00");
        assert_eq!(shanghai.end(QuotaPeriod::Total, 0), None);
    }

    #[test]
    fn a_day_has_23_or_25_hours_where_the_clocks_change() {
        let berlin = calendar("Europe/Berlin");
        for (date, hours) in [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)] {
            let first = date.parse::<Date>().unwrap().to_zoned(berlin.zone().clone()).unwrap();
            let day = first.timestamp().as_second();
            let hour = |second: i64| berlin.periods(second as u64 * 1000).hour;
            let seen: std::collections::BTreeSet<i64> = (day..day + hours * HOUR_S).map(hour).collect();
            assert_eq!(seen.len() as i64, hours, "{date}: the hour that comes twice is two hours");
            for second in [day, day + hours * HOUR_S - 1] {
                assert_eq!(berlin.periods(second as u64 * 1000).day, day, "{date}");
                let end = berlin.end(QuotaPeriod::Day, second as u64 * 1000).unwrap();
                assert_eq!(end.unix_s, day + hours * HOUR_S, "{date}");
            }
            assert_eq!(berlin.periods((day + hours * HOUR_S) as u64 * 1000).day, day + hours * HOUR_S);
        }
        assert_eq!(end(&berlin, QuotaPeriod::Month, "2026-03-28T12:00:00Z"), "2026-04-01T00:00:00+02:00");
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_when_the_clock_goes_on() {
        let santiago = calendar("America/Santiago");
        let start = at("2026-09-06T01:00:00-03:00");
        assert_eq!(periods(&santiago, "2026-09-06T01:30:00-03:00").day, start);
        assert_eq!(santiago.end(QuotaPeriod::Day, (start as u64 - 1) * 1000).unwrap().unix_s, start);
    }

    #[test]
    fn a_clock_that_changes_by_half_an_hour_cuts_an_hour_in_two() {
        // 2026-04-05: at 02:00 (+11:00) the clock goes back to 01:30 (+10:30).
        let lord_howe = calendar("Australia/Lord_Howe");
        let change = at("2026-04-04T15:00:00Z");
        let of = |second: i64| lord_howe.periods(second as u64 * 1000).hour;
        assert_eq!(of(change - 1), change - HOUR_S);
        assert_eq!(of(change), change, "01:30 for the second time");
        assert_eq!(of(change + HOUR_S / 2 - 1), change);
        assert_eq!(of(change + HOUR_S / 2), change + HOUR_S / 2, "02:00");
        let kolkata = calendar("Asia/Kolkata");
        assert_eq!(periods(&kolkata, "2026-01-01T10:15:00+05:30").hour, at("2026-01-01T10:00:00+05:30"));
    }

    /// Every zone, every change of its clock this century and moments around it: hours follow one another without gaps
    /// and without overlaps, days and months contain their hours, and what was kept changes no answer.
    #[test]
    fn periods_are_sound_around_every_change_of_every_clock() {
        for name in ["Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca", "Antarctica/Troll"] {
            let calendar = calendar(name);
            let first = timestamp(at("2000-01-01T00:00:00Z"));
            for change in calendar.zone().following(first).take(60) {
                let change = change.timestamp().as_second();
                let mut second = change - 3 * HOUR_S;
                while second < change + 3 * HOUR_S {
                    let hour = calendar.hour(second);
                    assert!(hour.contains(second), "{name} {second}");
                    assert!(hour.end - hour.periods.hour <= HOUR_S, "{name} {second}");
                    assert!(hour.periods.month <= hour.periods.day, "{name} {second}");
                    assert!(hour.periods.day <= second, "{name} {second}");
                    let next = calendar.hour(hour.end);
                    assert_eq!(next.periods.hour, hour.end, "{name} {second}: the next begins where this one ends");
                    assert_eq!(calendar.hour(hour.end - 1).periods, hour.periods, "{name} {second}");
                    assert_eq!(calendar.periods(second as u64 * 1000), hour.periods, "{name} {second}");
                    second += 600;
                }
            }
        }
    }

    #[test]
    fn the_ends_of_time_are_no_problem() {
        for name in ["UTC", "Asia/Shanghai", "America/New_York"] {
            let calendar = calendar(name);
            for unix_ms in [0, 1, u64::MAX, Timestamp::MAX.as_millisecond() as u64] {
                let periods = calendar.periods(unix_ms);
                assert!(periods.month <= periods.day && periods.day <= periods.hour, "{name} {unix_ms}");
                for per in [QuotaPeriod::Hour, QuotaPeriod::Day, QuotaPeriod::Month] {
                    assert!(calendar.end(per, unix_ms).unwrap().unix_s > periods.start(per), "{name} {unix_ms}");
                }
            }
        }
    }
}
