//! Questions to the ledger: sums over any range of time, in all, by group and by period; and records, page by page.
//!
//! ```text
//! filter, range ─ cover ─▶ whole months, days, hours: rollups ─┐
//!                          the ends, less than an hour: records ┴▶ one statement each ─▶ totals, groups, series
//! filter, cursor ─ window ─▶ scan, or index of the series ─▶ page of records
//! ```
//!
//! So sums of any range are exact, and equal to what adding up its records gives. Each question is one read-only
//! transaction with one deadline, on connections that the writer does not use. It knows nothing of HTTP.

use std::time::Duration;

use jiff::tz::TimeZone;

mod calendar;
mod cover;
mod error;
mod filter;
mod kept;
mod latency;
mod record;
mod records;
mod session;
mod sql;
mod statistics;
mod totals;
mod window;

pub use error::QueryError;
pub use filter::{Dimension, Filter};
pub use latency::{Histogram, Latency};
pub use record::Record;
pub use records::{Cursor, MAX_PAGE, Page};
pub use statistics::Order;
pub use totals::Totals;

use crate::buckets::Granularity;
use crate::ids::id_floor;
use crate::store::Store;
use calendar::Calendar;
use cover::Period;
use kept::Kept;
use records::Pages;
use session::Session;
use statistics::{Question, Top};

/// How long one question may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Most groups of one answer.
pub const MAX_GROUPS: usize = 10_000;

/// Most groups that a series is told apart by.
pub const MAX_SERIES: usize = 50;

/// Records that an export reads at once.
const EXPORT_PAGE: usize = 1000;

/// How far ahead an export looks for where its records are.
const EXPORT_AHEAD: usize = 50_000;

/// The latest moment that can be asked for: the year 9000.
const LATEST_MS: i64 = 221_845_392_000_000;

/// Asks a ledger. Clones share its connections.
#[derive(Clone)]
pub struct Query {
    store: Store,
    calendar: Calendar,
}

/// A range as it was answered: as it was asked for, unless retention has left only coarser sums there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first millisecond.
    pub start_ms: i64,
    /// The first millisecond after it.
    pub end_ms: i64,
}

/// Sums over a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What was summed.
    pub range: Range,
    /// The sums.
    pub totals: Totals,
    /// Histograms, if they were asked for.
    pub latency: Option<Latency>,
}

/// Which groups are asked for.
#[derive(Clone, Debug)]
pub struct Grouping {
    /// What calls are grouped by: one or more.
    pub dimensions: Vec<Dimension>,
    /// Which groups come first.
    pub order: Order,
    /// How many, at most [`MAX_GROUPS`].
    pub limit: usize,
    /// Only groups in which calls failed.
    pub failed_only: bool,
}

/// Sums of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What its calls have in common, in the order of the dimensions; empty text is "none".
    pub key: Vec<String>,
    /// The sums.
    pub totals: Totals,
    /// Histograms, if they were asked for.
    pub latency: Option<Latency>,
}

/// Sums by group.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    /// The sums of all groups, also of those that are not among `groups`.
    pub summary: Summary,
    /// The first groups, in order.
    pub groups: Vec<Group>,
    /// How many groups there are.
    pub count: i64,
}

/// Which periods are asked for.
#[derive(Clone, Debug)]
pub struct Periods {
    /// How long each is.
    pub granularity: Granularity,
    /// Whose hours, days or months they are. It must differ from the ledger's by whole hours.
    pub zone: TimeZone,
    /// The groups that are told apart within each, at most [`MAX_SERIES`]; the rest is one more.
    pub grouping: Option<Grouping>,
}

/// Sums by period of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The group; `None` for the rest.
    pub key: Option<Vec<String>>,
    /// Sums of each period.
    pub points: Vec<Totals>,
    /// Histograms of each period, if they were asked for.
    pub latency: Option<Vec<Latency>>,
}

/// Sums by period.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeseries {
    /// The sums of all of it.
    pub summary: Summary,
    /// When each period begins, in seconds since 1970-01-01 UTC; the first may begin before the range does.
    pub starts: Vec<i64>,
    /// All calls; or the groups in order, and after them the rest.
    pub series: Vec<Series>,
}

/// Bodies of one call, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBodies {
    /// What the client sent.
    pub request: Option<String>,
    /// What the client got.
    pub response: Option<String>,
}

impl Query {
    /// Asks `store`, whose sums are of hours, days and months of `zone`.
    #[must_use]
    pub fn new(store: Store, zone: TimeZone) -> Self {
        Self { store, calendar: Calendar::new(zone) }
    }

