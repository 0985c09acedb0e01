//! What retention has left. It deletes records, hours and days at different ages; a range that begins before is widened
//! to what is still kept, and a series of periods that are no longer kept is refused.

use super::calendar::Calendar;
use super::cover::{Piece, cover};
use super::error::QueryError;
use super::id_at;
use super::session::{Session, unreadable};
use crate::buckets::Granularity;
use crate::connection::Row;
use crate::ids::id_unix_ms;

/// From which moment on nothing has been deleted, in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Of records.
    pub(super) records: i64,
    /// Of hours.
    pub(super) hours: i64,
    /// Of days.
    pub(super) days: i64,
}

/// Nothing has been deleted.
const ALL: i64 = i64::MIN;

impl Kept {
    /// Finds out, as far as it matters to a range that begins at `start_ms`.
    pub(super) async fn since(session: &mut Session, calendar: &Calendar, start_ms: i64) -> Result<Self, QueryError> {
        let mut sql = session.sql();
        sql.push("SELECT (SELECT id FROM records ORDER BY id LIMIT 1)");
        for granularity in Granularity::ALL {
            sql.push(", (SELECT MIN(bucket) FROM rollups WHERE granularity = ");
            sql.push(&granularity.code().to_string()).push(")");
        }
        sql.push(", ").whole("(SELECT COUNT(*) FROM (SELECT id FROM records LIMIT 1) first)");
        let rows = session.rows(sql).await?;
        let [row] = &rows[..] else { return Ok(Self { records: ALL, hours: ALL, days: ALL }) };
        let oldest = Oldest::read(row)?;
        let (Some(hour), Some(day), Some(month)) = (oldest.hour, oldest.day, oldest.month) else {
            // Either nothing was ever written, or the finest of it is gone: then the next coarser says what is there.
            let gone = |finer: Option<i64>, coarser: Option<i64>| {
                if finer.is_none() && coarser.is_some() { i64::MAX } else { ALL }
            };
            return Ok(Self {
                records: if oldest.record.is_none() && oldest.hour.is_some() { i64::MAX } else { ALL },
                hours: gone(oldest.hour, oldest.day.or(oldest.month)),
                days: gone(oldest.day, oldest.month),
            });
        };
        let last = |granularity, ms: i64| calendar.ceil(granularity, ms.saturating_add(1));
        // The oldest goes first, in batches: of what is the oldest now a part may be gone.
        let safe = Self {
            records: oldest.record.map_or(i64::MAX, |ms| ms.saturating_add(1)),
            hours: last(Granularity::Hour, hour),
            days: last(Granularity::Day, day),
        };
        if start_ms >= safe.records && start_ms >= safe.hours && start_ms >= safe.days {
            return Ok(safe);
        }
        // Or it is whole, and nothing was there before it.
        let [days, hours] = [(Granularity::Month, day), (Granularity::Day, hour)]
            .map(|(granularity, ms)| (calendar.floor(granularity, ms), last(granularity, ms)));
        let record = oldest.record.map(|ms| (calendar.floor(Granularity::Hour, ms), last(Granularity::Hour, ms)));
        let mut sql = session.sql();
        let bucket = |granularity, ms: i64| calendar.bucket(granularity, ms.div_euclid(1000));
        let mut sum = |granularity: Granularity, from: i64, to: i64, first: bool| {
            sql.push(if first { "SELECT " } else { ", " });
            sql.push("(SELECT ").whole("COALESCE(SUM(calls), 0)").push(" FROM rollups WHERE granularity = ");
            sql.push(&granularity.code().to_string()).push(" AND bucket >= ").bind(bucket(granularity, from));
            sql.push(" AND bucket < ").bind(bucket(granularity, to)).push(")");
        };
        sum(Granularity::Month, days.0, days.1, true);
        sum(Granularity::Day, days.0, days.1, false);
        sum(Granularity::Day, hours.0, hours.1, false);
        sum(Granularity::Hour, hours.0, hours.1, false);
        let (from, to) = record.unwrap_or_default();
        sum(Granularity::Hour, from, to, false);
        sql.push(", (SELECT COUNT(*) FROM records WHERE id >= ").bind(id_at(from));
        sql.push(" AND id < ").bind(id_at(to)).push(")");
        let rows = session.rows(sql).await?;
        let [row] = &rows[..] else { return Ok(safe) };
        let equal =
            |one| Ok::<_, QueryError>(row.int(one).map_err(unreadable)? == row.int(one + 1).map_err(unreadable)?);
        // Whole from the start of the oldest period if its sum is that of the coarser; and if even that period is the
        // oldest of the coarser, then there never was anything before it.
        let mut kept = safe;
        if equal(0)? {
            kept.days = if month >= days.0 { ALL } else { days.0 };
        }
        if equal(2)? {
            kept.hours = if kept.days == ALL && day >= hours.0 { ALL } else { hours.0 };
        }
        if record.is_some() && equal(4)? {
            kept.records = if kept.hours == ALL && hour >= from { ALL } else { from };
        }
        Ok(kept)
    }

