//! `limits` and `quotas`: how much may be used now, and how much in a period.

use schemars::JsonSchema;
use serde::Deserialize;

/// What to write instead of 0.
const NO_LIMIT: &str = "leave it out for no limit; `status: disabled` switches off";

/// How fast calls may come. A missing field does not limit. A call must keep within the limits of its key, its user,
/// each of the user's groups, the channel and the credential; one that no channel can take now is answered 429.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Limits")]
pub struct LimitsForm {
    /// Calls started in any 60 s. Default: no limit.
    #[schemars(range(min = 1, max = 100_000_000), extend("x-instead" = NO_LIMIT))]
    pub requests_per_minute: Option<u64>,
    /// Tokens, input and output together, in any 60 s. A call reserves an estimate and is settled to the provider's
    /// number. Default: no limit.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64), extend("x-instead" = NO_LIMIT))]
    pub tokens_per_minute: Option<u64>,
    /// Calls running at once. Default: no limit.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-instead" = NO_LIMIT))]
    pub concurrent: Option<u64>,
}

/// How much may be used in a calendar period.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Quota")]
pub struct QuotaForm {
    /// What is counted.
    pub unit: QuotaUnit,
    /// The period, which starts anew at its calendar boundary in `system.timezone`.
    pub per: QuotaPeriod,
    /// How much: calls, tokens, or money in the currency of the prices.
    #[schemars(range(min = 0))]
    pub amount: f64,
    /// Report the excess, but let calls through. Default false.
    pub soft: Option<bool>,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QuotaUnit {
    /// Calls.
    Requests,
    /// Tokens, input and output together.
    Tokens,
    /// Money.
    Cost,
}

/// Over which time a quota counts.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QuotaPeriod {
    /// One hour.
    Hour,
    /// One day.
    Day,
    /// One calendar month.
    Month,
    /// For good.
    Total,
}
