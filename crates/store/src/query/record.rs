//! A record as the database has it.

use aiproxy_ledger::{Entry, EntryAttempt};
use aiproxy_llm::usage::Usage;
use serde::Deserialize;

use super::error::QueryError;
use super::filter::Dimension;
use super::session::unreadable;
use crate::connection::Row;

/// The columns of a record that [`Record::read`] takes, in its order.
pub(super) const COLUMNS: &str = "records.id, records.started_at_ms, records.duration_us, records.first_byte_us, \
     records.client_ip, records.method, records.path, records.model_asked, records.model_served, \
     records.relay_token_id, records.attempts, records.attempt_ms, records.upstream_request_id, records.ended, \
     records.request_bytes, records.response_bytes, records.usage_source, records.usage_flaw, records.cost, \
     records.price_version, records.cache, records.user_groups, records.input, records.output, records.cached, \
     records.cache_write, records.cache_write_long, records.reasoning, records.audio_input, records.audio_output, \
     records.image_input, records.image_output, records.image, records.video, records.characters, records.searches, \
     records.seconds_ms, series.user_id, series.department, series.key_id, series.channel_id, series.credential_id, \
     series.model, series.endpoint, series.dialect, series.protocol, series.error_code";

/// The columns after those, as whole numbers.
pub(super) const WHOLE_COLUMNS: [&str; 2] = ["series.status", "records.counted"];

/// A record that was read; it lends an [`Entry`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    id: [u8; 16],
    started_at_ms: i64,
    duration_us: i64,
    first_byte_us: Option<i64>,
    client_ip: String,
    method: String,
    path: String,
    model_asked: Option<String>,
    model_served: Option<String>,
    relay_token_id: Option<String>,
    attempts: Vec<Attempt>,
    upstream_request_id: Option<String>,
    end: String,
    request_bytes: i64,
    response_bytes: i64,
    usage_source: String,
    usage_flaw: Option<String>,
    cost: Option<i64>,
    price_version: Option<String>,
    cache: String,
    groups: Vec<String>,
    usage: Option<Usage>,
    user_id: String,
    department: String,
    key_id: String,
    channel_id: String,
    credential_id: String,
    model: String,
    endpoint: String,
    dialect: String,
    protocol: String,
    error_code: String,
    status: i64,
    counted: bool,
}

/// One try, as the column `attempts` has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Attempt {
    channel_id: String,
    credential_id: String,
    status: Option<u16>,
    ms: u64,
    why: Option<String>,
    usage: Option<AttemptUsage>,
    cost: Option<i64>,
}

/// Usage in the form of the public record: time in seconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct AttemptUsage {
    #[serde(flatten)]
    counts: Usage,
    seconds: Option<f64>,
}

impl Record {
    /// Reads one row.
    pub(super) fn read(row: &Row) -> Result<Self, QueryError> {
        Self::columns(row).map_err(unreadable)
    }

