//! All calls since the first start ever, and by channel, user, model and what else they are told apart by.

use std::collections::HashMap;

use aiproxy_llm::prices::PriceTable;
use aiproxy_llm::usage::Usage;
use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::words;
use super::{Model, model, succeeded};
use crate::entry::Entry;

/// Most names that are told apart in one table; further ones are counted together.
pub const NAMES_LIMIT: usize = 1_000;
/// What further names are counted under.
pub const OTHER: &str = "(other)";

/// Sums over calls. Numbers stop at their ends, they never wrap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Calls, refused ones included.
    pub calls: u64,
    /// Those that ended well, see [`succeeded`]; all others failed.
    pub succeeded: u64,
    /// Calls whose duration is in `duration_us`: all but [sessions](Entry::is_session), which last as long as their callers
    /// like.
    pub timed: u64,
    /// How long those took together, in microseconds.
    pub duration_us: u64,
    /// Body bytes from callers.
    pub request_bytes: u64,
    /// Body bytes to callers.
    pub response_bytes: u64,
    /// What was used.
    pub usage: UsageTotals,
    /// Cost, in millionths of the base currency that was in force when each call ended.
    pub cost: i64,
    /// Calls that used something whose price is not known.
    pub unpriced: u64,
    /// Calls whose usage is an estimate.
    pub estimated: u64,
}

impl Counts {
    /// Calls that did not end well.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.calls.saturating_sub(self.succeeded)
    }

    /// How long a call took on average, in microseconds; 0 without any.
    #[must_use]
    pub fn average_duration_us(&self) -> u64 {
        self.duration_us.checked_div(self.timed).unwrap_or(0)
    }

    /// Those of one call.
    fn of(entry: &Entry<'_>) -> Self {
        let timed = u64::from(!entry.is_session());
        Self {
            calls: 1,
            succeeded: succeeded(entry).into(),
            timed,
            duration_us: entry.duration_us * timed,
            request_bytes: entry.request_bytes,
            response_bytes: entry.response_bytes,
            usage: entry.usage.as_ref().map(UsageTotals::of).unwrap_or_default(),
            cost: entry.cost.unwrap_or(0),
            unpriced: entry.is_unpriced().into(),
            estimated: (entry.usage_source == "estimated").into(),
        }
    }

    fn add(&mut self, other: &Self) {
        for (sum, number) in [
            (&mut self.calls, other.calls),
            (&mut self.succeeded, other.succeeded),
            (&mut self.timed, other.timed),
            (&mut self.duration_us, other.duration_us),
            (&mut self.request_bytes, other.request_bytes),
            (&mut self.response_bytes, other.response_bytes),
            (&mut self.unpriced, other.unpriced),
            (&mut self.estimated, other.estimated),
        ] {
            *sum = sum.saturating_add(number);
        }
        self.usage.add(&other.usage);
        self.cost = self.cost.saturating_add(other.cost);
    }
}

/// Sums of usage, each kind for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotals {
    /// In the order of [`Usage::fields`].
    numbers: [u64; 14],
    /// Audio or video time, in milliseconds.
    pub seconds_ms: u64,
}

impl UsageTotals {
    /// Every whole number with its name in records, as [`Usage::fields`] has them; `seconds_ms` is not among them.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, u64); 14] {
        let mut fields = Usage::default().fields().map(|(name, _)| (name, 0));
        for ((_, sum), number) in fields.iter_mut().zip(self.numbers) {
            *sum = number;
        }
        fields
    }

    fn of(usage: &Usage) -> Self {
        let numbers = usage.fields().map(|(_, number)| number.unwrap_or(0));
        Self { numbers, seconds_ms: usage.seconds_ms.unwrap_or(0) }
    }

    fn add(&mut self, other: &Self) {
        for (sum, number) in self.numbers.iter_mut().zip(other.numbers) {
            *sum = sum.saturating_add(number);
        }
        self.seconds_ms = self.seconds_ms.saturating_add(other.seconds_ms);
    }
}

/// Sums by name, of at most [`NAMES_LIMIT`] names; the rest together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    names: HashMap<Box<str>, Counts>,
    other: Counts,
}

impl Named {
    /// What is known of one name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Counts> {
        self.names.get(name)
    }

    /// Every name with its sums, in the order of names; [`OTHER`] is the last, if there is anything to it.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&str, &Counts)> {
        let mut sorted: Vec<_> = self.names.iter().map(|(name, counts)| (&**name, counts)).collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        sorted.extend((self.other.calls > 0).then_some((OTHER, &self.other)));
        sorted
    }

    fn add(&mut self, name: &str, call: &Counts) {
        if let Some(counts) = self.names.get_mut(name) {
            return counts.add(call);
        }
        let has_room = self.names.len() < NAMES_LIMIT && name != OTHER;
        let counts = if has_room { self.names.entry(name.into()).or_default() } else { &mut self.other };
        counts.add(call);
    }
}

/// Everything that is counted of all calls. Paths the gateway answers itself have no record and are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Since when, in milliseconds since 1970-01-01 UTC: the first start ever, or the first after its file was lost.
    pub since_unix_ms: u64,
    /// When the latest call ended, in milliseconds since 1970-01-01 UTC; 0 before the first.
    pub last_call_unix_ms: u64,
    /// All calls.
    pub all: Counts,
    /// WebSockets that were established.
    pub websockets: u64,
    /// By id of the channel used last. Calls that came to none are in no row; so it is with users.
    pub channels: Named,
    /// By id of the user.
    pub users: Named,
    /// By `http`, `sse`, `websocket` or `webrtc`.
    pub protocols: Named,
    /// By the first digit of the status: `2xx`, `4xx`…
    pub status_classes: Named,
    /// By the code of errors that the gateway made itself.
    pub error_codes: Named,
    /// By the model that served the call. One that was asked for and failed has a row if it has a price or served
    /// before.
    pub models: Named,
    /// How long calls took; [sessions](Entry::is_session) are not in it.
    pub duration: Latency,
    /// How long it took to the first byte of the upstream, where one came; sessions are not in it.
    pub first_byte: Latency,
}

impl Totals {
    pub(crate) fn add(&mut self, entry: &Entry<'_>, prices: &PriceTable) {
        let ended_unix_ms = entry.started_unix_ms.saturating_add(entry.duration_us / 1_000);
        self.last_call_unix_ms = self.last_call_unix_ms.max(ended_unix_ms);
        let call = Counts::of(entry);
        self.all.add(&call);
        if entry.is_session() {
            let is_established = entry.protocol == "websocket" && entry.status == 101;
            self.websockets = self.websockets.saturating_add(is_established.into());
        } else {
            self.duration.add(entry.duration_us);
            if let Some(us) = entry.first_byte_us {
                self.first_byte.add(us);
            }
        }
        self.protocols.add(entry.protocol, &call);
        self.status_classes.add(words::status_class(entry.status), &call);
        let models = &self.models;
        match model(entry, prices, |name| models.get(name).is_some()) {
            Some(Model::Named(name)) => self.models.add(name, &call),
            Some(Model::Other) => self.models.add(OTHER, &call),
            None => {}
        }
        let rows = [
            (&mut self.channels, entry.channel_id),
            (&mut self.users, entry.user_id),
            (&mut self.error_codes, entry.error_code),
        ];
        for (named, name) in rows {
            if let Some(name) = name {
                named.add(name, &call);
            }
        }
    }
}
