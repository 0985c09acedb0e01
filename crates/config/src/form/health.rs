//! `channels.<id>.health`: when a credential or an endpoint is left alone for a while.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Span, Switchable};

/// When a credential or an endpoint that fails is left alone for a while.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Health")]
pub struct HealthForm {
    /// Failures in a row after which no more calls come, up to 1,000. Default 5.
    #[schemars(range(min = 1, max = 1_000))]
    pub failures: Option<u32>,
    /// Share of failed calls within `window` after which no more calls come: above 0, at most 1. Default 0.5.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub error_rate: Option<f64>,
    /// Calls within `window` below which `error_rate` says nothing. Default 20.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub minimum_calls: Option<u32>,
    /// How far back `error_rate` looks, from 1 s to 1 h. Default 30 s.
    pub window: Option<Span>,
    /// How long the first pause is, at least 100 ms; each further one in a row is twice as long. Default 5 s.
    pub cooldown: Option<Span>,
    /// The longest pause, from `cooldown` to 1 h. An upstream's `Retry-After` may ask for more. Default 60 s, or
    /// `cooldown` if that is longer.
    pub max_cooldown: Option<Span>,
    /// Asking the upstream without a call, which never costs tokens: `true` by the defaults of the fields below.
    /// Default false.
    pub probe: Option<Switchable<ProbeForm>>,
}

/// An active health check. It never costs tokens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Probe")]
pub struct ProbeForm {
    /// What is done. Default `connect`.
    pub kind: Option<ProbeKindForm>,
    /// Time between two probes, from 1 s to 24 h. Default 30 s.
    pub interval: Option<Span>,
    /// How long one may take, at most `interval`. Default 5 s, or `interval` if that is shorter.
    pub timeout: Option<Span>,
    /// Failures in a row after which no more calls come, up to 100. Default 3.
    #[schemars(range(min = 1, max = 100))]
    pub failures: Option<u32>,
    /// Successes in a row after which calls come again, up to 100. Default 2.
    #[schemars(range(min = 1, max = 100))]
    pub successes: Option<u32>,
}

/// What an active health check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", rename = "ProbeKind")]
pub enum ProbeKindForm {
    /// Opens a connection to each endpoint, with TLS where the endpoint has it.
    Connect,
    /// Asks for the list of models with each credential.
    Models,
}
