//! Bodies of calls as they pass, where `capture` says that they are stored.
//!
//! Whether a call is captured is decided when its key is known, by one throw of the dice; which channel's rule holds is
//! known only when a channel has answered. So the request is kept if any rule that may hold wants it, and dropped at the
//! end if the one that does hold does not. A call that nobody wants to capture costs the look at one `Option` per piece.
//!
//! It copies bytes and judges nothing: decoding, redaction and storing are the ledger's.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiproxy_config::key_digest;
use aiproxy_config::snapshot::{Capture, Channel, ProxyKey};
use aiproxy_core::Secret;
use aiproxy_ledger::capture::{Captured, RawBody};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::credential::{self, Presented};
use crate::record::{Record, bounded};
use crate::route::Candidate;
use crate::serving::Serving;

/// Most bytes that running calls keep, all of them together.
const MOST_BYTES: usize = 64 << 20;
/// A body is given memory in pieces of at least this size.
const LEAST_GROWTH: usize = 4 << 10;

/// Memory of all calls that are being captured.
#[derive(Debug)]
pub(crate) struct CaptureBudget {
    used: AtomicUsize,
    limit: usize,
    dropped: AtomicU64,
}

impl Default for CaptureBudget {
    fn default() -> Self {
        Self::new(MOST_BYTES)
    }
}

impl CaptureBudget {
    fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit, dropped: AtomicU64::new(0) }
    }

    /// Calls that were not captured for want of memory.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.limit;
        if !taken {
            self.give_back(bytes);
        }
        taken
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn call_is_dropped(&self) {
        if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("bodies of more calls are to be captured at once than there is memory for; some are not");
        }
    }
}

/// The beginning of one body, copied as it passes. Shared, because the body and the record live apart.
pub(crate) struct Tap {
    limit: usize,
    budget: Arc<CaptureBudget>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    /// What was taken of the budget.
    reserved: usize,
    length: u64,
    has_no_memory: bool,
}

impl Tap {
    fn new(limit: u64, budget: Arc<CaptureBudget>) -> Arc<Self> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Arc::new(Self { limit, budget, taken: Mutex::default() })
    }

    /// Notes the next bytes of the body.
    pub(crate) fn add(&self, data: &[u8]) {
        let mut taken = self.taken();
        taken.length += data.len() as u64;
        let wanted = data.len().min(self.limit - taken.bytes.len());
        if wanted == 0 || taken.has_no_memory {
            return;
        }
        let needed = taken.bytes.len() + wanted;
        if needed > taken.reserved {
            // Twice as much each time, but never more than can come.
            let reserved = (taken.reserved * 2).max(needed).max(LEAST_GROWTH).min(self.limit);
            if !self.budget.take(reserved - taken.reserved) {
                taken.has_no_memory = true;
                taken.bytes = Vec::new();
                self.budget.give_back(std::mem::take(&mut taken.reserved));
                return;
            }
            taken.reserved = reserved;
            let more = reserved - taken.bytes.len();
            taken.bytes.reserve_exact(more);
        }
        taken.bytes.extend_from_slice(&data[..wanted]);
    }

    /// What was taken, at most `limit` bytes of it. An error if there was no memory for it.
    fn finish(&self, limit: u64) -> Result<(Vec<u8>, u64), NoMemory> {
        let mut taken = self.taken();
        if taken.has_no_memory {
            return Err(NoMemory);
        }
        self.budget.give_back(std::mem::take(&mut taken.reserved));
        let mut bytes = std::mem::take(&mut taken.bytes);
        bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((bytes, taken.length))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let reserved = self.taken().reserved;
        self.budget.give_back(reserved);
    }
}

struct NoMemory;

/// What is kept of one call.
pub(crate) struct CallCapture {
    dice: f64,
    budget: Arc<CaptureBudget>,
    /// The key as the caller sent it.
    presented: Option<Secret>,
    request: Option<Part>,
    response: Option<Part>,
}

struct Part {
    content_type: Box<str>,
    content_encoding: Box<str>,
    tap: Arc<Tap>,
}

impl CallCapture {
    /// Begins to capture a call of `key` that one of `channels` will serve; `None` if nobody wants that.
    pub(crate) fn begin(
        budget: &Arc<CaptureBudget>,
        key: &ProxyKey,
        channels: &[Candidate<'_>],
        parts: &Parts,
        serving: &Serving,
    ) -> Option<Box<Self>> {
        let of_channels = channels.iter().filter_map(|candidate| candidate.channel.capture.as_ref());
        let mut rules = key.capture.iter().chain(of_channels.filter(|_| key.capture.is_none())).peekable();
        rules.peek()?;
        let dice = fastrand::f64();
        let (mut is_wanted, mut limit) = (false, None);
        for rule in rules.filter(|rule| dice < rule.share) {
            is_wanted = true;
            limit = limit.max(rule.request.then_some(rule.max_bytes));
        }
        if !is_wanted {
            return None;
        }
        let part = |limit| Part::new(&parts.headers, Tap::new(limit, budget.clone()));
        let known = |text: &str| serving.keys.contains_key(&key_digest(text)).then(|| Secret::new(text));
        let presented = match credential::presented(&parts.headers, parts.uri.query(), known) {
            Presented::Known(secret) => Some(secret),
            _ => None,
        };
        Some(Box::new(Self { dice, budget: budget.clone(), presented, request: limit.map(part), response: None }))
    }

    /// Where the caller's body is to be copied to.
    pub(crate) fn request_tap(&self) -> Option<Arc<Tap>> {
        self.request.as_ref().map(|part| part.tap.clone())
    }

    /// The next bytes that the caller gets.
    pub(crate) fn response(&self, data: &[u8]) {
        if let Some(part) = &self.response {
            part.tap.add(data);
        }
    }

    fn rule<'record>(&self, record: &'record Record) -> Option<&'record Capture> {
        let of_key = record.key.as_deref().and_then(|key| key.capture.as_ref());
        let of_channel = || record.place.and_then(|place| record.snapshot.channels[place.channel].capture.as_ref());
        of_key.or_else(of_channel).filter(|rule| self.dice < rule.share)
    }

    /// What the ledger gets of the call; nothing if its channel's rule does not want it.
    pub(crate) fn finish(self, record: &Record) -> Option<Captured> {
        let rule = self.rule(record)?;
        let take = |part: Option<&Part>, is_wanted: bool| match part.filter(|_| is_wanted) {
            Some(part) => part.finish(rule.max_bytes),
            None => Ok(None),
        };
        let taken = (take(self.request.as_ref(), rule.request), take(self.response.as_ref(), rule.response));
        let (Ok(request), Ok(response)) = taken else {
            self.budget.call_is_dropped();
            return None;
        };
        if request.is_none() && response.is_none() {
            return None;
        }
        let secrets = secrets(self.presented, record);
        Some(Captured { id: record.id.bytes(), started_unix_ms: record.started_unix_ms, request, response, secrets })
    }
}

