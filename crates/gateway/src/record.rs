//! The record of one call: opened first, moved along with the call, closed once.
//!
//! It is closed right before the call's last byte is sent on, or in `Drop` where there is no such moment. Closing it
//! settles what the call holds, prices what it used and hands it to the sink, which has it in the journal when that
//! returns: so a call whose end a client saw is in the ledger, whatever happens next. A record nobody set an end on was
//! dropped because the client went away; that is what its default says.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::snapshot::{OnJournalFull, ProxyKey, User};
use aiproxy_core::id::RecordId;
use aiproxy_core::time::{self, Instant};
use aiproxy_ledger::entry::UNPRICED;
use aiproxy_ledger::tally::Amounts;
use aiproxy_ledger::{Entry, EntryAttempt};
use aiproxy_llm::dialect::Dialect;
use aiproxy_llm::prices::Cost;
use aiproxy_llm::realtime::ModelUsage;
use aiproxy_llm::usage::{Usage, UsageSource};
use http::Method;

use crate::capture::CallCapture;
use crate::health::{Claim, Mark};
use crate::limits::{Demand, Lease, Used};
use crate::quota;
use crate::serving::Serving;
use crate::state::Gateway;

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

impl End {
    /// As records name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientClosed => "client_closed",
            Self::UpstreamError => "upstream_error",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
        }
    }
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
    /// What it used although it failed.
    pub usage: Option<Usage>,
    /// What that cost, in micro-units of the base currency.
    pub cost: Option<i64>,
}

