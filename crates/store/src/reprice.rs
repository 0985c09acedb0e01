//! Giving records a price later: those whose price was not known, or all of them after prices were corrected.
//!
//! Each step is a transaction of a few hundred records, which changes them and by the difference the sums made of them.
//! So it may be stopped anywhere, run again, and run beside the sink.

use std::collections::BTreeMap;
use std::ops::Range;

use aiproxy_config::snapshot::DatabaseKind;
use aiproxy_ledger::entry::UNPRICED;
use aiproxy_llm::usage::Usage;
use jiff::tz::TimeZone;
use serde_json::Value as Json;

use crate::buckets::{Granularity, Periods};
use crate::connection::{Connection, Row, Value};
use crate::error::StoreError;
use crate::ids::id_floor;
use crate::record_rows::{USAGE_COLUMNS, USAGES, money};
use crate::store::Store;

/// Records changed in one transaction.
const STEP: i64 = 500;
/// Records looked at in one statement.
const LOOKED_AT: i64 = 20_000;
/// Columns before the usage.
const PLAIN: usize = 11;

/// What is priced: the use of a call, or of one of its attempts that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct RepriceRow<'a> {
    /// When the call began, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// The channel that was used; empty if none was.
    pub channel_id: &'a str,
    /// Model in the request.
    pub model_asked: Option<&'a str>,
    /// Model that served the call; never of an attempt.
    pub model_served: Option<&'a str>,
    /// Normalised path.
    pub endpoint: &'a str,
    /// Status sent to the client.
    pub status: i64,
    /// What was used.
    pub usage: Usage,
    /// It is an attempt that failed.
    pub is_attempt: bool,
}

