//! Sums over a range: in all, by group, by period. One statement each, or a few, whatever the range and however many
//! rows: the database adds up, what comes back is the answer.

use std::collections::{BTreeMap, HashMap};

use aiproxy_config::snapshot::DatabaseKind;

use super::cover::{Period, Piece};
use super::error::QueryError;
use super::filter::{Dimension, Filter};
use super::id_at;
use super::latency::{BIN, Latency};
use super::session::{Session, unreadable};
use super::sql::Sql;
use super::totals::{COLUMNS, Column, Totals};
use crate::connection::Row;

/// Most rows of sums that a statement gives: groups, or groups times periods.
const MAX_SUMS: usize = 50_000;

/// Most rows of histograms, which are narrow.
const MAX_BINS: usize = 500_000;

/// Most series, and most rows of packed histograms.
const MAX_PACKED: usize = 300_000;

/// The values that a group has in common, one per dimension; `None` for those that are none of the chosen groups.
pub(super) type Key = Option<Vec<String>>;

/// What is asked of the rows of some pieces.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    /// Where the rows are.
    pub(super) pieces: &'a [Piece],
    /// Which of them.
    pub(super) filter: &'a Filter,
    /// What they are grouped by.
    pub(super) dimensions: &'a [Dimension],
    /// Groups that are told apart: all, or these and the rest.
    pub(super) groups: Option<&'a [Vec<String>]>,
    /// Periods that are told apart.
    pub(super) periods: Option<&'a [Period]>,
}

/// Which groups are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Top {
    /// Largest of what first.
    pub(super) order: Order,
    /// How many.
    pub(super) limit: usize,
    /// Only those in which calls failed.
    pub(super) failed_only: bool,
}

/// What groups are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The largest sum first; a name of [`Totals::fields`].
    Largest(&'static str),
    /// The most calls that did not succeed first.
    MostFailed,
    /// By their names, rising.
    Name,
}

impl Order {
    /// Reads the name of an order: `name`, `failed` or one of [`Totals::fields`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "name" => Some(Self::Name),
            "failed" => Some(Self::MostFailed),
            _ => COLUMNS.iter().find(|column| column.name == name).map(|column| Self::Largest(column.name)),
        }
    }
}