/// Everything known of one call. The field names are those of the public record.
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
    /// `http`, `sse`, `websocket` or `webrtc`.
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
    /// What was used.
    pub usage: Option<Usage>,
    /// Where the numbers come from.
    pub usage_source: UsageSource,
    /// Whether the answer came to its proper end, so that the provider's numbers are the last ones.
    pub usage_is_whole: bool,
    /// Why a number of the provider's was refused.
    pub usage_flaw: Option<&'static str>,
    /// What the call may use as far as its request tells: for an estimate, should the provider not say.
    pub demand: Demand,
    /// Whether an estimate of tokens makes sense: text was asked for, as JSON.
    pub is_estimable: bool,
    /// Tokens of the answer that passed by, estimated.
    pub delivered_tokens: u64,
    /// What it cost, in micro-units of the base currency, with all attempts; `None` while it is unknown.
    pub cost: Option<i64>,
    /// Whether something was used that has no price.
    pub is_unpriced: bool,
    /// Which soft quota is used up, as the response says.
    pub quota_warning: Option<Box<str>>,
    /// Keeps what the record borrows from alive, and the whole call on one snapshot.
    pub snapshot: Arc<Serving>,
    /// What was used of each model, where one call (a socket) uses several; `usage` is their sum.
    pub(crate) by_model: Vec<ModelUsage>,
    /// What its quotas were charged already, while it ran.
    pub(crate) charged: Amounts,
    /// Copies of its bodies, where they are stored.
    pub(crate) capture: Option<Box<CallCapture>>,
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

    /// The user, once known.
    pub fn user(&self) -> Option<&User> {
        self.key.as_deref().map(|key| &*self.snapshot.users[key.user])
    }

    /// The model that served a call that succeeded: as the answer names it, or else (DashScope's own API names none)
    /// as it was asked for.
    pub fn model_served(&self) -> Option<&str> {
        let asked = || self.real_model.as_deref().or(self.model_asked.as_deref());
        if self.is_success() { self.model_served.as_deref().or_else(asked) } else { None }
    }

    /// Whether an upstream took the call on: it answered, or opened a socket.
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status) || self.status == 101
    }

    /// What the call used, as its limits see it.
    fn used(&self) -> Used {
        match &self.usage {
            Some(usage) => Used::Tokens { input: usage.input.unwrap_or(0), output: usage.output.unwrap_or(0) },
            None if self.may_have_used() => Used::Unknown,
            None => Used::Nothing,
        }
    }

    /// Whether an upstream may have worked for this call.
    fn may_have_used(&self) -> bool {
        // Somebody began to answer; or somebody was asked, and nobody waited for the answer.
        (200..300).contains(&self.status)
            || (self.place.is_some() && matches!(self.end, End::ClientClosed | End::Timeout | End::Shutdown))
    }

    /// Whether it counts as a request of its quotas: it was not refused.
    fn is_counted(&self) -> bool {
        // A client that leaves before the answer has an upstream asked, and no attempt noted.
        self.place.is_some() || (self.error_code.is_none() && (200..300).contains(&self.status))
    }

    /// Where the provider's own numbers are missing, or are those of a beginning, an estimate stands in.
    fn complete_usage(&mut self) {
        if !self.is_estimable || !self.may_have_used() {
            return;
        }
        let is_whole = self.usage_is_whole || self.end == End::Complete;
        match &mut self.usage {
            Some(_) if is_whole => {}
            // A stream that was cut has told its input and perhaps a first count of its output.
            Some(usage) => {
                if usage.output.is_none_or(|output| output < self.delivered_tokens) {
                    usage.output = Some(self.delivered_tokens);
                    self.usage_source = UsageSource::Estimated;
                }
            }
            None => {
                let (input, output) = (self.demand.input_tokens, self.delivered_tokens);
                if input > 0 || output > 0 {
                    self.usage = Some(Usage { input: Some(input), output: Some(output), ..Usage::default() });
                    self.usage_source = UsageSource::Estimated;
                }
            }
        }
    }

    /// Notes what the last attempt used although it failed, at the price of its own channel.
    pub(crate) fn note_use(&mut self, usage: Usage) {
        let model = self.real_model.as_deref().or(self.model_asked.as_deref()).unwrap_or_default();
        let Some(attempt) = self.attempts.last_mut() else { return };
        let channel = &self.snapshot.channels[attempt.place.channel];
        attempt.usage = Some(usage);
        match self.snapshot.prices.price(&channel.id, channel.kind.as_str(), model, Some(&usage)) {
            Cost::Priced(cost) => attempt.cost = Some(cost),
            Cost::Unpriced => self.is_unpriced = true,
        }
    }

    /// What everything that was used costs.
    fn price(&mut self) {
        let mut cost = self.attempts.iter().filter_map(|attempt| attempt.cost).fold(0_i64, i64::saturating_add);
        let mut is_priced = cost > 0;
        if let Some(place) = self.place
            && !self.by_model.is_empty()
        {
            let channel = &self.snapshot.channels[place.channel];
            let whole = self.model_served.as_deref().or(self.real_model.as_deref()).or(self.model_asked.as_deref());
            for ModelUsage { model, usage, .. } in &self.by_model {
                let model = model.as_deref().or(whole).unwrap_or_default();
                match self.snapshot.prices.price(&channel.id, channel.kind.as_str(), model, Some(usage)) {
                    Cost::Priced(price) => {
                        cost = cost.saturating_add(price);
                        is_priced = true;
                    }
                    Cost::Unpriced => self.is_unpriced = true,
                }
            }
        } else if let Some(place) = self.place
            && (self.usage.is_some() || (200..300).contains(&self.status) && self.demand.uses_tokens)
        {
            let channel = &self.snapshot.channels[place.channel];
            let served = self.model_served.as_deref().or(self.real_model.as_deref());
            let model = served.or(self.model_asked.as_deref()).unwrap_or_default();
            match self.snapshot.prices.price(&channel.id, channel.kind.as_str(), model, self.usage.as_ref()) {
                Cost::Priced(price) => {
                    cost = cost.saturating_add(price);
                    is_priced = true;
                }
                Cost::Unpriced => self.is_unpriced = true,
            }
        }
        self.cost = (is_priced && !self.is_unpriced).then_some(cost);
    }

    /// Calls `take` with the record as the ledger keeps it.
    fn with_entry(&self, take: impl FnOnce(&Entry<'_>)) {
        let client_ip = self.client_ip.to_string();
        let user = self.user();
        let attempts = self.attempts.iter().map(|attempt| {
            let (channel_id, credential_id) = self.place(attempt.place);
            EntryAttempt {
                channel_id,
                credential_id,
                status: attempt.status,
                ms: attempt.ms,
                why: attempt.why.as_deref(),
                usage: attempt.usage,
                cost: attempt.cost,
            }
        });
        let price_version = match (self.is_unpriced, self.cost) {
            (true, _) => Some(UNPRICED),
            (false, Some(_)) => Some(self.snapshot.prices.version()),
            (false, None) => None,
        };
        take(&Entry {
            id: self.id.bytes(),
            started_unix_ms: self.started_unix_ms,
            duration_us: self.duration_us(),
            first_byte_us: self.first_byte_us(),
            user_id: user.map(|user| &*user.id),
            department: user.map(|user| &*user.department).filter(|department| !department.is_empty()),
            groups: user.map(|user| user.groups.iter().map(|group| &**group).collect()).unwrap_or_default(),
            key_id: self.key.as_deref().map(|key| &*key.id),
            relay_token_id: None,
            client_ip: &client_ip,
            method: self.method.as_str(),
            path: &self.path,
            endpoint: self.endpoint,
            dialect: self.dialect.as_str(),
            protocol: self.protocol,
            channel_id: self.channel_id(),
            credential_id: self.credential_id(),
            model_asked: self.model_asked.as_deref(),
            model_served: self.model_served(),
            attempts: attempts.collect(),
            status: self.status,
            error_code: self.error_code,
            upstream_request_id: self.upstream_request_id.as_deref(),
            end: self.end.as_str(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            usage: self.usage,
            usage_source: self.usage_source.as_str(),
            usage_flaw: self.usage_flaw,
            cost: self.cost,
            price_version,
            cache: "off",
            counted: self.is_counted(),
        });
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

/// When the state of a call that goes on is kept: at once when it has changed, but at most once per second.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    kept_at: Option<Instant>,
    is_changed: bool,
}

impl Checkpoints {
    /// How often, at most.
    const INTERVAL: Duration = Duration::from_secs(1);

    /// The state has changed.
    pub(crate) fn changed(&mut self) {
        self.is_changed = true;
    }

    /// Whether it is to be kept now; then it counts as kept.
    pub(crate) fn is_due(&mut self) -> bool {
        if !self.is_changed {
            return false;
        }
        let now = time::now();
        let is_due = self.kept_at.is_none_or(|kept_at| now >= kept_at + Self::INTERVAL);
        if is_due {
            *self = Self { kept_at: Some(now), is_changed: false };
        }
        is_due
    }

    /// When to ask again, if something has changed that was not kept.
    pub(crate) fn later(&self) -> Option<Instant> {
        self.kept_at.filter(|_| self.is_changed).map(|kept_at| kept_at + Self::INTERVAL)
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

/// A record on its way. Dropping it closes it.
pub struct OpenRecord {
    gateway: Arc<Gateway>,
    record: Box<Record>,
    is_closed: bool,
    /// Whether its state was kept before its end.
    has_checkpoint: bool,
}

impl OpenRecord {
    /// Counts a call in.
    pub fn open(gateway: Arc<Gateway>, record: Record) -> Self {
        gateway.call_opened();
        Self { gateway, record: Box::new(record), is_closed: false, has_checkpoint: false }
    }

    /// Takes over what a call that goes on (a socket) has used so far: priced, and charged to its quotas at once, so
    /// that they can end it.
    pub(crate) fn progress(&mut self, by_model: &[ModelUsage]) {
        let record = &mut *self.record;
        if by_model.is_empty() || record.by_model == by_model {
            return;
        }
        record.by_model = by_model.to_vec();
        let mut sum = Usage::default();
        by_model.iter().for_each(|part| sum.add(&part.usage));
        record.usage = Some(sum);
        record.usage_source = UsageSource::Provider;
        record.usage_is_whole = true;
        // A failed attempt without a price stays what it is.
        record.is_unpriced = record.attempts.iter().any(|attempt| attempt.usage.is_some() && attempt.cost.is_none());
        record.price();
        quota::charge(record);
    }

    /// Keeps what is known of a call that goes on, should the process not live to see its end.
    pub(crate) fn checkpoint(&mut self) {
        self.has_checkpoint = true;
        let end = std::mem::replace(&mut self.record.end, End::Shutdown);
        self.record.with_entry(|entry| self.gateway.sink().checkpoint(entry));
        self.record.end = end;
    }

    /// Closes the call: what it holds is settled, what it used is priced, it is counted out and its record goes to the
    /// sink. Only the first time; nothing that happens to the record later is seen by anybody.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        let record = &mut *self.record;
        if record.end == End::ClientClosed && self.gateway.is_cutting_off() {
            record.end = End::Shutdown;
        }
        if record.status == 0 && record.end == End::ClientClosed {
            // What nginx and the predecessors write for a client that left before an answer.
            record.status = 499;
        }
        record.complete_usage();
        record.price();
        let used = record.used();
        for lease in record.leases.iter_mut().flatten() {
            lease.settle(used);
        }
        let is_counted = record.is_counted();
        quota::settle(record, is_counted);
        record.leases = [None, None];
        // A call that was refused because no record of it could be kept must not take the room of those that run.
        let had_no_room = record.place.is_none()
            && record.status == 503
            && record.snapshot.system.journal.on_full == OnJournalFull::Refuse
            && !self.gateway.sink().has_room();
        if had_no_room {
            self.gateway.call_left_out();
        } else {
            record.with_entry(|entry| self.gateway.call_closed(entry));
        }
        if self.has_checkpoint {
            self.gateway.sink().forget(&record.id.bytes());
        }
        if let Some(captured) = record.capture.take().and_then(|capture| capture.finish(record)) {
            self.gateway.sink().keep_bodies(captured);
        }
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
        self.close();
    }
}
