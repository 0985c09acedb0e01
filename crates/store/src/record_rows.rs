//! Records and bodies as rows of their tables.

use std::borrow::Cow;

use aiproxy_ledger::{Bodies, Body, Entry, EntryAttempt};
use aiproxy_llm::usage::Usage;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::rows::{Column, Repeated, Table};
use crate::text::{ADDRESS, NAME, PATH, WORD, clean, without_nul};

/// No number of a record is larger: 70 terabytes, two years, 70 million of a currency. It takes 130,000 records of that
/// size to overflow a sum.
pub(crate) const LARGEST: i64 = 1 << 46;

/// Number of usage columns.
pub(crate) const USAGES: usize = 15;

/// The usage columns, in the tables' order.
pub(crate) const USAGE_COLUMNS: [&str; USAGES] = [
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
    "seconds_ms",
];

pub(crate) static RECORDS: Table = Table {
    name: "records",
    columns: &[
        "id",
        "series_id",
        "started_at_ms",
        "duration_us",
        "first_byte_us",
        "client_ip",
        "method",
        "path",
        "model_asked",
        "model_served",
        "relay_token_id",
        "attempts",
        "attempt_ms",
        "upstream_request_id",
        "ended",
        "request_bytes",
        "response_bytes",
        "usage_source",
        "usage_flaw",
        "cost",
        "price_version",
        "cache",
        "counted",
        "user_groups",
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
        "seconds_ms",
    ],
    key: &["id"],
    repeated: Repeated::Fails,
};

pub(crate) static BODIES: Table = Table {
    name: "bodies",
    columns: &["id", "started_at_ms", "request", "response"],
    key: &["id"],
    repeated: Repeated::Stays,
};

/// A count as a column has it.
pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(LARGEST).min(LARGEST)
}

/// A cost as a column has it.
pub(crate) fn money(cost: i64) -> i64 {
    cost.clamp(-LARGEST, LARGEST)
}

/// The usage numbers in the tables' order.
pub(crate) fn usage_numbers(usage: Option<&Usage>) -> [Option<i64>; USAGES] {
    let mut numbers = [None; USAGES];
    if let Some(usage) = usage {
        for (number, (_, value)) in numbers.iter_mut().zip(usage.fields()) {
            *number = value.map(count);
        }
        numbers[USAGES - 1] = usage.seconds_ms.map(count);
    }
    numbers
}

/// The rows of `entries`, whose series have these numbers.
pub(crate) fn record_columns<'a>(entries: &[&'a Entry<'a>], series: &[i64]) -> Vec<Column<'a>> {
    let rows = Rows(entries);
    let attempts: Vec<_> = entries.iter().map(|entry| attempts(entry)).collect();
    let usages: Vec<_> = entries.iter().map(|entry| usage_numbers(entry.usage.as_ref())).collect();
    let mut columns = vec![
        Column::Id(entries.iter().map(|entry| entry.id).collect()),
        Column::Int(series.to_vec()),
        rows.int(|entry| count(entry.started_unix_ms)),
        rows.int(|entry| count(entry.duration_us)),
        rows.maybe_int(|entry| entry.first_byte_us.map(count)),
        rows.text(ADDRESS, |entry| entry.client_ip),
        rows.text(WORD, |entry| entry.method),
        rows.text(PATH, |entry| entry.path),
        rows.maybe_text(|entry| entry.model_asked),
        rows.maybe_text(|entry| entry.model_served),
        rows.maybe_text(|entry| entry.relay_token_id),
        Column::MaybeText(attempts.iter().map(|(json, _)| json.clone().map(Cow::Owned)).collect()),
        Column::MaybeInt(attempts.iter().map(|(_, ms)| *ms).collect()),
        rows.maybe_text(|entry| entry.upstream_request_id),
        rows.text(WORD, |entry| entry.end),
        rows.int(|entry| count(entry.request_bytes)),
        rows.int(|entry| count(entry.response_bytes)),
        rows.text(WORD, |entry| entry.usage_source),
        rows.maybe_text(|entry| entry.usage_flaw),
        rows.maybe_int(|entry| entry.cost.map(money)),
        rows.maybe_text(|entry| entry.price_version),
        rows.text(WORD, |entry| entry.cache),
        rows.int(|entry| entry.counted.into()),
        Column::MaybeText(entries.iter().map(|entry| groups(entry).map(Cow::Owned)).collect()),
    ];
    columns.extend((0..USAGES).map(|usage| Column::MaybeInt(usages.iter().map(|numbers| numbers[usage]).collect())));
    columns
}

/// The rows of `bodies`.
pub(crate) fn body_columns<'a>(bodies: &[Bodies<'a>]) -> Vec<Column<'a>> {
    let json = |body: &Option<Body<'a>>| body.as_ref().map(|body| Cow::Owned(body_json(body)));
    vec![
        Column::Id(bodies.iter().map(|bodies| bodies.id).collect()),
        Column::Int(bodies.iter().map(|bodies| count(bodies.started_unix_ms)).collect()),
        Column::MaybeText(bodies.iter().map(|bodies| json(&bodies.request)).collect()),
        Column::MaybeText(bodies.iter().map(|bodies| json(&bodies.response)).collect()),
    ]
}