impl Part {
    fn new(headers: &HeaderMap, tap: Arc<Tap>) -> Self {
        let text = |name: HeaderName| {
            let values: Vec<_> =
                headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            bounded(&values.join(", "))
        };
        Self { content_type: text(header::CONTENT_TYPE), content_encoding: text(header::CONTENT_ENCODING), tap }
    }

    fn finish(&self, max_bytes: u64) -> Result<Option<RawBody>, NoMemory> {
        let (bytes, length) = self.tap.finish(max_bytes)?;
        let body = || RawBody {
            content_type: self.content_type.clone(),
            content_encoding: self.content_encoding.clone(),
            bytes,
            length,
            max_bytes,
        };
        Ok((length > 0).then(body))
    }
}

/// A response with these headers begins: its body is captured if the call is, and its rule wants that.
pub(crate) fn response_begins(record: &mut Record, headers: &HeaderMap) {
    let Some(mut capture) = record.capture.take() else { return };
    if let Some(rule) = capture.rule(record).filter(|rule| rule.response) {
        capture.response = Some(Part::new(headers, Tap::new(rule.max_bytes, capture.budget.clone())));
    }
    record.capture = Some(capture);
}

/// A response made here, all of it. Those that belong to a call are JSON, or empty.
pub(crate) fn response_made_here(record: &mut Record, body: &[u8]) {
    if record.capture.is_some() {
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        response_begins(record, &HeaderMap::from_iter(headers));
    }
    if let Some(capture) = &record.capture {
        capture.response(body);
    }
}

/// The caller's key, and everything secret that the upstreams of the call were sent.
fn secrets(presented: Option<Secret>, record: &Record) -> Vec<Secret> {
    let mut secrets = Vec::from_iter(presented);
    for place in record.attempts.iter().map(|attempt| attempt.place).chain(record.place) {
        let channel = &record.snapshot.channels[place.channel];
        let own = std::iter::once(&channel.credentials[place.credential].api_key);
        for secret in own.chain(secret_headers(channel)) {
            let value = secret.expose();
            // `Bearer x` is known by `x`.
            let behind_scheme = value.split_once(' ').map_or(value, |(_, key)| key.trim());
            if !secrets.iter().any(|known| known.expose() == behind_scheme) {
                secrets.push(Secret::new(behind_scheme));
            }
        }
    }
    secrets
}

/// Values the config adds to requests whose names say that they are keys. Others (a version, an organisation) would be
/// hidden wherever they stand in a text.
fn secret_headers(channel: &Channel) -> impl Iterator<Item = &Secret> {
    const TELLING: [&str; 5] = ["auth", "key", "token", "secret", "cookie"];
    let is_secret = |name: &str| TELLING.iter().any(|word| name.to_ascii_lowercase().contains(word));
    channel.headers_set.iter().filter(move |(name, _)| is_secret(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_keeps_the_beginning_and_counts_the_rest() {
        let budget = Arc::new(CaptureBudget::default());
        let tap = Tap::new(10, budget.clone());
        ["abcd", "efgh", "ijkl", ""].iter().for_each(|piece| tap.add(piece.as_bytes()));
        assert_eq!(budget.used.load(Ordering::Relaxed), 10);
        let (bytes, length) = tap.finish(9).ok().unwrap();
        assert_eq!((&*bytes, length), (&b"abcdefghi"[..], 12));
        drop(tap);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_taps_together_stay_within_the_budget() {
        let budget = Arc::new(CaptureBudget::new(10 << 10));
        let taps = [1, 2, 3].map(|_| Tap::new(1 << 20, budget.clone()));
        for _ in 0..4 {
            taps.iter().for_each(|tap| tap.add(&[b'x'; 1024]));
            assert!(budget.used.load(Ordering::Relaxed) <= 10 << 10);
        }
        let lengths = taps.iter().map(|tap| tap.finish(u64::MAX).map_or(0, |(bytes, _)| bytes.len()));
        assert_eq!(lengths.collect::<Vec<_>>(), [4096, 4096, 0]);
        drop(taps);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_tap_that_is_dropped_gives_its_memory_back() {
        let budget = Arc::new(CaptureBudget::default());
        let tap = Tap::new(1 << 20, budget.clone());
        tap.add(&[0; 100_000]);
        assert_eq!(budget.used.load(Ordering::Relaxed), 100_000);
        drop(tap);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
