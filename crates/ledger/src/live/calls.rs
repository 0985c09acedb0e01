//! The series that calls are exported as. Which labels there are is decided here; how they are written, in the control
//! plane. Never a user, a key or an address: there are too many of them, and `/stats` and the database tell of them.

use aiproxy_llm::prices::PriceTable;

use super::family::{Family, Label, MODELS_LIMIT, NAMES_LIMIT, Names};
use super::latency::Buckets;
use super::words::{self, OTHER};
use super::{Model, model};
use crate::entry::Entry;

/// All series of calls. Counters begin at 0 with each process.
#[derive(Clone, Debug)]
pub struct CallSeries {
    /// Calls: channel, model, dialect, protocol, status_class, end.
    pub calls: Family<6, u64>,
    /// Calls: endpoint, dialect, status_class.
    pub endpoints: Family<3, u64>,
    /// Errors made by the gateway: code.
    pub errors: Family<1, u64>,
    /// How long calls took: channel, protocol. [Sessions](Entry::is_session) are not in it.
    pub duration: Family<2, Buckets>,
    /// How long it took to the upstream's first byte, where one came: channel, protocol. Sessions are not in it.
    pub first_byte: Family<2, Buckets>,
    /// How long sessions that have ended lasted, in milliseconds: channel, protocol.
    pub session_ms: Family<2, u64>,
    /// Usage in whole numbers: channel, model, kind.
    pub usage: Family<3, u64>,
    /// Audio or video time in milliseconds: channel, model.
    pub usage_ms: Family<2, u64>,
    /// Cost in millionths of the base currency: channel, model, currency.
    pub cost: Family<3, u64>,
    /// Calls that used something without a price: channel, model.
    pub unpriced: Family<2, u64>,
    /// Calls whose usage is an estimate: channel, model.
    pub estimated: Family<2, u64>,
    /// Calls of which a number of the provider's was refused: channel.
    pub flawed: Family<1, u64>,
    /// Tries at an upstream: channel, credential, outcome.
    pub attempts: Family<3, u64>,
    /// Body bytes from callers: channel.
    pub request_bytes: Family<1, u64>,
    /// Body bytes to callers: channel.
    pub response_bytes: Family<1, u64>,
    channel_names: Names,
    credential_names: Names,
    model_names: Names,
    endpoint_names: Names,
    currency_names: Names,
}

impl Default for CallSeries {
    fn default() -> Self {
        Self {
            calls: Family::new(["channel", "model", "dialect", "protocol", "status_class", "end"], 2),
            endpoints: Family::new(["endpoint", "dialect", "status_class"], 1),
            errors: Family::new(["code"], 0),
            duration: Family::new(["channel", "protocol"], 1),
            first_byte: Family::new(["channel", "protocol"], 1),
            session_ms: Family::new(["channel", "protocol"], 1),
            usage: Family::new(["channel", "model", "kind"], 2),
            usage_ms: Family::new(["channel", "model"], 2),
            cost: Family::new(["channel", "model", "currency"], 2),
            unpriced: Family::new(["channel", "model"], 2),
            estimated: Family::new(["channel", "model"], 2),
            flawed: Family::new(["channel"], 1),
            attempts: Family::new(["channel", "credential", "outcome"], 2),
            request_bytes: Family::new(["channel"], 1),
            response_bytes: Family::new(["channel"], 1),
            channel_names: Names::new(NAMES_LIMIT),
            credential_names: Names::new(NAMES_LIMIT),
            model_names: Names::new(MODELS_LIMIT),
            endpoint_names: Names::new(NAMES_LIMIT),
            currency_names: Names::new(8),
        }
    }
}

impl CallSeries {
    pub(crate) fn add(&mut self, entry: &Entry<'_>, prices: &PriceTable) {
        let channel = self.channel_names.label(entry.channel_id);
        let names = &self.model_names;
        let model = match model(entry, prices, |name| names.knows(name)) {
            Some(Model::Named(name)) => self.model_names.label(Some(name)),
            Some(Model::Other) => Label::Word(OTHER),
            None => self.model_names.label(None),
        };
        let [dialect, protocol, status_class, end] =
            [words::dialect(entry), words::protocol(entry), words::status_class(entry.status), words::end(entry)]
                .map(Label::Word);
        let by_model = || [channel.clone(), model.clone()];
        let endpoint = self.endpoint_names.label(Some(entry.endpoint));
        add(self.endpoints.at([endpoint, dialect.clone(), status_class.clone()]), 1);
        add(self.calls.at([channel.clone(), model.clone(), dialect, protocol.clone(), status_class, end]), 1);
        if entry.is_session() {
            add(self.session_ms.at([channel.clone(), protocol]), entry.duration_us / 1_000);
        } else {
            self.duration.at([channel.clone(), protocol.clone()]).add(entry.duration_us);
            if let Some(us) = entry.first_byte_us {
                self.first_byte.at([channel.clone(), protocol]).add(us);
            }
        }
        if let Some(code) = entry.error_code {
            add(self.errors.at([Label::Word(words::error_code(code))]), 1);
        }
        if let Some(usage) = &entry.usage {
            for (kind, number) in usage.fields() {
                if let Some(number) = number.filter(|number| *number > 0) {
                    add(self.usage.at([channel.clone(), model.clone(), Label::Word(kind)]), number);
                }
            }
            if let Some(ms) = usage.seconds_ms.filter(|ms| *ms > 0) {
                add(self.usage_ms.at(by_model()), ms);
            }
        }
        // A counter never goes back, so a negative cost, which no price makes, is none.
        if let Some(cost) = entry.cost.and_then(|cost| u64::try_from(cost).ok()) {
            let currency = self.currency_names.label(Some(prices.currency()));
            add(self.cost.at([channel.clone(), model.clone(), currency]), cost);
        }
        if entry.is_unpriced() {
            add(self.unpriced.at(by_model()), 1);
        }
        if entry.usage_source == "estimated" {
            add(self.estimated.at(by_model()), 1);
        }
        if entry.usage_flaw.is_some() {
            add(self.flawed.at([channel.clone()]), 1);
        }
        for attempt in &entry.attempts {
            let channel = self.channel_names.label(Some(attempt.channel_id));
            let credential = self.credential_names.label(Some(attempt.credential_id));
            add(self.attempts.at([channel, credential, Label::Word(words::outcome(attempt))]), 1);
        }
        add(self.request_bytes.at([channel.clone()]), entry.request_bytes);
        add(self.response_bytes.at([channel]), entry.response_bytes);
    }
}

fn add(sum: &mut u64, number: u64) {
    *sum = sum.saturating_add(number);
}
