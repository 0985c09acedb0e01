//! The record of one call: opened first, moved along with the call, closed in `Drop`.
//!
//! Whatever happens to a call, its record is dropped exactly once, and then it is handed to the sink. A record nobody
//! set an end on was dropped because the client went away; that is what its default says.

use std::net::IpAddr;
use std::sync::Arc;

use aiproxy_config::snapshot::{ProxyKey, Snapshot, User};
use aiproxy_core::id::RecordId;
use aiproxy_core::time::{self, Instant};
use aiproxy_llm::dialect::Dialect;
use aiproxy_llm::usage::{Usage, UsageSource};
use http::Method;
use serde::{Serialize, Serializer};

use crate::state::Gateway;

/// Longest path, model or error text kept in a record.
const TEXT_LIMIT: usize = 512;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The whole answer was handed to the client, whatever its status.
    Complete,
    /// The client went away first.
    ClientClosed,
    /// The upstream broke off, or could not be reached.
    UpstreamError,
    /// A deadline passed.
    Timeout,
    /// The gateway was told to stop and the grace period ran out.
    Shutdown,
}

/// One try at one upstream.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// Channel tried.
    pub channel_id: Box<str>,
    /// Credential used.
    pub credential_id: Box<str>,
    /// Status answered, if any.
    pub status: Option<u16>,
    /// How long it took to the response head or to the failure.
    pub ms: u64,
    /// Why it failed; absent where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Box<str>>,
}

/// Everything known of one call. The field names are those of the JSON line.
pub struct Record {
    /// Id of the record; also the response's `x-request-id`.
    pub id: RecordId,
    /// When the request head was read.
    pub started: Instant,
    /// The same moment on the wall clock, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// When the first byte of the response body or its head came from the upstream.
    pub first_byte: Option<Instant>,
    /// The user, once known.
    pub user: Option<Arc<User>>,
    /// The proxy key, once known.
    pub key: Option<Arc<ProxyKey>>,
    /// Who called.
    pub client_ip: IpAddr,
    /// Request method.
    pub method: Method,
    /// Request path without the query, which may carry secrets.
    pub path: Box<str>,
    /// Normalised path.
    pub endpoint: &'static str,
    /// API spoken.
    pub dialect: Dialect,
    /// `http` or `sse`.
    pub protocol: &'static str,
    /// Channel used last.
    pub channel_id: Option<Box<str>>,
    /// Credential used last.
    pub credential_id: Option<Box<str>>,
    /// Model in the request.
    pub model_asked: Option<Box<str>>,
    /// Model in the response.
    pub model_served: Option<Box<str>>,
    /// Every try.
    pub attempts: Vec<Attempt>,
    /// Status sent to the client; 0 if none was.
    pub status: u16,
    /// Machine code of an error made here.
    pub error_code: Option<&'static str>,
    /// The upstream's own id of the request.
    pub upstream_request_id: Option<Box<str>>,
    /// How it ended.
    pub end: End,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// The provider's own numbers.
    pub usage: Option<Usage>,
    /// Where they come from.
    pub usage_source: UsageSource,
    /// Keeps what the record borrows from alive, and the whole call on one snapshot.
    pub snapshot: Arc<Snapshot>,
}

/// The JSON line.
#[derive(Serialize)]
struct Line<'record> {
    id: Text<&'record RecordId>,
    started_at: Text<jiff::Timestamp>,
    duration_ms: f64,
    first_byte_ms: Option<f64>,
    user_id: Option<&'record str>,
    department: Option<&'record str>,
    key_id: Option<&'record str>,
    relay_token_id: Option<&'record str>,
    client_ip: IpAddr,
    method: &'record str,
    path: &'record str,
    endpoint: &'record str,
    dialect: Dialect,
    protocol: &'record str,
    channel_id: Option<&'record str>,
    credential_id: Option<&'record str>,
    model_asked: Option<&'record str>,
    model_served: Option<&'record str>,
    attempts: &'record [Attempt],
    status: u16,
    error_code: Option<&'record str>,
    upstream_request_id: Option<&'record str>,
    end: End,
    request_bytes: u64,
    response_bytes: u64,
    usage: Option<&'record Usage>,
    usage_source: UsageSource,
    cost: Option<u64>,
    cache: &'static str,
}

/// Serialises by `Display`.
struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Record {
    /// From the head to the end of the call, in milliseconds with microseconds behind the point.
    pub fn duration_ms(&self) -> f64 {
        milliseconds(time::now().saturating_duration_since(self.started))
    }

    /// From the head to the upstream's first byte.
    pub fn first_byte_ms(&self) -> Option<f64> {
        self.first_byte.map(|first| milliseconds(first.saturating_duration_since(self.started)))
    }

    /// Appends the record as one line of JSON.
    pub fn write_json(&self, line: &mut Vec<u8>) {
        let user = self.user.as_deref();
        let view = Line {
            id: Text(&self.id),
            started_at: Text(jiff::Timestamp::from_millisecond(self.started_unix_ms as i64).unwrap_or_default()),
            duration_ms: self.duration_ms(),
            first_byte_ms: self.first_byte_ms(),
            user_id: user.map(|user| &*user.id),
            department: user.map(|user| &*user.department).filter(|department| !department.is_empty()),
            key_id: self.key.as_deref().map(|key| &*key.id),
            relay_token_id: None,
            client_ip: self.client_ip,
            method: self.method.as_str(),
            path: &self.path,
            endpoint: self.endpoint,
            dialect: self.dialect,
            protocol: self.protocol,
            channel_id: self.channel_id.as_deref(),
            credential_id: self.credential_id.as_deref(),
            model_asked: self.model_asked.as_deref(),
            model_served: self.model_served.as_deref(),
            attempts: &self.attempts,
            status: self.status,
            error_code: self.error_code,
            upstream_request_id: self.upstream_request_id.as_deref(),
            end: self.end,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            usage: self.usage.as_ref(),
            usage_source: self.usage_source,
            cost: None,
            cache: "off",
        };
        let start = line.len();
        if serde_json::to_writer(&mut *line, &view).is_err() {
            line.truncate(start);
            return;
        }
        line.push(b'\n');
    }
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// `text`, cut so that no caller can make a record large.
pub fn bounded(text: &str) -> Box<str> {
    let mut end = text.len().min(TEXT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

/// A record on its way. Dropping it closes the call: it is counted out and its record goes to the sink.
pub struct OpenRecord {
    gateway: Arc<Gateway>,
    record: Box<Record>,
}

impl OpenRecord {
    /// Counts a call in.
    pub fn open(gateway: Arc<Gateway>, record: Record) -> Self {
        gateway.call_opened();
        Self { gateway, record: Box::new(record) }
    }

    /// The gateway this call runs in.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }
}

impl std::ops::Deref for OpenRecord {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl std::ops::DerefMut for OpenRecord {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.record
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        if self.record.end == End::ClientClosed && self.gateway.is_cutting_off() {
            self.record.end = End::Shutdown;
        }
        if self.record.status == 0 && self.record.end == End::ClientClosed {
            // What nginx and the predecessors write for a client that left before an answer.
            self.record.status = 499;
        }
        self.gateway.call_closed(&self.record);
    }
}