impl Question<'_> {
    /// Sums by group and by index of the period.
    pub(super) async fn totals(&self, session: &mut Session) -> Result<BTreeMap<(Key, usize), Totals>, QueryError> {
        let mut sums = BTreeMap::<(Key, usize), Totals>::new();
        let Some(parts) = self.parts(session, Select::Totals) else { return Ok(sums) };
        for row in bounded(session, parts, MAX_SUMS).await? {
            let (group, column) = self.group(&row)?;
            sums.entry(group).or_default().add(&totals(&row, column)?);
        }
        Ok(sums)
    }

    /// The first groups, in order, and how many there are.
    pub(super) async fn top(
        &self,
        session: &mut Session,
        top: Top,
    ) -> Result<(Vec<(Vec<String>, Totals)>, i64), QueryError> {
        let Some(parts) = self.parts(session, Select::Totals) else { return Ok((Vec::new(), 0)) };
        let mut sql = session.sql();
        sql.push("SELECT ");
        for index in 0..self.dimensions.len() {
            sql.push("key").push(&index.to_string()).push(", ");
        }
        for column in COLUMNS {
            sql.whole(&format!("SUM({})", column.name)).push(", ");
        }
        sql.whole("COUNT(*) OVER ()").push(" FROM (").push_sql(parts).push(") parts");
        let names = |sql: &mut Sql| {
            for index in 0..self.dimensions.len() {
                sql.push(if index > 0 { ", key" } else { "key" }).push(&index.to_string());
            }
        };
        sql.push(" GROUP BY ");
        names(&mut sql);
        if top.failed_only {
            sql.push(" HAVING SUM(calls) > SUM(succeeded)");
        }
        sql.push(" ORDER BY ");
        match top.order {
            Order::Largest(name) => sql.push("SUM(").push(name).push(") DESC, "),
            Order::MostFailed => sql.push("SUM(calls) - SUM(succeeded) DESC, "),
            Order::Name => &mut sql,
        };
        names(&mut sql);
        sql.push(" LIMIT ").bind(top.limit as i64);
        let (mut groups, mut count) = (Vec::new(), 0);
        for row in session.rows(sql).await? {
            let ((key, _), column) = self.group(&row)?;
            groups.extend(key.zip(Some(totals(&row, column)?)));
            count = row.int(column + COLUMNS.len()).map_err(unreadable)?;
        }
        Ok((groups, count))
    }

    /// Histograms by group and by index of the period.
    pub(super) async fn latency(&self, session: &mut Session) -> Result<BTreeMap<(Key, usize), Latency>, QueryError> {
        let mut histograms = BTreeMap::<(Key, usize), Latency>::new();
        let mut rest = *self;
        let records: Vec<_> =
            self.pieces.iter().filter(|piece| matches!(piece, Piece::Records { .. })).copied().collect();
        if session.sql().kind() == DatabaseKind::Sqlite {
            self.packed_latency(session, &mut histograms).await?;
            rest.pieces = &records;
        }
        let Some(parts) = rest.parts(session, Select::Latency) else { return Ok(histograms) };
        for row in bounded(session, parts, MAX_BINS).await? {
            let (group, column) = self.group(&row)?;
            let number = |column| row.int(column).map_err(unreadable);
            let [kind, bin, calls] = [number(column)?, number(column + 1)?, number(column + 2)?];
            histograms.entry(group).or_default().add(kind, bin, calls);
        }
        Ok(histograms)
    }

    /// The same from the rollups of SQLite, which adds up by sorting: that takes ten times as long as to read the bins of
    /// a bucket in the order they lie in, packed into one text, and add them up here.
    async fn packed_latency(
        &self,
        session: &mut Session,
        histograms: &mut BTreeMap<(Key, usize), Latency>,
    ) -> Result<(), QueryError> {
        let Some(sql) = self.packed(session) else { return Ok(()) };
        let keys = if self.dimensions.is_empty() { None } else { Some(self.series(session).await?) };
        for row in bounded(session, sql, MAX_PACKED).await? {
            let [series, bucket] = [row.int(0).map_err(unreadable)?, row.int(1).map_err(unreadable)?];
            let key = match &keys {
                None => Some(Vec::new()),
                // A series that is not among them is not in the filter.
                Some(keys) => match keys.get(&series) {
                    Some(key) => key.clone(),
                    None => continue,
                },
            };
            let histogram = histograms.entry((key, self.period(bucket))).or_default();
            for number in row.text(2).map_err(unreadable)?.split(',') {
                let unreadable = |_| QueryError::Failed(format!("a packed bin is `{number}`"));
                let number: i64 = number.parse().map_err(unreadable)?;
                histogram.add(number / 512 % 2, number % 512, number / 1024);
            }
        }
        Ok(())
    }

    fn packed(&self, session: &Session) -> Option<Sql> {
        let mut sql = session.sql();
        let mut is_first = true;
        for piece in self.pieces {
            let Piece::Rollups { granularity, from, to } = piece else { continue };
            sql.push(if is_first { "" } else { " UNION ALL " });
            is_first = false;
            let (series, group) = if self.dimensions.is_empty() { ("0", "") } else { ("series_id", ", series_id") };
            sql.push("SELECT ").push(series).push(", bucket, group_concat(calls * 1024 + kind * 512 + bin)");
            sql.push(" FROM rollup_latency WHERE granularity = ").push(&granularity.code().to_string());
            sql.push(" AND bucket >= ").bind(*from).push(" AND bucket < ").bind(*to);
            if !self.filter.is_unconditional() {
                sql.push(" AND series_id IN (SELECT series.id FROM series WHERE 1 = 1");
                self.filter.conditions(&mut sql);
                sql.push(")");
            }
            sql.push(" GROUP BY bucket").push(group);
        }
        (!is_first).then_some(sql)
    }

    /// The group of each series.
    async fn series(&self, session: &mut Session) -> Result<HashMap<i64, Key>, QueryError> {
        let mut sql = session.sql();
        sql.push("SELECT ");
        for dimension in self.dimensions {
            self.key(*dimension, &mut sql);
            sql.push(", ");
        }
        sql.push("series.id FROM series WHERE 1 = 1");
        self.filter.conditions(&mut sql);
        let rows = bounded(session, sql, MAX_PACKED).await?;
        let keys = rows.iter().map(|row| {
            let (key, column) = self.key_of(row)?;
            Ok((row.int(column).map_err(unreadable)?, key))
        });
        keys.collect()
    }

    /// The rows of all pieces; `None` where there are none.
    fn parts(&self, session: &Session, select: Select) -> Option<Sql> {
        let mut sql = session.sql();
        for (index, piece) in self.pieces.iter().enumerate() {
            sql.push(if index > 0 { " UNION ALL " } else { "" });
            if select == Select::Latency && matches!(piece, Piece::Records { .. }) {
                self.term(Some("records.duration_us"), select, piece, &mut sql);
                sql.push(" UNION ALL ");
                self.term(Some("records.first_byte_us"), select, piece, &mut sql);
            } else {
                self.term(None, select, piece, &mut sql);
            }
        }
        (!self.pieces.is_empty()).then_some(sql)
    }

    /// The rows of one piece. `duration` is the column of records that a histogram is made of.
    fn term(&self, duration: Option<&str>, select: Select, piece: &Piece, sql: &mut Sql) {
        sql.push("SELECT ");
        let mut columns = 0;
        for (index, dimension) in self.dimensions.iter().enumerate() {
            self.key(*dimension, sql);
            sql.push(" AS key").push(&index.to_string()).push(", ");
            columns += 1;
        }
        let table = match (piece, select) {
            (Piece::Records { .. }, _) => "records",
            (Piece::Rollups { .. }, Select::Totals) => "rollups",
            (Piece::Rollups { .. }, Select::Latency) => "rollup_latency",
        };
        if let Some(periods) = self.periods {
            match piece {
                Piece::Rollups { .. } => sql.push(table).push(".bucket"),
                Piece::Records { start_ms, .. } => {
                    let bucket = period_at(periods, *start_ms).map_or(0, |index| periods[index].bucket);
                    sql.whole(&bucket.to_string())
                }
            };
            sql.push(", ");
            columns += 1;
        }
        self.numbers(duration, select, piece, sql);
        if select == Select::Latency {
            columns += 2;
        }
        sql.push(" FROM ").push(table);
        let is_plain = self.dimensions.is_empty() && self.filter.is_unconditional();
        if !is_plain || table != "rollup_latency" {
            sql.push(" JOIN series ON series.id = ").push(table).push(".series_id");
        }
        match piece {
            Piece::Rollups { granularity, from, to } => {
                sql.push(" WHERE granularity = ").push(&granularity.code().to_string());
                sql.push(" AND bucket >= ").bind(*from).push(" AND bucket < ").bind(*to);
            }
            Piece::Records { start_ms, end_ms } => {
                sql.push(" WHERE records.id >= ").bind(id_at(*start_ms));
                sql.push(" AND records.id < ").bind(id_at(*end_ms));
            }
        }
        if let Some(duration) = duration {
            sql.push(" AND ").push(duration).push(" IS NOT NULL AND series.protocol NOT IN ('websocket', 'webrtc')");
        }
        self.filter.conditions(sql);
        for column in 1..=columns {
            sql.push(if column == 1 { " GROUP BY " } else { ", " }).push(&column.to_string());
        }
    }

    fn numbers(&self, duration: Option<&str>, select: Select, piece: &Piece, sql: &mut Sql) {
        match (select, duration) {
            (Select::Latency, None) => {
                sql.whole("kind").push(", ").whole("bin").push(", ").whole("SUM(calls)");
            }
            (Select::Latency, Some(duration)) => {
                let kind = if duration == "records.duration_us" { "0" } else { "1" };
                sql.whole(kind).push(", ").whole(&BIN.replace("{}", duration)).push(", ").whole("COUNT(*)");
            }
            (Select::Totals, _) => {
                for (index, Column { name, raw, rolled }) in COLUMNS.iter().enumerate() {
                    let summed = if matches!(piece, Piece::Records { .. }) { raw } else { rolled };
                    sql.push(if index > 0 { ", " } else { "" })
                        .whole(&format!("COALESCE(SUM({summed}), 0)"))
                        .push(" AS ")
                        .push(name);
                }
            }
        }
    }

    /// One column of the group's key: the value, or NULL where it is none of the groups asked for.
    fn key(&self, dimension: Dimension, sql: &mut Sql) {
        let column = dimension.column();
        if self.groups.is_none() {
            value(dimension, column, sql);
            return;
        }
        sql.push("CASE WHEN ");
        self.in_groups(sql);
        sql.push(" THEN ");
        value(dimension, column, sql);
        sql.push(" ELSE NULL END");
    }

    /// Whether a row is in one of the groups asked for.
    fn in_groups(&self, sql: &mut Sql) {
        let groups = self.groups.unwrap_or_default();
        if groups.is_empty() {
            sql.push("1 = 0");
            return;
        }
        sql.push("(");
        for (index, group) in groups.iter().enumerate() {
            sql.push(if index > 0 { " OR (" } else { "(" });
            for (index, (dimension, value)) in self.dimensions.iter().zip(group).enumerate() {
                sql.push(if index > 0 { " AND " } else { "" }).push(dimension.column()).push(" = ");
                match dimension.value(value) {
                    Some(value) => sql.bind(value),
                    None => sql.push("NULL"),
                };
            }
            sql.push(")");
        }
        sql.push(")");
    }

    /// The group and period of a row, and where its numbers begin.
    fn group(&self, row: &Row) -> Result<((Key, usize), usize), QueryError> {
        let (key, column) = self.key_of(row)?;
        if self.periods.is_none() {
            return Ok(((key, 0), column));
        }
        let bucket = row.int(column).map_err(unreadable)?;
        Ok(((key, self.period(bucket)), column + 1))
    }

    /// The group of a row, and what column comes after it.
    fn key_of(&self, row: &Row) -> Result<(Key, usize), QueryError> {
        let mut key = Some(Vec::with_capacity(self.dimensions.len()));
        for (column, dimension) in self.dimensions.iter().enumerate() {
            let value = match dimension {
                Dimension::Status => row.maybe_int(column).map_err(unreadable)?.map(|status| status.to_string()),
                _ => row.maybe_text(column).map_err(unreadable)?,
            };
            key = key.zip(value).map(|(mut key, value)| {
                key.push(value);
                key
            });
        }
        Ok((key, self.dimensions.len()))
    }

    /// The index of the period that a bucket is in.
    fn period(&self, bucket: i64) -> usize {
        let periods = self.periods.unwrap_or_default();
        periods.partition_point(|period| period.bucket <= bucket).saturating_sub(1)
    }
}

/// The rows of `sql`, of which there may be `most`.
async fn bounded(session: &mut Session, mut sql: Sql, most: usize) -> Result<Vec<Row>, QueryError> {
    sql.push(" LIMIT ").bind(most as i64 + 1);
    let rows = session.rows(sql).await?;
    if rows.len() > most {
        let message = "The answer has too many rows. Ask for less time, longer periods or fewer groups.";
        return Err(QueryError::invalid("granularity", message));
    }
    Ok(rows)
}

fn totals(row: &Row, mut column: usize) -> Result<Totals, QueryError> {
    Totals::read(|| {
        column += 1;
        row.int(column - 1).map_err(unreadable)
    })
}

/// What of the rows is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Select {
    Totals,
    Latency,
}

fn value(dimension: Dimension, column: &str, sql: &mut Sql) {
    if dimension == Dimension::Status {
        sql.whole(column)
    } else {
        sql.push(column)
    };
}

/// The index of the period that a moment is in.
fn period_at(periods: &[Period], ms: i64) -> Option<usize> {
    let index = periods.partition_point(|period| period.start_ms <= ms).checked_sub(1)?;
    (ms < periods[index].end_ms).then_some(index)
}
