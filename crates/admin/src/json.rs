//! Sums as JSON. Whole numbers are exact; times are in milliseconds, costs in millionths of the currency.

use aiproxy_store::query::{Dimension, Histogram, Latency, Range, Totals};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::live::About;

/// The numbers of [`Totals::fields`] that are usage.
pub(crate) const USAGE: [&str; 14] = [
    "input",
    "output",
    "cached",
    "cache_write",
    "cache_write_long",
    "reasoning",
    "audio_input",
    "audio_output",
    "image_input",
    "image_output",
    "image",
    "video",
    "characters",
    "searches",
];

/// The sums of some calls.
pub(crate) fn totals(totals: &Totals, latency: Option<&Latency>) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("calls".into(), totals.calls.into());
    map.insert("succeeded".into(), totals.succeeded.into());
    map.insert("failed".into(), totals.failed().into());
    map.insert("success_rate".into(), ratio(totals.succeeded, totals.calls));
    map.insert("counted".into(), totals.counted.into());
    let duration = latency.map(|latency| &latency.duration);
    map.insert("duration_ms".into(), times(totals.duration_us, totals.duration_calls, duration));
    let first_byte = latency.map(|latency| &latency.first_byte);
    map.insert("first_byte_ms".into(), times(totals.first_byte_us, totals.first_byte_calls, first_byte));
    map.insert("request_bytes".into(), totals.request_bytes.into());
    map.insert("response_bytes".into(), totals.response_bytes.into());
    let fields = totals.fields();
    let mut usage: Map<String, Value> = fields
        .iter()
        .filter(|(name, _)| USAGE.contains(name))
        .map(|(name, number)| ((*name).to_owned(), (*number).into()))
        .collect();
    usage.insert("seconds".into(), thousandths(totals.seconds_ms));
    map.insert("usage".into(), usage.into());
    map.insert("cost".into(), totals.cost.into());
    map.insert("unpriced".into(), totals.unpriced.into());
    map.insert("estimated".into(), totals.estimated.into());
    map
}

/// Mean and percentiles of `calls` durations.
fn times(sum_us: i64, calls: i64, histogram: Option<&Histogram>) -> Value {
    let mut map = Map::new();
    map.insert("calls".into(), calls.into());
    map.insert("mean".into(), if calls > 0 { thousandths(sum_us / calls) } else { Value::Null });
    if let Some(histogram) = histogram {
        for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            let us = histogram.percentile(share).and_then(|us| i64::try_from(us).ok());
            map.insert(name.into(), us.map_or(Value::Null, thousandths));
        }
    }
    map.into()
}

/// Thousandths as a number with three decimals.
fn thousandths(number: i64) -> Value {
    json!(number as f64 / 1000.0)
}

/// A share with four decimals; null of nothing.
fn ratio(part: i64, whole: i64) -> Value {
    if whole > 0 { json!((part as f64 / whole as f64 * 10_000.0).round() / 10_000.0) } else { Value::Null }
}

/// A moment in `zone`, as RFC 3339 with its offset.
pub(crate) fn moment(ms: i64, zone: &TimeZone) -> String {
    let Ok(timestamp) = Timestamp::from_millisecond(ms) else { return ms.to_string() };
    timestamp.display_with_offset(zone.to_offset(timestamp)).to_string()
}

/// What every statistic begins with.
pub(crate) fn head(range: Range, zone: &TimeZone, about: &About) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("start".into(), moment(range.start_ms, zone).into());
    map.insert("end".into(), moment(range.end_ms, zone).into());
    map.insert("timezone".into(), zone.iana_name().unwrap_or("UTC").into());
    map.insert("currency".into(), about.currency.clone().into());
    map
}

/// What a group's calls have in common, and the names of whom people know by name.
pub(crate) fn group(dimensions: &[Dimension], key: &[String], about: &About) -> Map<String, Value> {
    let mut map = Map::new();
    for (dimension, value) in dimensions.iter().zip(key) {
        let json = match dimension {
            Dimension::Status => value.parse::<i64>().map_or(Value::Null, Value::from),
            _ if value.is_empty() => Value::Null,
            _ => value.clone().into(),
        };
        map.insert(dimension.as_str().into(), json);
        let name = match dimension {
            Dimension::User => Some(("user_name", about.users.get(value).map(|user| &user.name))),
            Dimension::Channel => Some(("channel_name", about.channels.get(value).map(|channel| &channel.name))),
            _ => None,
        };
        if let Some((field, name)) = name {
            map.insert(field.into(), name.map_or(Value::Null, |name| name.clone().into()));
        }
    }
    map
}