/// Which records are priced.
#[derive(Clone, Debug)]
pub struct Repricing {
    /// Begun in this time, in milliseconds since 1970-01-01 UTC.
    pub range: Range<u64>,
    /// Also those that have a price. Default false.
    pub all: bool,
    /// The time zone of the statistics: `system.timezone`.
    pub timezone: TimeZone,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repriced {
    /// Everything before is done, in milliseconds since 1970-01-01 UTC.
    pub until_unix_ms: u64,
    /// Records that were to be priced.
    pub seen: u64,
    /// Records whose price was changed.
    pub changed: u64,
    /// Records whose price is still not known.
    pub unpriced: u64,
}

/// One record.
struct Found {
    id: [u8; 16],
    started_at_ms: i64,
    series_id: i64,
    channel_id: String,
    endpoint: String,
    status: i64,
    model_asked: Option<String>,
    model_served: Option<String>,
    cost: Option<i64>,
    price_version: String,
    attempts: Option<String>,
    usage: Usage,
}

/// What a record comes to.
struct Priced {
    cost: i64,
    version: String,
    /// The attempts with their costs, if those changed.
    attempts: Option<String>,
}

/// Prices records by `price`, which gives the cost in micro-units and the version of the prices, or `None` where there
/// is none. `progress` is told after each step.
///
/// # Errors
/// The database cannot be used; what was done until then stays done.
pub async fn reprice(
    store: &Store,
    repricing: &Repricing,
    mut price: impl FnMut(&RepriceRow<'_>) -> Option<(i64, String)>,
    mut progress: impl FnMut(Repriced),
) -> Result<Repriced, StoreError> {
    let mut periods = Periods::new(repricing.timezone.clone());
    let end = id_floor(repricing.range.end);
    let mut from = id_floor(repricing.range.start);
    let mut done = Repriced { until_unix_ms: repricing.range.start, ..Repriced::default() };
    while from < end {
        let until = boundary(store, from, end).await?;
        // Within what is looked at, a record at a time may still have no price: so it goes on behind the last one.
        let mut next = Some(from);
        while let Some(first) = next {
            next = step(store, repricing, first..until, &mut periods, &mut price, &mut done).await?;
            progress(done);
        }
        from = until;
        done.until_unix_ms = crate::ids::id_unix_ms(&until);
        progress(done);
    }
    Ok(done)
}

/// The id behind the next [`LOOKED_AT`] records.
async fn boundary(store: &Store, from: [u8; 16], end: [u8; 16]) -> Result<[u8; 16], StoreError> {
    let mut connection = store.reader().await?;
    let sql = "SELECT id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1 OFFSET ?";
    let rows = connection.rows(sql, &[from.into(), end.into(), LOOKED_AT.into()]).await?;
    match rows.first() {
        Some(row) => row.id(0).map_err(|error| connection.unreadable(error)),
        None => Ok(end),
    }
}

/// Prices up to [`STEP`] records; where to go on, if there may be more.
async fn step(
    store: &Store,
    repricing: &Repricing,
    ids: Range<[u8; 16]>,
    periods: &mut Periods,
    price: &mut impl FnMut(&RepriceRow<'_>) -> Option<(i64, String)>,
    done: &mut Repriced,
) -> Result<Option<[u8; 16]>, StoreError> {
    let mut connection = store.writer().await?;
    connection.begin().await?;
    let records = find(&mut connection, repricing.all, ids).await?;
    let mut counted = *done;
    let mut differences: BTreeMap<(i64, i64, i64), (i64, i64)> = BTreeMap::new();
    for record in &records {
        counted.seen += 1;
        let Some(priced) = priced(record, repricing.all, price) else {
            counted.unpriced += u64::from(record.price_version == UNPRICED);
            continue;
        };
        if record.cost == Some(priced.cost) && record.price_version == priced.version {
            continue;
        }
        counted.changed += 1;
        update(&mut connection, record, &priced).await?;
        let cost = priced.cost.saturating_sub(record.cost.unwrap_or(0));
        let unpriced = -i64::from(record.price_version == UNPRICED);
        let period = periods.at(record.started_at_ms);
        for granularity in Granularity::ALL {
            let key = (granularity.code(), period.bucket(granularity), record.series_id);
            let difference = differences.entry(key).or_insert((0, 0));
            *difference = (difference.0.saturating_add(cost), difference.1 + unpriced);
        }
    }
    // In the order in which the sink adds to them.
    for ((granularity, bucket, series), (cost, unpriced)) in differences {
        let sql = "UPDATE rollups SET cost = cost + ?, unpriced = unpriced + ? \
                   WHERE granularity = ? AND bucket = ? AND series_id = ?";
        let values = [cost, unpriced, granularity, bucket, series].map(Value::Int);
        connection.run(sql, &values).await?;
    }
    connection.commit().await?;
    *done = counted;
    let is_full = records.len() as i64 == STEP;
    Ok(records.last().filter(|_| is_full).map(|record| following(record.id)))
}

/// The records to price; nobody else changes them until the transaction ends.
async fn find(connection: &mut Connection, all: bool, ids: Range<[u8; 16]>) -> Result<Vec<Found>, StoreError> {
    let which = if all { "price_version IS NOT NULL" } else { "price_version = 'unpriced'" };
    let lock = match connection.kind() {
        DatabaseKind::Sqlite => "",
        DatabaseKind::Postgres => " FOR UPDATE OF records",
        DatabaseKind::Mysql => " FOR UPDATE",
    };
    let sql = format!(
        "SELECT records.id, started_at_ms, series_id, channel_id, endpoint, status, model_asked, model_served, cost, \
         price_version, attempts, {} FROM records JOIN series ON series.id = records.series_id \
         WHERE records.id >= ? AND records.id < ? AND {which} ORDER BY records.id LIMIT ?{lock}",
        USAGE_COLUMNS.join(", ")
    );
    let rows = connection.rows(&sql, &[ids.start.into(), ids.end.into(), STEP.into()]).await?;
    let records: Result<Vec<Found>, sqlx::Error> = rows.iter().map(Found::read).collect();
    records.map_err(|error| connection.unreadable(error))
}

impl Found {
    fn read(row: &Row) -> Result<Self, sqlx::Error> {
        let mut numbers = [None; USAGES];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = row.maybe_int(PLAIN + at)?.and_then(|number| u64::try_from(number).ok());
        }
        Ok(Self {
            id: row.id(0)?,
            started_at_ms: row.int(1)?,
            series_id: row.int(2)?,
            channel_id: row.text(3)?,
            endpoint: row.text(4)?,
            status: row.int(5)?,
            model_asked: row.maybe_text(6)?,
            model_served: row.maybe_text(7)?,
            cost: row.maybe_int(8)?,
            price_version: row.text(9)?,
            attempts: row.maybe_text(10)?,
            usage: Usage::from_numbers(numbers),
        })
    }

    fn row<'a>(&'a self, channel_id: &'a str, usage: Usage, is_attempt: bool) -> RepriceRow<'a> {
        RepriceRow {
            started_unix_ms: u64::try_from(self.started_at_ms).unwrap_or(0),
            channel_id,
            model_asked: self.model_asked.as_deref(),
            model_served: self.model_served.as_deref().filter(|_| !is_attempt),
            endpoint: &self.endpoint,
            status: self.status,
            usage,
            is_attempt,
        }
    }
}

/// The cost of the final usage and of all attempts that used something; `None` while one of them is unknown.
fn priced(
    record: &Found,
    all: bool,
    price: &mut impl FnMut(&RepriceRow<'_>) -> Option<(i64, String)>,
) -> Option<Priced> {
    let (own, version) = price(&record.row(&record.channel_id, record.usage, false))?;
    let mut cost = own;
    let mut attempts: Json =
        record.attempts.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut is_changed = false;
    for attempt in attempts.as_array_mut().into_iter().flatten() {
        let known = attempt.get("cost").and_then(Json::as_i64);
        let mut of_attempt = known;
        if let Some(used) = attempt.get("usage")
            && (all || known.is_none())
        {
            let channel_id = attempt.get("channel_id").and_then(Json::as_str).unwrap_or_default();
            let asked = price(&record.row(channel_id, usage_of_json(used), true));
            of_attempt = Some(asked.map(|(cost, _)| money(cost)).or(known)?);
        }
        if let Some(of_attempt) = of_attempt {
            cost = cost.saturating_add(of_attempt);
        }
        if of_attempt != known {
            is_changed = true;
            attempt["cost"] = of_attempt.into();
        }
    }
    let attempts = is_changed.then(|| attempts.to_string());
    Some(Priced { cost: money(cost), version, attempts })
}

async fn update(connection: &mut Connection, record: &Found, priced: &Priced) -> Result<(), StoreError> {
    let mut sql = String::from("UPDATE records SET cost = ?, price_version = ?");
    let mut values = vec![Value::Int(priced.cost), priced.version.as_str().into()];
    if let Some(attempts) = &priced.attempts {
        sql.push_str(", attempts = ?");
        values.push(attempts.as_str().into());
    }
    sql.push_str(" WHERE id = ?");
    values.push(record.id.into());
    connection.run(&sql, &values).await.map(drop)
}

/// The lowest id above `id`.
fn following(id: [u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(id).saturating_add(1).to_be_bytes()
}

/// Usage of an attempt: the same names, and time in seconds.
fn usage_of_json(json: &Json) -> Usage {
    let seconds_ms = json.get("seconds").and_then(Json::as_f64).map(|seconds| (seconds * 1000.0).round() as u64);
    let counts: Usage = serde_json::from_value(json.clone()).unwrap_or_default();
    Usage { seconds_ms, ..counts }
}