    /// The least range around this one that can be told exactly.
    pub(super) fn widen(&self, calendar: &Calendar, mut start_ms: i64, mut end_ms: i64) -> (i64, i64) {
        for coarser in Granularity::ALL {
            for piece in cover(calendar, start_ms, end_ms) {
                let (from_ms, to_ms, finer) = span(&piece);
                if finer != Some(coarser) || !self.is_lost(&piece) {
                    continue;
                }
                if calendar.floor(coarser, from_ms) == calendar.floor(coarser, start_ms) {
                    start_ms = calendar.floor(coarser, start_ms);
                }
                if calendar.floor(coarser, to_ms - 1) == calendar.floor(coarser, end_ms - 1) {
                    end_ms = calendar.ceil(coarser, end_ms);
                }
            }
        }
        (start_ms, end_ms)
    }

    /// Whether something of a piece has been deleted.
    fn is_lost(&self, piece: &Piece) -> bool {
        let (from_ms, _, coarser) = span(piece);
        match coarser {
            Some(Granularity::Hour) => from_ms < self.records,
            Some(Granularity::Day) => from_ms < self.hours,
            Some(Granularity::Month) => from_ms < self.days,
            None => false,
        }
    }

    /// Refuses pieces of which something has been deleted.
    pub(super) fn check(&self, calendar: &Calendar, pieces: &[Piece]) -> Result<(), QueryError> {
        let Some(lost) = pieces.iter().find(|piece| self.is_lost(piece)) else { return Ok(()) };
        let (kept, what) = match span(lost).2 {
            Some(Granularity::Hour) => (self.records, "Records are"),
            Some(Granularity::Day) => (self.hours, "Statistics by the hour are"),
            _ => (self.days, "Statistics by the day are"),
        };
        let since = match jiff::Timestamp::from_millisecond(kept) {
            Ok(since) if kept != i64::MAX => format!("kept from {since} on"),
            _ => "not kept".to_owned(),
        };
        let zone = calendar.zone().iana_name().unwrap_or("the ledger's");
        let message = format!(
            "{what} {since} (system.retention). Ask for a later start, longer periods, or the time zone {zone}."
        );
        Err(QueryError::invalid("start", message))
    }
}

/// Where a piece begins and ends, in milliseconds, and what its rows can be told by where they are gone.
fn span(piece: &Piece) -> (i64, i64, Option<Granularity>) {
    match *piece {
        Piece::Records { start_ms, end_ms } => (start_ms, end_ms, Some(Granularity::Hour)),
        Piece::Rollups { granularity, from, to } => {
            let coarser = match granularity {
                Granularity::Hour => Some(Granularity::Day),
                Granularity::Day => Some(Granularity::Month),
                Granularity::Month => None,
            };
            (from * 1000, to * 1000, coarser)
        }
    }
}

/// The oldest of each, in milliseconds.
struct Oldest {
    record: Option<i64>,
    hour: Option<i64>,
    day: Option<i64>,
    month: Option<i64>,
}

impl Oldest {
    fn read(row: &Row) -> Result<Self, QueryError> {
        let ms = |column| {
            Ok::<_, QueryError>(row.maybe_int(column).map_err(unreadable)?.map(|second| second.saturating_mul(1000)))
        };
        let has_record = row.maybe_int(1 + Granularity::ALL.len()).map_err(unreadable)? == Some(1);
        let record = if has_record { Some(id_unix_ms(&row.id(0).map_err(unreadable)?) as i64) } else { None };
        Ok(Self { record, hour: ms(1)?, day: ms(2)?, month: ms(3)? })
    }
}
