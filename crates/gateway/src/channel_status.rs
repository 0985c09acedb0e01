//! The state of channels and credentials as administrators see it.

use aiproxy_config::snapshot::Status;
use serde_json::{Value, json};

use crate::health::Gate;
use crate::serving::Serving;

/// One object per channel: whether it is healthy, and what of it is being left alone, why and for how long. `now_ms` is
/// in milliseconds since the gateway's start.
pub(crate) fn channels(serving: &Serving, now_ms: u64) -> Value {
    let channels = serving.channels.iter().zip(&serving.health.channels).map(|(channel, health)| {
        let credentials = channel.credentials.iter().zip(&health.credentials).map(|(credential, state)| {
            let models = state.paused_models(now_ms);
            let mut value = gate(state.breaker.gate(now_ms), credential.status, now_ms);
            value["id"] = json!(credential.id);
            value["paused_models"] = json!(models);
            value
        });
        let endpoints = channel.endpoints.iter().zip(&health.endpoints).map(|(endpoint, breaker)| {
            let mut value = gate(breaker.gate(now_ms), Status::Active, now_ms);
            value["host"] = json!(endpoint.authority);
            value
        });
        let mut value = gate(health.breaker.gate(now_ms), channel.status, now_ms);
        value["id"] = json!(channel.id);
        value["credentials"] = credentials.collect();
        value["endpoints"] = endpoints.collect();
        value
    });
    channels.collect()
}

fn gate(gate: Gate, status: Status, now_ms: u64) -> Value {
    if status != Status::Active {
        return json!({ "state": "disabled" });
    }
    match gate {
        Gate::Closed => json!({ "state": "healthy" }),
        Gate::HalfOpen => json!({ "state": "recovering" }),
        Gate::Open(until_ms, reason) => json!({
            "state": "paused",
            "reason": reason.as_str(),
            "seconds_left": until_ms.saturating_sub(now_ms).div_ceil(1000),
        }),
    }
}
