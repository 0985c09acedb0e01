//! The state of channels and credentials as administrators see it.

use aiproxy_config::snapshot::Status;
use serde_json::{Value, json};

use crate::health::Gate;
use crate::serving::Serving;

/// One object per channel: whether it is healthy, and what of it is being left alone, why and for how long. `now_ms` is
/// in milliseconds since the gateway's start.
pub(crate) fn channels(serving: &Serving, now_ms: u64) -> Value {
    let channels = serving.channels.iter().zip(&serving.health.channels).map(|(channel, health)| {
        let credentials: Vec<Value> = (channel.credentials.iter().zip(&health.credentials))
            .map(|(credential, state)| {
                let mut value = gate(state.breaker.gate(now_ms), credential.status, now_ms);
                value["id"] = json!(credential.id);
                value["paused_models"] = json!(state.paused_models(now_ms));
                value
            })
            .collect();
        let endpoints: Vec<Value> = (channel.endpoints.iter().zip(&health.endpoints))
            .map(|(endpoint, breaker)| {
                let mut value = gate(breaker.gate(now_ms), Status::Active, now_ms);
                value["host"] = json!(endpoint.authority);
                value
            })
            .collect();
        let own = gate(health.breaker.gate(now_ms), channel.status, now_ms);
        let mut value = if own["state"] == "healthy" { worst_for_calls(&credentials, &endpoints, own) } else { own };
        value["id"] = json!(channel.id);
        value["credentials"] = credentials.into();
        value["endpoints"] = endpoints.into();
        value
    });
    channels.collect()
}

/// The state of a channel as a call finds it: where all of its credentials, or all of its endpoints, are being left
/// alone, so is the channel, until the first of them is back.
fn worst_for_calls(credentials: &[Value], endpoints: &[Value], own: Value) -> Value {
    for parts in [credentials, endpoints] {
        let active = || parts.iter().filter(|part| part["state"] != "disabled");
        if active().all(|part| part["state"] == "paused")
            && let Some(first) = active().min_by_key(|part| part["seconds_left"].as_u64())
        {
            let [state, reason, left] = ["state", "reason", "seconds_left"].map(|name| first[name].clone());
            return json!({ "state": state, "reason": reason, "seconds_left": left });
        }
    }
    own
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
