//! `system.rate_limit` and `system.retry_budget`: how much may come in, and how much of it twice.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Span, Switchable};

/// What to write instead of 0.
const NO_LIMIT: &str = "leave it out for no limit";

/// How fast calls may come, before any key is looked at. What goes beyond is answered 429.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "RateLimit")]
pub struct RateLimitForm {
    /// Calls per second on average, all together. Default: no limit.
    #[schemars(range(min = 0.001, max = 1_000_000), extend("x-instead" = NO_LIMIT))]
    pub requests_per_second: Option<f64>,
    /// Calls at once. Default: twice the rate.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub burst: Option<u32>,
    /// The same for each client address (IPv6: each /64 network). Default: no limit.
    pub ip_limit: Option<RateForm>,
    /// Whether an address that presents unknown keys again and again is refused: `false` (or `off`) never, `true` by the
    /// defaults of the fields below. Default true.
    pub bad_credentials: Option<Switchable<BadCredentialsForm>>,
    /// For older files, instead of `requests_per_second`: calls per minute on average.
    #[schemars(range(min = 0.1, max = 60_000_000), extend("x-instead" = NO_LIMIT))]
    pub requests_per_minute: Option<f64>,
    /// For older files, instead of `burst`, which it equals.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub burst_size: Option<u32>,
}

/// A rate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Rate")]
pub struct RateForm {
    /// Calls per second on average. Default: no limit.
    #[schemars(range(min = 0.001, max = 1_000_000), extend("x-instead" = NO_LIMIT))]
    pub requests_per_second: Option<f64>,
    /// Calls at once. Default: twice the rate.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub burst: Option<u32>,
}

/// When an address that presents unknown keys is refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "BadCredentials")]
pub struct BadCredentialsForm {
    /// Unknown keys within `window` after which the address is refused. From a third of it on, answers come slower.
    /// Default 30.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-instead" = "write `bad_credentials: false` to switch it off"))]
    pub limit: Option<u32>,
    /// How far back unknown keys are counted, from 1 s to 24 h. Default 60 s.
    pub window: Option<Span>,
    /// How long the address is refused, from 1 s to 24 h. Default 60 s.
    pub block: Option<Span>,
}

/// How many calls may be sent a second time. With both 0 none is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "RetryBudget")]
pub struct RetryBudgetForm {
    /// Further attempts as a share of calls, from 0 to 1. Default 0.2.
    #[schemars(range(min = 0, max = 1))]
    pub share: Option<f64>,
    /// Further attempts per second that are always allowed. Default 10.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub per_second: Option<f64>,
}
