//! The data plane by bytes: given this config, when these bytes come in, then those go out. All in memory, time paused.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod access;
mod admission;
mod affinity;
mod aliases;
mod bad_clients;
mod bad_upstreams;
mod beginnings;
mod calls;
mod capture;
mod connections;
mod cooldowns;
mod endings;
mod failover;
mod forwarding;
mod health;
mod limits;
mod local_paths;
mod model_list;
mod most_useful_error;
mod paid_once;
mod places;
mod probes;
mod quotas;
mod reloads;
mod replay;
mod shares;
mod sockets;
mod streaming;
mod timeouts;
mod usage;
mod verdicts;
mod works;

/// One user, one key, one OpenAI channel.
pub(crate) const CONFIG: &str = "
users:
  user1: {name: One, department: Research, proxy_key: pk-1, status: active, channels: [up]}
channels:
  up: {kind: openai, base_url: 'http://up.test', api_key: real-key, status: active}
";

/// A chat completion with usage.
pub(crate) const ANSWER: &str = r#"{"id":"c1","object":"chat.completion","model":"m-served","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":4}}}"#;
