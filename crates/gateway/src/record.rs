//! The record of one call: opened first, moved along with the call, closed in `Drop`.
//!
//! Whatever happens to a call, its record is dropped exactly once, and then it is handed to the sink. A record nobody
//! set an end on was dropped because the client went away; that is what its default says.

use std::net::IpAddr;
use std::sync::Arc;

use aiproxy_config::snapshot::{ProxyKey, User};
use aiproxy_core::id::RecordId;
use aiproxy_core::time::{self, Instant};
use aiproxy_llm::dialect::Dialect;
use aiproxy_llm::usage::{Usage, UsageSource};
use http::Method;

use crate::health::{Claim, Mark};
use crate::limits::{Lease, Used};
use crate::serving::Serving;
use crate::state::Gateway;

mod json;

/// Longest path, model or error text kept in a record.
const TEXT_LIMIT: usize = 512;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A channel and one of its credentials, as indices into the record's snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the channel.
    pub channel: usize,
    /// Index of the credential within the channel.
    pub credential: usize,
}

/// One try at one upstream.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Channel and credential tried.
    pub place: Place,
    /// Status answered, if any.
    pub status: Option<u16>,
    /// How long it took to the response head or to the failure.
    pub ms: u64,
    /// Why it failed; absent where it did not.
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
    /// The proxy key, once known; it knows the user.
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
    /// Channel and credential used last.
    pub place: Option<Place>,
    /// Model in the request.
    pub model_asked: Option<Box<str>>,
    /// What the upstream was asked for, where that is another name.
    pub real_model: Option<Box<str>>,
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
    pub snapshot: Arc<Serving>,
    /// What the call holds of its limits: its caller's, and those of the channel and credential that serve it.
    pub(crate) leases: [Option<Box<dyn Lease>>; 2],
}

impl Record {
    /// From the head to now (the end of the call, when the record is written), in microseconds.
    pub fn duration_us(&self) -> u64 {
        time::now().saturating_duration_since(self.started).as_micros() as u64
    }

    /// From the head to the upstream's first byte, in microseconds.
    pub fn first_byte_us(&self) -> Option<u64> {
        self.first_byte.map(|first| first.saturating_duration_since(self.started).as_micros() as u64)
    }

    /// Appends the record as one line of JSON.
    pub fn write_json(&self, line: &mut Vec<u8>) {
        json::write(self, line);
    }

    /// The user, once known.
    pub fn user(&self) -> Option<&User> {
        self.key.as_deref().map(|key| &*self.snapshot.users[key.user])
    }

    /// The model that served a call that succeeded: as the answer names it, or else (DashScope's own API names none)
    /// as it was asked for.
    pub fn model_served(&self) -> Option<&str> {
        let asked = || self.real_model.as_deref().or(self.model_asked.as_deref());
        if (200..300).contains(&self.status) { self.model_served.as_deref().or_else(asked) } else { None }
    }

    /// What the call used, as its limits see it.
    fn used(&self) -> Used {
        match &self.usage {
            Some(usage) => Used::Tokens { input: usage.input.unwrap_or(0), output: usage.output.unwrap_or(0) },
            // Somebody began to answer, so somebody may have used tokens.
            None if (200..300).contains(&self.status) => Used::Unknown,
            // Somebody was asked, and nobody waited for the answer.
            None if self.place.is_some() && matches!(self.end, End::ClientClosed | End::Timeout) => Used::Unknown,
            None => Used::Nothing,
        }
    }

    /// The channel used last.
    pub fn channel_id(&self) -> Option<&str> {
        self.place.map(|place| self.place(place).0)
    }

    /// The credential used last.
    pub fn credential_id(&self) -> Option<&str> {
        self.place.map(|place| self.place(place).1)
    }

    fn place(&self, place: Place) -> (&str, &str) {
        let channel = &self.snapshot.channels[place.channel];
        (&channel.id, &channel.credentials[place.credential].id)
    }
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

    /// Tells the breakers what the call taught about its upstream.
    pub(crate) fn report(&self, claim: Claim, mark: Mark) {
        let Some(settings) = &self.snapshot.channels[claim.channel].health else { return };
        let health = &self.snapshot.health.channels[claim.channel];
        claim.report(health, settings, mark, self.gateway.now_ms());
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
        let used = self.record.used();
        for lease in self.record.leases.iter_mut().flatten() {
            lease.settle(used);
        }
        self.record.leases = [None, None];
        self.gateway.call_closed(&self.record);
    }
}
