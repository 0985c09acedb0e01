//! A table: its columns, and its rows as they are read.

use aiproxy_ledger::{Entry, EntryAttempt};
use aiproxy_llm::usage::Usage;
use aiproxy_store::query::{Dimension, Export, Groups, Latency, QueryError, Timeseries, Totals};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::dimension_columns;
use crate::json::{self, USAGE};
use crate::live::About;

/// A table.
pub(super) struct Table {
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Rows,
}

/// What is in a cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Empty,
    Text(String),
    Int(i64),
    /// A number with three decimals.
    Thousandths(i64),
}

/// The rows of a table, some at a time.
pub(super) enum Rows {
    /// All of them.
    Ready(Vec<Vec<Cell>>),
    /// Records, and the currency of their costs.
    Records(Box<Export>, String),
}

impl Rows {
    /// Records as they are read.
    pub(super) fn of_records(export: Export, currency: String) -> Self {
        Self::Records(Box::new(export), currency)
    }

    /// The next rows; none after the last.
    pub(super) async fn next(&mut self) -> Result<Vec<Vec<Cell>>, QueryError> {
        match self {
            Self::Ready(rows) => Ok(std::mem::take(rows)),
            Self::Records(export, currency) => {
                let records = export.next().await?;
                Ok(records.iter().map(|record| record_cells(&record.entry(), currency)).collect())
            }
        }
    }
}

/// Columns of records: the fields of the record, usage and currency in columns of their own.
pub(super) fn record_columns() -> Vec<&'static str> {
    let head = [
        "id",
        "started_at",
        "duration_ms",
        "first_byte_ms",
        "user_id",
        "department",
        "groups",
        "key_id",
        "relay_token_id",
        "client_ip",
        "method",
        "path",
        "endpoint",
        "dialect",
        "protocol",
        "channel_id",
        "credential_id",
        "model_asked",
        "model_served",
        "attempts",
        "status",
        "error_code",
        "upstream_request_id",
        "end",
        "request_bytes",
        "response_bytes",
    ];
    let tail = ["seconds", "usage_source", "usage_flaw", "cost", "currency", "price_version", "cache", "counted"];
    head.into_iter().chain(USAGE).chain(tail).collect()
}

fn record_cells(entry: &Entry<'_>, currency: &str) -> Vec<Cell> {
    let usage = entry.usage.unwrap_or_default();
    let started = i64::try_from(entry.started_unix_ms).unwrap_or(i64::MAX);
    let mut cells = vec![
        Cell::Text(entry.id_text()),
        Cell::Text(Timestamp::from_millisecond(started).map_or_else(|_| started.to_string(), |at| format!("{at:.3}"))),
        thousandths(entry.duration_us),
        entry.first_byte_us.map_or(Cell::Empty, thousandths),
        text(entry.user_id),
        text(entry.department),
        text(Some(entry.groups.join(";").as_str())),
        text(entry.key_id),
        text(entry.relay_token_id),
        text(Some(entry.client_ip)),
        text(Some(entry.method)),
        text(Some(entry.path)),
        text(Some(entry.endpoint)),
        text(Some(entry.dialect)),
        text(Some(entry.protocol)),
        text(entry.channel_id),
        text(entry.credential_id),
        text(entry.model_asked),
        text(entry.model_served),
        Cell::Text(attempts(&entry.attempts)),
        Cell::Int(entry.status.into()),
        text(entry.error_code),
        text(entry.upstream_request_id),
        text(Some(entry.end)),
        count(entry.request_bytes),
        count(entry.response_bytes),
    ];
    cells.extend(usage.fields().map(|(_, number)| number.map_or(Cell::Empty, count)));
    cells.extend([
        usage.seconds_ms.map_or(Cell::Empty, thousandths),
        text(Some(entry.usage_source)),
        text(entry.usage_flaw),
        entry.cost.map_or(Cell::Empty, Cell::Int),
        text(Some(currency)),
        text(entry.price_version),
        text(Some(entry.cache)),
        Cell::Text(entry.counted.to_string()),
    ]);
    cells
}

/// Every try, as JSON.
fn attempts(attempts: &[EntryAttempt<'_>]) -> String {
    let attempts = attempts.iter().map(|attempt| {
        let EntryAttempt { channel_id, credential_id, status, ms, why, usage, cost } = attempt;
        let mut map = Map::new();
        map.insert("channel_id".into(), json!(channel_id));
        map.insert("credential_id".into(), json!(credential_id));
        map.insert("status".into(), json!(status));
        map.insert("ms".into(), json!(ms));
        map.extend(why.map(|why| ("why".to_owned(), json!(why))));
        map.extend(usage.map(|usage| ("usage".to_owned(), usage_json(&usage))));
        map.extend(cost.map(|cost| ("cost".to_owned(), json!(cost))));
        Value::from(map)
    });
    attempts.collect::<Value>().to_string()
}

fn usage_json(usage: &Usage) -> Value {
    let fields = usage.fields().into_iter().filter_map(|(name, number)| Some((name.to_owned(), json!(number?))));
    let seconds = usage.seconds_ms.map(|ms| ("seconds".to_owned(), json!(ms as f64 / 1000.0)));
    Value::from(fields.chain(seconds).collect::<Map<_, _>>())
}

/// Columns of sums.
pub(super) fn totals_columns(percentiles: bool) -> Vec<&'static str> {
    let mut columns = vec!["calls", "succeeded", "failed", "counted", "duration_calls", "duration_ms"];
    if percentiles {
        columns.extend(["duration_p50_ms", "duration_p95_ms", "duration_p99_ms"]);
    }
    columns.extend(["first_byte_calls", "first_byte_ms"]);
    if percentiles {
        columns.extend(["first_byte_p50_ms", "first_byte_p95_ms", "first_byte_p99_ms"]);
    }
    columns.extend(["request_bytes", "response_bytes"]);
    columns.extend(USAGE);
    columns.extend(["seconds", "cost", "currency", "unpriced", "estimated"]);
    columns
}

