//! Where the next page of records is, and the cheaper way to it: along the records of a range, looking at each, or along
//! the index of the series that match.
//!
//! The rollups know how many calls of a day match and how many there were. So a page is looked for in no more days than
//! it takes to fill it, and what either way would read there is known before it is chosen. A wrong guess costs time,
//! never a record.

use super::calendar::Calendar;
use super::error::QueryError;
use super::filter::Filter;
use super::id_at;
use super::session::{Session, unreadable};
use crate::buckets::Granularity;
use crate::ids::id_unix_ms;

/// Days that are looked at first, and if they do not suffice, next; after that come all.
const DAYS: [i64; 2] = [3, 30];

const DAY_MS: i64 = 86_400_000;

/// Rows that are read without thinking of a better way.
const FEW: i64 = 100_000;

/// How much dearer one match is along the index: it is sorted, and looked up.
const INDEX_COST: i64 = 4;

/// A range of ids: from the first to before the second.
pub(super) type Ids = ([u8; 16], [u8; 16]);

/// How a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One record after the other.
    Scan,
    /// The matching series only.
    Index,
}

/// A part of a range, and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) ids: Ids,
    pub(super) way: Way,
}

/// Calls of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    bucket: i64,
    calls: i64,
    matching: i64,
}

/// The window at the end of `ids` that pages begin with, holding `wanted` matching records, or all of `ids`.
pub(super) async fn find(
    session: &mut Session,
    calendar: &Calendar,
    filter: &Filter,
    ids: Ids,
    newest_first: bool,
    wanted: i64,
) -> Result<Window, QueryError> {
    if filter.is_unconditional() {
        return Ok(Window { ids, way: Way::Scan });
    }
    let (start_ms, last_ms) = (id_unix_ms(&ids.0) as i64, id_unix_ms(&ids.1) as i64);
    let end_ms = last_ms + i64::from(ids.1 > id_at(last_ms));
    for days in DAYS.map(Some).into_iter().chain([None]) {
        let (from, to) = match days {
            Some(days) if newest_first => {
                (start_ms.max(calendar.floor(Granularity::Day, end_ms - days * DAY_MS)), end_ms)
            }
            Some(days) => (start_ms, end_ms.min(calendar.ceil(Granularity::Day, start_ms + days * DAY_MS))),
            None => (start_ms, end_ms),
        };
        let is_all = (from, to) == (start_ms, end_ms);
        let counts = counts(session, calendar, filter, Granularity::Day, from, to, newest_first).await?;
        let Some(enough) = enough(&counts, wanted) else {
            if !is_all {
                continue;
            }
            return Ok(Window { ids, way: way(&counts) });
        };
        let day = counts[enough].bucket * 1000;
        let mut found = cut(calendar, ids, Granularity::Day, day, newest_first);
        let mut read = counts[..=enough].to_vec();
        if cost(&read) > FEW {
            // The last of these days is more than needed: look at its hours.
            let (from, to) = (day.max(start_ms), calendar.ceil(Granularity::Day, day + 1).min(end_ms));
            let hours = self::counts(session, calendar, filter, Granularity::Hour, from, to, newest_first).await?;
            let before: i64 = read[..enough].iter().map(|count| count.matching).sum();
            if let Some(enough_hours) = self::enough(&hours, wanted - before) {
                read.truncate(enough);
                read.extend_from_slice(&hours[..=enough_hours]);
                let hour = hours[enough_hours].bucket * 1000;
                found = cut(calendar, ids, Granularity::Hour, hour, newest_first);
            }
        }
        return Ok(Window { ids: found, way: way(&read) });
    }
    Ok(Window { ids, way: Way::Index })
}

/// How many of `counts` it takes for `wanted` matches, less one; `None` if all are not enough.
fn enough(counts: &[Count], wanted: i64) -> Option<usize> {
    let mut matching = 0;
    counts.iter().position(|count| {
        matching += count.matching;
        matching >= wanted
    })
}

fn way(counts: &[Count]) -> Way {
    let (calls, matching) = sums(counts);
    // Without any matches there may be no rollups any more.
    if matching > 0 && calls <= matching.saturating_mul(INDEX_COST) { Way::Scan } else { Way::Index }
}

fn cost(counts: &[Count]) -> i64 {
    let (calls, matching) = sums(counts);
    calls.min(matching.saturating_mul(INDEX_COST))
}

fn sums(counts: &[Count]) -> (i64, i64) {
    counts.iter().fold((0, 0), |(calls, matching), count| (calls + count.calls, matching + count.matching))
}

/// `ids` up to the far end of the period that begins at `ms`.
fn cut(calendar: &Calendar, ids: Ids, granularity: Granularity, ms: i64, newest_first: bool) -> Ids {
    if newest_first {
        (ids.0.max(id_at(ms)), ids.1)
    } else {
        (ids.0, ids.1.min(id_at(calendar.ceil(granularity, ms + 1))))
    }
}

/// Calls by period, in the order of reading.
async fn counts(
    session: &mut Session,
    calendar: &Calendar,
    filter: &Filter,
    granularity: Granularity,
    start_ms: i64,
    end_ms: i64,
    newest_first: bool,
) -> Result<Vec<Count>, QueryError> {
    let mut sql = session.sql();
    sql.push("SELECT bucket, ").whole("SUM(rollups.calls)").push(", ").whole_of(|sql| {
        sql.push("SUM(CASE WHEN 1 = 1");
        filter.conditions(sql);
        sql.push(" THEN rollups.calls ELSE 0 END)");
    });
    sql.push(" FROM rollups JOIN series ON series.id = rollups.series_id WHERE granularity = ");
    sql.push(&granularity.code().to_string());
    let bucket = |ms: i64| calendar.bucket(granularity, ms.div_euclid(1000));
    sql.push(" AND bucket >= ").bind(bucket(start_ms)).push(" AND bucket <= ").bind(bucket(end_ms - 1));
    sql.push(" GROUP BY bucket ORDER BY bucket").push(if newest_first { " DESC" } else { "" });
    let rows = session.rows(sql).await?;
    let counts = rows.iter().map(|row| Ok(Count { bucket: row.int(0)?, calls: row.int(1)?, matching: row.int(2)? }));
    counts.collect::<Result<_, _>>().map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_the_one_that_reads_less() {
        let count = |calls, matching| Count { bucket: 0, calls, matching };
        assert_eq!(way(&[count(100_000, 50_000)]), Way::Scan);
        assert_eq!(way(&[count(100_000, 0), count(100_000, 100)]), Way::Index);
        assert_eq!(way(&[]), Way::Index);
        assert_eq!(enough(&[count(9, 3), count(9, 0), count(9, 4)], 5), Some(2));
        assert_eq!(enough(&[count(9, 3)], 4), None);
        assert_eq!(cost(&[count(i64::MAX / 2, i64::MAX / 2)]), i64::MAX / 2);
    }
}