struct Rows<'r, 'a>(&'r [&'a Entry<'a>]);

impl<'a> Rows<'_, 'a> {
    fn int(&self, of: impl Fn(&Entry<'a>) -> i64) -> Column<'a> {
        Column::Int(self.0.iter().map(|entry| of(entry)).collect())
    }

    fn maybe_int(&self, of: impl Fn(&Entry<'a>) -> Option<i64>) -> Column<'a> {
        Column::MaybeInt(self.0.iter().map(|entry| of(entry)).collect())
    }

    fn text(&self, most: usize, of: impl Fn(&Entry<'a>) -> &'a str) -> Column<'a> {
        Column::Text(self.0.iter().map(|entry| clean(of(entry), most)).collect())
    }

    fn maybe_text(&self, of: impl Fn(&Entry<'a>) -> Option<&'a str>) -> Column<'a> {
        Column::MaybeText(self.0.iter().map(|entry| of(entry).map(|text| clean(text, NAME))).collect())
    }
}

/// Every try as JSON, and nothing else; or only the milliseconds of the one try there was, where everything else of it
/// stands in the record.
fn attempts(entry: &Entry<'_>) -> (Option<String>, Option<i64>) {
    match entry.attempts.as_slice() {
        [] => (None, None),
        [one] if is_told_by_record(one, entry) => (None, Some(count(one.ms))),
        attempts => {
            let told: Vec<AttemptJson<'_>> = attempts.iter().map(AttemptJson::from).collect();
            (serde_json::to_string(&told).ok(), None)
        }
    }
}

fn is_told_by_record(attempt: &EntryAttempt<'_>, entry: &Entry<'_>) -> bool {
    let EntryAttempt { channel_id, credential_id, status, ms: _, why, usage, cost } = attempt;
    entry.channel_id == Some(channel_id)
        && entry.credential_id == Some(credential_id)
        && *status == Some(entry.status)
        && why.is_none()
        && usage.is_none()
        && cost.is_none()
}

fn groups(entry: &Entry<'_>) -> Option<String> {
    if entry.groups.is_empty() { None } else { serde_json::to_string(&entry.groups).ok() }
}

/// An attempt in the form of the public record.
#[derive(Serialize)]
struct AttemptJson<'a> {
    channel_id: &'a str,
    credential_id: &'a str,
    status: Option<u16>,
    ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<i64>,
}

impl<'a> From<&EntryAttempt<'a>> for AttemptJson<'a> {
    fn from(attempt: &EntryAttempt<'a>) -> Self {
        let EntryAttempt { channel_id, credential_id, status, ms, why, usage, cost } = attempt;
        let usage = usage.as_ref().map(UsageJson::from);
        Self { channel_id, credential_id, status: *status, ms: *ms, why: *why, usage, cost: *cost }
    }
}

/// Usage in the form of the public record: time in seconds.
#[derive(Serialize)]
struct UsageJson {
    #[serde(flatten)]
    counts: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

impl From<&Usage> for UsageJson {
    fn from(usage: &Usage) -> Self {
        let seconds = usage.seconds_ms.map(|ms| ms as f64 / 1000.0);
        Self { counts: Usage { seconds_ms: None, ..*usage }, seconds }
    }
}

/// A body in the form of the journal's JSON.
#[derive(Serialize)]
struct BodyJson<'a> {
    content_type: &'a str,
    form: &'a str,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Embedded<'a>>,
    content: &'a str,
}

/// JSON within JSON; a text where it is not JSON after all.
#[derive(Serialize)]
#[serde(untagged)]
enum Embedded<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

fn body_json(body: &Body<'_>) -> String {
    let usage = body.usage.map(|text| match serde_json::from_str::<&RawValue>(text) {
        Ok(json) => Embedded::Json(json),
        Err(_) => Embedded::Text(text),
    });
    let Body { content_type, form, content, usage: _, bytes, cut } = body;
    let json = BodyJson { content_type, form, bytes: *bytes, cut: *cut, usage, content };
    let text = serde_json::to_string(&json).unwrap_or_default();
    // JSON escapes a NUL, so there is none; but what is embedded is as it came.
    without_nul(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_attempt_needs_no_json() {
        let good = EntryAttempt { channel_id: "c", credential_id: "1", status: Some(200), ms: 7, ..Default::default() };
        let entry = |attempts| Entry {
            channel_id: Some("c"),
            credential_id: Some("1"),
            status: 200,
            attempts,
            ..Entry::default()
        };
        assert_eq!(attempts(&entry(vec![])), (None, None));
        assert_eq!(attempts(&entry(vec![good.clone()])), (None, Some(7)));
        let usage = Usage { input: Some(1), seconds_ms: Some(1500), ..Usage::default() };
        let bad = EntryAttempt { why: Some("connect"), usage: Some(usage), cost: Some(3), ..good.clone() };
        let json = r#"[{"channel_id":"c","credential_id":"1","status":200,"ms":7,"why":"connect","usage":{"input":1,"seconds":1.5},"cost":3},{"channel_id":"c","credential_id":"1","status":200,"ms":7}]"#;
        assert_eq!(attempts(&entry(vec![bad, good])), (Some(json.to_owned()), None));
    }

    #[test]
    fn a_body_embeds_the_usage_it_came_with() {
        let body = Body {
            content_type: "text/event-stream",
            form: "sse",
            content: "a\0b",
            usage: Some(r#"{"n":1}"#),
            bytes: 3,
            cut: None,
        };
        let json =
            r#"{"content_type":"text/event-stream","form":"sse","bytes":3,"usage":{"n":1},"content":"a\u0000b"}"#;
        assert_eq!(body_json(&body), json);
        assert!(body_json(&Body { usage: Some("{"), ..body }).contains(r#""usage":"{""#));
    }

    #[test]
    fn huge_numbers_stay_within_what_can_be_summed() {
        assert_eq!([count(u64::MAX), count(7), money(i64::MIN), money(-7)], [LARGEST, 7, -LARGEST, -7]);
    }
}
