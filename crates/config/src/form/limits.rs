//! `limits` and `quotas`: how much may be used now, and how much in a period.

use schemars::JsonSchema;
use serde::Deserialize;

/// What to write instead of 0.
const NO_LIMIT: &str = "leave it out for no limit; `status: disabled` switches off";

/// What to write instead of a quota of nothing.
const NO_QUOTA: &str = "leave the quota out for no limit; `status: disabled` switches off";

/// How fast calls may come. A missing field does not limit. A call must keep within the limits of its key, its user,
/// each of the user's groups, the user's department, the channel and the credential; one that no channel can take now is answered 429.
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

/// How much may be used in a period. One that is used up is answered 429 until the period ends; a soft one only reports.
/// An entity has at most one soft and one hard quota for each unit and period.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Quota")]
pub struct QuotaForm {
    /// What is counted.
    pub unit: QuotaUnitForm,
    /// The period, which starts anew at its calendar boundary in `system.timezone`.
    pub per: QuotaPeriodForm,
    /// How much, above 0: whole calls, whole tokens (up to 1,000,000,000,000,000 of either), or money in the base
    /// currency of the prices (up to 1,000,000,000), to the nearest millionth.
    #[schemars(range(max = 1_000_000_000_000_000_u64), extend("exclusiveMinimum" = 0, "x-instead" = NO_QUOTA))]
    pub amount: f64,
    /// Report the excess, but let calls through. Default false.
    pub soft: Option<bool>,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", rename = "QuotaUnit")]
pub enum QuotaUnitForm {
    /// Calls.
    Requests,
    /// Tokens, input and output together.
    Tokens,
    /// Money.
    Cost,
}

/// Over which time a quota counts.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", rename = "QuotaPeriod")]
pub enum QuotaPeriodForm {
    /// One hour of the clock.
    Hour,
    /// One day of the calendar.
    Day,
    /// One month of the calendar.
    Month,
    /// For good.
    Total,
}