/// Cells of sums; `duration_ms` and `first_byte_ms` are sums too, so that they can be added up.
pub(super) fn totals(totals: &Totals, latency: Option<&Latency>, currency: &str) -> Vec<Cell> {
    let percentiles = |cells: &mut Vec<Cell>, histogram: Option<&aiproxy_store::query::Histogram>| {
        if let Some(histogram) = histogram {
            cells.extend([0.5, 0.95, 0.99].map(|share| histogram.percentile(share).map_or(Cell::Empty, thousandths)));
        }
    };
    let [calls, succeeded, failed, counted] = [totals.calls, totals.succeeded, totals.failed(), totals.counted];
    let mut cells = vec![Cell::Int(calls), Cell::Int(succeeded), Cell::Int(failed), Cell::Int(counted)];
    cells.extend([Cell::Int(totals.duration_calls), Cell::Thousandths(totals.duration_us)]);
    percentiles(&mut cells, latency.map(|latency| &latency.duration));
    cells.extend([Cell::Int(totals.first_byte_calls), Cell::Thousandths(totals.first_byte_us)]);
    percentiles(&mut cells, latency.map(|latency| &latency.first_byte));
    cells.extend([Cell::Int(totals.request_bytes), Cell::Int(totals.response_bytes)]);
    let fields = totals.fields();
    cells.extend(USAGE.map(|name| {
        fields.iter().find(|(field, _)| *field == name).map_or(Cell::Empty, |(_, number)| Cell::Int(*number))
    }));
    cells.extend([
        Cell::Thousandths(totals.seconds_ms),
        Cell::Int(totals.cost),
        text(Some(currency)),
        Cell::Int(totals.unpriced),
        Cell::Int(totals.estimated),
    ]);
    cells
}

/// Groups, a row each.
pub(super) fn of_groups(dimensions: &[Dimension], found: &Groups, percentiles: bool, about: &About) -> Table {
    let mut columns = dimension_columns(dimensions);
    columns.extend(totals_columns(percentiles));
    let rows = found.groups.iter().map(|group| {
        let mut cells = key_cells(dimensions, &group.key, about);
        cells.extend(totals(&group.totals, group.latency.as_ref(), &about.currency));
        cells
    });
    Table { columns, rows: Rows::Ready(rows.collect()) }
}

/// Periods, a row for each group of each.
pub(super) fn of_series(
    dimensions: &[Dimension],
    found: &Timeseries,
    zone: &TimeZone,
    percentiles: bool,
    about: &About,
) -> Table {
    let mut columns = vec!["start"];
    columns.extend(dimension_columns(dimensions));
    columns.extend(totals_columns(percentiles));
    let mut rows = Vec::new();
    for (at, start) in found.starts.iter().enumerate() {
        for series in &found.series {
            let mut cells = vec![Cell::Text(json::moment(start * 1000, zone))];
            match &series.key {
                Some(key) => cells.extend(key_cells(dimensions, key, about)),
                // The rest of the groups, in the first column of their names.
                None => {
                    let mut rest = vec![Cell::Empty; dimension_columns(dimensions).len()];
                    if let Some(first) = rest.first_mut() {
                        *first = Cell::Text("(rest)".into());
                    }
                    cells.extend(rest);
                }
            }
            cells.extend(totals(
                &series.points[at],
                series.latency.as_ref().map(|latency| &latency[at]),
                &about.currency,
            ));
            rows.push(cells);
        }
    }
    Table { columns, rows: Rows::Ready(rows) }
}

fn key_cells(dimensions: &[Dimension], key: &[String], about: &About) -> Vec<Cell> {
    let cells = json::group(dimensions, key, about).into_iter().map(|(_, value)| match value {
        Value::String(value) => Cell::Text(value),
        Value::Number(number) => number.as_i64().map_or(Cell::Empty, Cell::Int),
        _ => Cell::Empty,
    });
    cells.collect()
}

fn text(text: Option<&str>) -> Cell {
    text.filter(|text| !text.is_empty()).map_or(Cell::Empty, |text| Cell::Text(text.to_owned()))
}

fn count(number: u64) -> Cell {
    Cell::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn thousandths(number: u64) -> Cell {
    Cell::Thousandths(i64::try_from(number).unwrap_or(i64::MAX))
}
