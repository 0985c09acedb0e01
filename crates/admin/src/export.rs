//! Exports: the same questions as files, `format=csv` or `xlsx`. Whatever their size, they take little memory: rows are
//! read as they are written, and a client that reads slowly slows them down.

mod csv;
mod table;
mod xlsx;

use std::io;
use std::sync::Arc;

use aiproxy_store::query::{Dimension, Filter, Grouping, MAX_GROUPS, Order, Periods, Query};
use axum::extract::{Query as Pairs, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::admin::Inner;
use crate::answer::{AdminBody, Refused, respond, streamed};
use crate::export::table::{Rows, Table};
use crate::parameters::{Parameters, Scope};
use crate::statistics::{ERRORS, GROUPS, now_ms};

/// Bytes of a file that are sent at once.
const PIECE: usize = 64 << 10;

/// Reports that can be exported.
const REPORTS: [&str; 10] = [
    "users",
    "departments",
    "keys",
    "channels",
    "credentials",
    "models",
    "endpoints",
    "errors",
    "summary",
    "timeseries",
];

/// Groups of a series that are told apart.
const SERIES: usize = aiproxy_store::query::MAX_SERIES;

type Named = Pairs<Vec<(String, String)>>;

/// How a file is written.
struct Form {
    format: &'static str,
    /// Whether a CSV begins with a byte order mark, which Excel wants to see before it takes a file for UTF-8.
    bom: bool,
}

impl Form {
    fn read(parameters: &mut Parameters) -> Result<Self, Refused> {
        Ok(Self { format: parameters.word("format", &["csv", "xlsx"])?, bom: parameters.switch("bom", false)? })
    }
}

/// All records of a filter.
pub(crate) async fn records(State(inner): State<Arc<Inner>>, Pairs(pairs): Named) -> Result<Response, Refused> {
    let query = inner.query()?;
    let mut parameters = Parameters::new(pairs);
    let Scope { filter, .. } = parameters.scope(now_ms(), query.zone())?;
    let newest_first = parameters.newest_first()?;
    let form = Form::read(&mut parameters)?;
    parameters.finish()?;
    let permit = inner.exports.clone().try_acquire_owned().map_err(|_| Refused::busy())?;
    if form.format == "xlsx" {
        let calls = query.summary(&filter, false).await?.totals.calls;
        if calls > xlsx::MAX_ROWS {
            let message =
                format!("A spreadsheet of {calls} records is too large. Ask for less time, or for format=csv.");
            return Err(Refused::parameter("format", message));
        }
    }
    let currency = inner.live.about().currency;
    let table = Table {
        columns: table::record_columns(),
        rows: Rows::of_records(query.export(&filter, newest_first)?, currency),
    };
    send(&inner, table, &form, "records", &filter, permit).await
}

/// A report: groups, periods, or the sums of all calls.
pub(crate) async fn statistics(State(inner): State<Arc<Inner>>, Pairs(pairs): Named) -> Result<Response, Refused> {
    let query = inner.query()?;
    let mut parameters = Parameters::new(pairs);
    let scope = parameters.scope(now_ms(), query.zone())?;
    let report = parameters.word("report", &REPORTS)?;
    let form = Form::read(&mut parameters)?;
    let permit = inner.exports.clone().try_acquire_owned().map_err(|_| Refused::busy())?;
    let table = report_table(&inner, query, &scope, report, parameters).await?;
    send(&inner, table, &form, report, &scope.filter, permit).await
}

async fn report_table(
    inner: &Inner,
    query: &Query,
    scope: &Scope,
    report: &str,
    mut parameters: Parameters,
) -> Result<Table, Refused> {
    let Scope { filter, zone } = scope;
    let about = inner.live.about();
    if report == "summary" {
        let percentiles = parameters.switch("percentiles", true)?;
        parameters.finish()?;
        let found = query.summary(filter, percentiles).await?;
        let row = table::totals(&found.totals, found.latency.as_ref(), &about.currency);
        return Ok(Table { columns: table::totals_columns(percentiles), rows: Rows::Ready(vec![row]) });
    }
    if report == "timeseries" {
        let granularity = parameters.granularity(filter)?;
        let dimensions = parameters.group_by()?;
        let order = parameters.order(Order::Largest("calls"))?;
        let percentiles = parameters.switch("percentiles", false)?;
        parameters.finish()?;
        let grouping = Grouping { dimensions: dimensions.clone(), order, limit: SERIES, failed_only: false };
        let grouping = (!dimensions.is_empty()).then_some(grouping);
        let periods = Periods { granularity, zone: zone.clone(), grouping };
        let found = query.timeseries(filter, &periods, percentiles).await?;
        return Ok(table::of_series(&dimensions, &found, zone, percentiles, &about));
    }
    let dimensions = GROUPS.iter().find(|(name, _)| *name == report).map_or(&[][..], |(_, dimensions)| *dimensions);
    let default = if report == ERRORS { Order::MostFailed } else { Order::Largest("calls") };
    let grouping = Grouping {
        dimensions: dimensions.to_vec(),
        order: parameters.order(default)?,
        limit: MAX_GROUPS,
        failed_only: report == ERRORS,
    };
    let percentiles = parameters.switch("percentiles", false)?;
    parameters.finish()?;
    let found = query.group_by(filter, &grouping, percentiles).await?;
    if found.count > MAX_GROUPS as i64 {
        let message =
            format!("The report has {} rows, more than {MAX_GROUPS}. Filter, or ask for less time.", found.count);
        return Err(Refused::parameter("report", message));
    }
    Ok(table::of_groups(dimensions, &found, percentiles, &about))
}

/// `table` as a file. What goes wrong before its first row is an error, later it breaks the file off.
async fn send(
    inner: &Arc<Inner>,
    mut table: Table,
    form: &Form,
    what: &str,
    filter: &Filter,
    permit: OwnedSemaphorePermit,
) -> Result<Response, Refused> {
    let (pieces, body) = streamed();
    let content_type = if form.format == "xlsx" {
        let mut file = xlsx::file(&mut table, &inner.paths.temporary).await?;
        inner.tasks.spawn(async move {
            let _permit = permit;
            let mut buffer = vec![0; PIECE];
            loop {
                match file.read(&mut buffer).await {
                    Ok(0) => return,
                    Ok(count) if pieces.put(Bytes::copy_from_slice(&buffer[..count])).await => {}
                    Ok(_) => return,
                    Err(error) => return pieces.fail(&error).await,
                }
            }
        });
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    } else {
        let head = csv::head(&table, form.bom)?;
        let mut rows = table.rows.next().await?;
        inner.tasks.spawn(async move {
            let _permit = permit;
            let mut piece = head;
            loop {
                match csv::lines(&rows) {
                    Ok(lines) => piece.extend_from_slice(&lines),
                    Err(error) => return pieces.fail(&error).await,
                }
                if rows.is_empty() || !pieces.put(Bytes::from(std::mem::take(&mut piece))).await {
                    // A table without rows still has its head.
                    pieces.put(Bytes::from(piece)).await;
                    return;
                }
                rows = match table.rows.next().await {
                    Ok(rows) => rows,
                    Err(error) => return pieces.fail(&error).await,
                };
            }
        });
        "text/csv; charset=utf-8"
    };
    Ok(attachment(respond(content_type, body), &file_name(what, filter, form.format)))
}

/// Names the file that a browser saves.
fn attachment(mut response: Response, name: &str) -> Response<AdminBody> {
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// `aiproxy-users-20260101T000000Z-20260201T000000Z.csv`.
fn file_name(what: &str, filter: &Filter, format: &str) -> String {
    let moment = |ms: i64| {
        let timestamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
        timestamp.strftime("%Y%m%dT%H%M%SZ").to_string()
    };
    format!("aiproxy-{what}-{}-{}.{format}", moment(filter.start_ms), moment(filter.end_ms))
}

/// An error of the disk or of a writer, which is ours.
fn internal(error: &io::Error) -> Refused {
    Refused::internal(error)
}

/// Columns of dimensions, with the names of whom people know by name.
fn dimension_columns(dimensions: &[Dimension]) -> Vec<&'static str> {
    let mut columns = Vec::new();
    for dimension in dimensions {
        columns.push(dimension.as_str());
        match dimension {
            Dimension::User => columns.push("user_name"),
            Dimension::Channel => columns.push("channel_name"),
            _ => {}
        }
    }
    columns
}