    /// The time zone of the ledger's hours, days and months.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        self.calendar.zone()
    }

    /// Sums over a range.
    ///
    /// # Errors
    /// As [`QueryError`] tells.
    pub async fn summary(&self, filter: &Filter, percentiles: bool) -> Result<Summary, QueryError> {
        let mut session = self.open(filter).await?;
        let filter = self.widened(&mut session, filter).await?;
        let summary = self.sum(&mut session, &filter, percentiles).await?;
        session.finish().await?;
        Ok(summary)
    }

    /// Sums by group.
    ///
    /// # Errors
    /// As [`QueryError`] tells.
    pub async fn group_by(&self, filter: &Filter, by: &Grouping, percentiles: bool) -> Result<Groups, QueryError> {
        let mut session = self.open(filter).await?;
        let filter = self.widened(&mut session, filter).await?;
        let mut summary = self.sum(&mut session, &filter, false).await?;
        let limit = by.limit.min(MAX_GROUPS);
        let (groups, count, latency) = self.groups(&mut session, &filter, by, limit, percentiles).await?;
        summary.latency = latency;
        session.finish().await?;
        Ok(Groups { summary, groups, count })
    }

    /// Sums by period.
    ///
    /// # Errors
    /// As [`QueryError`] tells; also if the time zone's hours are not the ledger's, or if retention has deleted what the
    /// periods are made of.
    pub async fn timeseries(&self, filter: &Filter, by: &Periods, percentiles: bool) -> Result<Timeseries, QueryError> {
        let mut session = self.open(filter).await?;
        let kept = Kept::since(&mut session, &self.calendar, filter.start_ms).await?;
        let filter = self.widen(kept, filter);
        let theirs = Calendar::new(by.zone.clone());
        let periods = cover::periods(&theirs, by.granularity, filter.start_ms, filter.end_ms)?;
        let pieces = cover::cover_periods(&self.calendar, &periods)?;
        kept.check(&self.calendar, &pieces)?;
        let summary = self.sum(&mut session, &filter, percentiles).await?;
        let (mut dimensions, mut keys) = (&[][..], Vec::new());
        if let Some(grouping) = &by.grouping {
            let limit = grouping.limit.min(MAX_SERIES);
            let (groups, ..) = self.groups(&mut session, &filter, grouping, limit, false).await?;
            keys = groups.into_iter().map(|group| group.key).collect();
            dimensions = &grouping.dimensions;
        }
        let question = Question {
            pieces: &pieces,
            filter: &filter,
            dimensions,
            groups: by.grouping.as_ref().map(|_| &keys[..]),
            periods: Some(&periods),
        };
        let totals = question.totals(&mut session).await?;
        let latency = if percentiles { Some(question.latency(&mut session).await?) } else { None };
        session.finish().await?;
        let keys = keys.into_iter().map(Some).chain(by.grouping.as_ref().map(|_| None));
        let keys = if by.grouping.is_some() { keys.collect() } else { vec![Some(Vec::new())] };
        let count = 0..periods.len();
        let series = keys.into_iter().map(|key| Series {
            points: count.clone().map(|at| totals.get(&(key.clone(), at)).copied().unwrap_or_default()).collect(),
            latency: latency.as_ref().map(|latency| {
                count.clone().map(|at| latency.get(&(key.clone(), at)).cloned().unwrap_or_default()).collect()
            }),
            key,
        });
        let starts = periods.iter().map(|period: &Period| period.bucket).collect();
        Ok(Timeseries { summary, starts, series: series.collect() })
    }

    /// A page of at most `limit` records ([`MAX_PAGE`]) behind `cursor`.
    ///
    /// # Errors
    /// As [`QueryError`] tells.
    pub async fn records(
        &self,
        filter: &Filter,
        newest_first: bool,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, QueryError> {
        check_range(filter)?;
        let limit = limit.clamp(1, MAX_PAGE);
        let mut pages = Pages::new(filter, newest_first, cursor)?;
        // One more tells whether there is a next page.
        let mut records = pages.next(&self.store, &self.calendar, limit + 1, 0).await?;
        let is_more = records.len() > limit || !pages.is_at_end();
        records.truncate(limit);
        let next = records.last().filter(|_| is_more).map(|last| Cursor::behind(last.id()));
        Ok(Page { records, next })
    }

    /// All records of a filter, to be read piece by piece.
    ///
    /// # Errors
    /// The filter cannot be asked.
    pub fn export(&self, filter: &Filter, newest_first: bool) -> Result<Export, QueryError> {
        check_range(filter)?;
        Ok(Export { query: self.clone(), pages: Pages::new(filter, newest_first, None)? })
    }

    /// One record.
    ///
    /// # Errors
    /// As [`QueryError`] tells.
    pub async fn record(&self, id: [u8; 16]) -> Result<Option<Record>, QueryError> {
        let mut session = Session::open(&self.store).await?;
        let record = records::record(&mut session, id).await?;
        session.finish().await?;
        Ok(record)
    }

    /// The bodies of a call, where they were captured and are still kept.
    ///
    /// # Errors
    /// As [`QueryError`] tells.
    pub async fn bodies(&self, id: [u8; 16]) -> Result<Option<StoredBodies>, QueryError> {
        let mut session = Session::open(&self.store).await?;
        let mut sql = session.sql();
        sql.push("SELECT request, response FROM bodies WHERE id = ").bind(id);
        let rows = session.rows(sql).await?;
        session.finish().await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let text = |column| row.maybe_text(column).map_err(session::unreadable);
        Ok(Some(StoredBodies { request: text(0)?, response: text(1)? }))
    }

    async fn open(&self, filter: &Filter) -> Result<Session, QueryError> {
        check_range(filter)?;
        filter.check()?;
        Session::open(&self.store).await
    }

    async fn widened(&self, session: &mut Session, filter: &Filter) -> Result<Filter, QueryError> {
        Ok(self.widen(Kept::since(session, &self.calendar, filter.start_ms).await?, filter))
    }

    fn widen(&self, kept: Kept, filter: &Filter) -> Filter {
        let (start_ms, end_ms) = kept.widen(&self.calendar, filter.start_ms, filter.end_ms);
        Filter { start_ms, end_ms, only: filter.only.clone() }
    }

    async fn sum(&self, session: &mut Session, filter: &Filter, percentiles: bool) -> Result<Summary, QueryError> {
        let pieces = cover::cover(&self.calendar, filter.start_ms, filter.end_ms);
        let question = Question { pieces: &pieces, filter, dimensions: &[], groups: None, periods: None };
        let totals = question.totals(session).await?.into_values().next().unwrap_or_default();
        let latency = match percentiles {
            true => Some(question.latency(session).await?.into_values().next().unwrap_or_default()),
            false => None,
        };
        let range = Range { start_ms: filter.start_ms, end_ms: filter.end_ms.max(filter.start_ms) };
        Ok(Summary { range, totals, latency })
    }

    async fn groups(
        &self,
        session: &mut Session,
        filter: &Filter,
        by: &Grouping,
        limit: usize,
        percentiles: bool,
    ) -> Result<(Vec<Group>, i64, Option<Latency>), QueryError> {
        let pieces = cover::cover(&self.calendar, filter.start_ms, filter.end_ms);
        let dimensions = &by.dimensions[..];
        let question = Question { pieces: &pieces, filter, dimensions, groups: None, periods: None };
        let top = Top { order: by.order, limit, failed_only: by.failed_only };
        let (groups, count) = question.top(session, top).await?;
        // Histograms are the dearest: those of all groups are read once, and added up to that of all calls.
        let mut histograms = if percentiles { Some(question.latency(session).await?) } else { None };
        let all = histograms.as_ref().map(|histograms| {
            let mut all = Latency::default();
            histograms.values().for_each(|latency| all.merge(latency));
            all
        });
        let groups = groups.into_iter().map(|(key, totals)| Group {
            latency: histograms.as_mut().map(|found| found.remove(&(Some(key.clone()), 0)).unwrap_or_default()),
            key,
            totals,
        });
        Ok((groups.collect(), count, all))
    }
}

/// All records of a filter, in bounded memory.
pub struct Export {
    query: Query,
    pages: Pages,
}

impl Export {
    /// The next records, in order; none after the last.
    ///
    /// # Errors
    /// As [`QueryError`] tells.
    pub async fn next(&mut self) -> Result<Vec<Record>, QueryError> {
        let Query { store, calendar } = &self.query;
        while !self.pages.is_at_end() {
            let records = self.pages.next(store, calendar, EXPORT_PAGE, EXPORT_AHEAD).await?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
        Ok(Vec::new())
    }
}

fn check_range(filter: &Filter) -> Result<(), QueryError> {
    for (parameter, ms) in [("end", filter.end_ms), ("start", filter.start_ms)] {
        if !(0..=LATEST_MS).contains(&ms) {
            return Err(QueryError::invalid(parameter, "The time is out of range: from 1970 to 9000."));
        }
    }
    if filter.start_ms > filter.end_ms {
        return Err(QueryError::invalid("end", "The end is before the start."));
    }
    Ok(())
}

/// The lowest id of a moment.
fn id_at(ms: i64) -> [u8; 16] {
    id_floor(u64::try_from(ms).unwrap_or(0))
}
