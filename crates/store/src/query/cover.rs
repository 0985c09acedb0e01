//! Which rows make up a range of time, exactly: whole months, days and hours from the rollups, and what is left at either
//! end, less than an hour each, from the records themselves. Pure.

use super::calendar::Calendar;
use super::error::QueryError;
use crate::buckets::Granularity;

/// Most periods of one series.
pub(super) const MAX_PERIODS: usize = 10_000;

/// Most pieces of one statement; databases have limits of their own somewhere above.
const MAX_PIECES: usize = 200;

/// A part of a range, and where its rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Rollups from one bucket to before another.
    Rollups { granularity: Granularity, from: i64, to: i64 },
    /// Records that began from `start_ms` to before `end_ms`, all within one hour.
    Records { start_ms: i64, end_ms: i64 },
}

/// One period of a series, cut to the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    /// Its name: when it begins, also where the range begins later.
    pub(super) bucket: i64,
    /// From where in it.
    pub(super) start_ms: i64,
    /// Until where in it.
    pub(super) end_ms: i64,
}

/// The pieces of a range.
pub(super) fn cover(calendar: &Calendar, start_ms: i64, end_ms: i64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    append(calendar, start_ms, end_ms, &mut pieces);
    pieces
}

/// The pieces of all `periods`, in their order: none of them reaches over the end of a period, but those of neighbours
/// that follow each other are one. `ours` is the calendar of the rollups.
pub(super) fn cover_periods(ours: &Calendar, periods: &[Period]) -> Result<Vec<Piece>, QueryError> {
    let mut pieces = Vec::new();
    for (index, period) in periods.iter().enumerate() {
        if index > 0 && ours.ceil(Granularity::Hour, period.start_ms) != period.start_ms {
            let zone = ours.zone().iana_name().unwrap_or("that of the ledger");
            return Err(QueryError::invalid(
                "timezone",
                format!(
                    "Statistics are kept by the hour of {zone}. Ask for a zone that differs from it by whole hours."
                ),
            ));
        }
        append(ours, period.start_ms, period.end_ms, &mut pieces);
    }
    if pieces.len() > MAX_PIECES {
        let message = "The range is too long for months of a time zone other than the ledger's. Ask for less of it.";
        return Err(QueryError::invalid("timezone", message));
    }
    Ok(pieces)
}

/// The periods of a range, in `calendar`.
pub(super) fn periods(
    calendar: &Calendar,
    granularity: Granularity,
    start_ms: i64,
    end_ms: i64,
) -> Result<Vec<Period>, QueryError> {
    let mut periods = Vec::new();
    let mut start = start_ms;
    while start < end_ms {
        if periods.len() == MAX_PERIODS {
            let message = format!("The range has more than {MAX_PERIODS} of these. Ask for less, or for longer ones.");
            return Err(QueryError::invalid("granularity", message));
        }
        let end = calendar.ceil(granularity, start + 1).min(end_ms);
        let bucket = calendar.bucket(granularity, start.div_euclid(1000));
        periods.push(Period { bucket, start_ms: start, end_ms: end });
        start = end;
    }
    Ok(periods)
}

fn append(calendar: &Calendar, start_ms: i64, end_ms: i64, pieces: &mut Vec<Piece>) {
    if start_ms >= end_ms {
        return;
    }
    let first = calendar.ceil(Granularity::Hour, start_ms);
    let last = calendar.floor(Granularity::Hour, end_ms);
    if first > last {
        pieces.push(Piece::Records { start_ms, end_ms });
        return;
    }
    if start_ms < first {
        pieces.push(Piece::Records { start_ms, end_ms: first });
    }
    append_whole(calendar, Granularity::Month, first, last, pieces);
    if last < end_ms {
        pieces.push(Piece::Records { start_ms: last, end_ms });
    }
}

/// Whole hours, as much of them as possible in months and days.
fn append_whole(calendar: &Calendar, granularity: Granularity, start_ms: i64, end_ms: i64, pieces: &mut Vec<Piece>) {
    if start_ms >= end_ms {
        return;
    }
    let finer = match granularity {
        Granularity::Month => Granularity::Day,
        Granularity::Day => Granularity::Hour,
        Granularity::Hour => return push(calendar, granularity, start_ms, end_ms, pieces),
    };
    let (first, last) = (calendar.ceil(granularity, start_ms), calendar.floor(granularity, end_ms));
    if first >= last {
        return append_whole(calendar, finer, start_ms, end_ms, pieces);
    }
    append_whole(calendar, finer, start_ms, first, pieces);
    push(calendar, granularity, first, last, pieces);
    append_whole(calendar, finer, last, end_ms, pieces);
}