    fn columns(row: &Row) -> Result<Self, sqlx::Error> {
        let mut at = 0;
        let mut next = || {
            at += 1;
            at - 1
        };
        let mut record = Self {
            id: row.id(next())?,
            started_at_ms: row.int(next())?,
            duration_us: row.int(next())?,
            first_byte_us: row.maybe_int(next())?,
            client_ip: row.text(next())?,
            method: row.text(next())?,
            path: row.text(next())?,
            model_asked: row.maybe_text(next())?,
            model_served: row.maybe_text(next())?,
            relay_token_id: row.maybe_text(next())?,
            ..Self::default()
        };
        let attempts = row.maybe_text(next())?;
        let attempt_ms = row.maybe_int(next())?;
        record.upstream_request_id = row.maybe_text(next())?;
        record.end = row.text(next())?;
        record.request_bytes = row.int(next())?;
        record.response_bytes = row.int(next())?;
        record.usage_source = row.text(next())?;
        record.usage_flaw = row.maybe_text(next())?;
        record.cost = row.maybe_int(next())?;
        record.price_version = row.maybe_text(next())?;
        record.cache = row.text(next())?;
        record.groups = json(row.maybe_text(next())?)?;
        let mut number = || Ok::<_, sqlx::Error>(row.maybe_int(next())?.map(unsigned));
        let usage = Usage {
            input: number()?,
            output: number()?,
            cached: number()?,
            cache_write: number()?,
            cache_write_long: number()?,
            reasoning: number()?,
            audio_input: number()?,
            audio_output: number()?,
            image_input: number()?,
            image_output: number()?,
            image: number()?,
            video: number()?,
            characters: number()?,
            searches: number()?,
            seconds_ms: number()?,
        };
        record.usage = (!usage.is_empty()).then_some(usage);
        for text in [
            &mut record.user_id,
            &mut record.department,
            &mut record.key_id,
            &mut record.channel_id,
            &mut record.credential_id,
            &mut record.model,
            &mut record.endpoint,
            &mut record.dialect,
            &mut record.protocol,
            &mut record.error_code,
        ] {
            *text = row.text(next())?;
        }
        record.status = row.int(next())?;
        record.counted = row.int(next())? != 0;
        record.attempts = json(attempts)?;
        record.attempts.extend(attempt_ms.map(|ms| Attempt {
            channel_id: record.channel_id.clone(),
            credential_id: record.credential_id.clone(),
            status: Some(record.status()),
            ms: unsigned(ms),
            ..Attempt::default()
        }));
        Ok(record)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The value it is grouped by; empty for none.
    #[must_use]
    pub fn dimension(&self, dimension: Dimension) -> String {
        match dimension {
            Dimension::User => &self.user_id,
            Dimension::Department => &self.department,
            Dimension::Key => &self.key_id,
            Dimension::Channel => &self.channel_id,
            Dimension::Credential => &self.credential_id,
            Dimension::Model => &self.model,
            Dimension::Endpoint => &self.endpoint,
            Dimension::Dialect => &self.dialect,
            Dimension::Protocol => &self.protocol,
            Dimension::ErrorCode => &self.error_code,
            Dimension::Status => return self.status.to_string(),
        }
        .clone()
    }

    fn status(&self) -> u16 {
        u16::try_from(self.status).unwrap_or(0)
    }

    /// The same as the ledger's entry: what every other sink has of it.
    #[must_use]
    pub fn entry(&self) -> Entry<'_> {
        fn known(text: &str) -> Option<&str> {
            (!text.is_empty()).then_some(text)
        }
        Entry {
            id: self.id,
            started_unix_ms: unsigned(self.started_at_ms),
            duration_us: unsigned(self.duration_us),
            first_byte_us: self.first_byte_us.map(unsigned),
            user_id: known(&self.user_id),
            department: known(&self.department),
            groups: self.groups.iter().map(String::as_str).collect(),
            key_id: known(&self.key_id),
            relay_token_id: self.relay_token_id.as_deref(),
            client_ip: &self.client_ip,
            method: &self.method,
            path: &self.path,
            endpoint: &self.endpoint,
            dialect: &self.dialect,
            protocol: &self.protocol,
            channel_id: known(&self.channel_id),
            credential_id: known(&self.credential_id),
            model_asked: self.model_asked.as_deref(),
            model_served: self.model_served.as_deref(),
            attempts: self.attempts.iter().map(Attempt::entry).collect(),
            status: self.status(),
            error_code: known(&self.error_code),
            upstream_request_id: self.upstream_request_id.as_deref(),
            end: &self.end,
            request_bytes: unsigned(self.request_bytes),
            response_bytes: unsigned(self.response_bytes),
            usage: self.usage,
            usage_source: &self.usage_source,
            usage_flaw: self.usage_flaw.as_deref(),
            cost: self.cost,
            price_version: self.price_version.as_deref(),
            cache: &self.cache,
            counted: self.counted,
        }
    }
}

impl Attempt {
    fn entry(&self) -> EntryAttempt<'_> {
        let usage = self.usage.as_ref().map(|usage| {
            let seconds_ms = usage.seconds.map(|seconds| (seconds * 1000.0).round() as u64);
            Usage { seconds_ms, ..usage.counts }
        });
        EntryAttempt {
            channel_id: &self.channel_id,
            credential_id: &self.credential_id,
            status: self.status,
            ms: self.ms,
            why: self.why.as_deref(),
            usage,
            cost: self.cost,
        }
    }
}

/// No number of a record but its cost is below zero.
fn unsigned(number: i64) -> u64 {
    number.try_into().unwrap_or(0)
}

fn json<T: for<'de> Deserialize<'de>>(text: Option<String>) -> Result<Vec<T>, sqlx::Error> {
    let Some(text) = text else { return Ok(Vec::new()) };
    serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))
}