fn push(calendar: &Calendar, granularity: Granularity, start_ms: i64, end_ms: i64, pieces: &mut Vec<Piece>) {
    let bucket = |ms: i64| calendar.bucket(granularity, ms.div_euclid(1000));
    let (from, to) = (bucket(start_ms), bucket(end_ms));
    if let Some(Piece::Rollups { granularity: before, to: end, .. }) = pieces.last_mut()
        && *before == granularity
        && *end == from
    {
        *end = to;
        return;
    }
    pieces.push(Piece::Rollups { granularity, from, to });
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    fn calendar(name: &str) -> Calendar {
        Calendar::new(TimeZone::get(name).unwrap())
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn rollups(granularity: Granularity, from: &str, to: &str) -> Piece {
        Piece::Rollups { granularity, from: ms(from) / 1000, to: ms(to) / 1000 }
    }

    fn records(start: &str, end: &str) -> Piece {
        Piece::Records { start_ms: ms(start), end_ms: ms(end) }
    }

    #[test]
    fn a_range_is_months_days_hours_and_what_is_left() {
        let pieces = cover(&calendar("UTC"), ms("2026-01-30T22:10:00Z"), ms("2026-04-02T01:00:00.001Z"));
        let expected = [
            records("2026-01-30T22:10:00Z", "2026-01-30T23:00:00Z"),
            rollups(Granularity::Hour, "2026-01-30T23:00:00Z", "2026-01-31T00:00:00Z"),
            rollups(Granularity::Day, "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
            rollups(Granularity::Month, "2026-02-01T00:00:00Z", "2026-04-01T00:00:00Z"),
            rollups(Granularity::Day, "2026-04-01T00:00:00Z", "2026-04-02T00:00:00Z"),
            rollups(Granularity::Hour, "2026-04-02T00:00:00Z", "2026-04-02T01:00:00Z"),
            records("2026-04-02T01:00:00Z", "2026-04-02T01:00:00.001Z"),
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn a_range_within_an_hour_or_around_a_full_one_is_records_only() {
        let utc = calendar("UTC");
        let within = cover(&utc, ms("2026-01-30T22:10:00Z"), ms("2026-01-30T22:59:00Z"));
        assert_eq!(within, [records("2026-01-30T22:10:00Z", "2026-01-30T22:59:00Z")]);
        let around = cover(&utc, ms("2026-01-30T22:10:00Z"), ms("2026-01-30T23:05:00Z"));
        let expected = [
            records("2026-01-30T22:10:00Z", "2026-01-30T23:00:00Z"),
            records("2026-01-30T23:00:00Z", "2026-01-30T23:05:00Z"),
        ];
        assert_eq!(around, expected);
        assert_eq!(cover(&utc, ms("2026-01-30T22:00:00Z"), ms("2026-01-30T22:00:00Z")), []);
        assert_eq!(cover(&utc, ms("2026-01-30T23:00:00Z"), ms("2026-01-30T22:00:00Z")), []);
    }

    #[test]
    fn days_of_the_ledgers_zone_are_days_and_those_of_another_are_hours() {
        let utc = calendar("UTC");
        let (start, end) = (ms("2026-01-30T22:10:00Z"), ms("2026-02-02T01:00:00Z"));
        let own = periods(&utc, Granularity::Day, start, end).unwrap();
        assert_eq!(own.len(), 4);
        assert_eq!((own[0].bucket * 1000, own[0].start_ms), (ms("2026-01-30T00:00:00Z"), start));
        let expected = [
            records("2026-01-30T22:10:00Z", "2026-01-30T23:00:00Z"),
            rollups(Granularity::Hour, "2026-01-30T23:00:00Z", "2026-01-31T00:00:00Z"),
            rollups(Granularity::Day, "2026-01-31T00:00:00Z", "2026-02-02T00:00:00Z"),
            rollups(Granularity::Hour, "2026-02-02T00:00:00Z", "2026-02-02T01:00:00Z"),
        ];
        assert_eq!(cover_periods(&utc, &own).unwrap(), expected);
        let other = periods(&calendar("Asia/Shanghai"), Granularity::Day, start, end).unwrap();
        let expected = [
            records("2026-01-30T22:10:00Z", "2026-01-30T23:00:00Z"),
            rollups(Granularity::Hour, "2026-01-30T23:00:00Z", "2026-02-02T01:00:00Z"),
        ];
        assert_eq!(cover_periods(&utc, &other).unwrap(), expected);
        let odd = periods(&calendar("Asia/Kolkata"), Granularity::Day, start, end).unwrap();
        let QueryError::Invalid { parameter, message } = cover_periods(&utc, &odd).unwrap_err() else { panic!() };
        assert_eq!(parameter, "timezone");
        assert!(message.contains("whole hours"), "{message}");
    }

    #[test]
    fn a_range_of_too_many_periods_is_refused() {
        let end = ms("2026-01-30T22:10:00Z");
        let error = periods(&calendar("UTC"), Granularity::Hour, 0, end).unwrap_err();
        assert!(matches!(error, QueryError::Invalid { parameter: "granularity", .. }));
    }

    proptest::proptest! {
        #[test]
        fn pieces_follow_each_other_without_a_gap(start in 0i64..4_000_000_000_000, length in 0i64..40_000_000_000, zone in 0usize..4) {
            let name = ["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"][zone];
            let calendar = calendar(name);
            let mut at = start;
            for piece in cover(&calendar, start, start + length) {
                match piece {
                    Piece::Records { start_ms, end_ms } => {
                        assert!(start_ms == at && end_ms > start_ms && end_ms - start_ms < 3_600_000);
                        at = end_ms;
                    }
                    Piece::Rollups { granularity, from, to } => {
                        assert_eq!(calendar.bucket(granularity, at / 1000), from);
                        assert_eq!(calendar.ceil(granularity, at), at);
                        while calendar.bucket(granularity, at / 1000) < to {
                            at = calendar.ceil(granularity, at + 1);
                        }
                        assert_eq!(calendar.bucket(granularity, at / 1000), to);
                    }
                }
            }
            assert_eq!(at, start + length);
        }
    }
}
