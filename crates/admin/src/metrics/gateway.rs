//! What the gateway knows that no record tells.

use std::collections::HashMap;
use std::fmt;

use super::write::{Page, optional, single};

/// The states that a channel, a credential or an endpoint can be in.
const STATES: [&str; 4] = ["healthy", "recovering", "paused", "disabled"];

/// How the gateway is at one moment. The control plane does not know the gateway; who wires both fills this in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayMeasures {
    /// Calls that have begun and not ended.
    pub calls_in_flight: usize,
    /// Open connections of callers.
    pub connections: usize,
    /// WebSockets that are open.
    pub open_websockets: usize,
    /// WebSockets that were established since the start, counted at that moment.
    pub websockets_opened: u64,
    /// Calls by WebRTC that are not over.
    pub open_webrtc_calls: usize,
    /// Idle connections to upstreams by host, all workers together; the empty name is that of former hosts.
    pub idle_upstream_connections: Vec<(Box<str>, usize)>,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// How often the config was replaced since the start.
    pub reloads: usize,
    /// When that was last, in milliseconds since 1970-01-01 UTC.
    pub last_reload_unix_ms: Option<u64>,
    /// Whether the files on disk are what is in force.
    pub config_is_current: bool,
    /// Calls denied before any key was looked at, by what denied them.
    pub denied: Vec<(&'static str, u64)>,
    /// Addresses that are held for that.
    pub addresses_held: usize,
    /// How often an address came to be refused for its unknown keys.
    pub addresses_blocked: u64,
    /// Channels of the config, each with an id of its own.
    pub channels: Vec<ChannelMeasures>,
}

/// How a channel is. States are `healthy`, `recovering`, `paused` or `disabled`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelMeasures {
    /// Its id.
    pub id: Box<str>,
    /// Its own state.
    pub state: &'static str,
    /// Its credentials: id, state, and how many models each is not asked for now.
    pub credentials: Vec<(Box<str>, &'static str, usize)>,
    /// Its endpoints: host and state.
    pub endpoints: Vec<(Box<str>, &'static str)>,
}

pub(super) fn write(page: &mut Page<'_>, gateway: &GatewayMeasures) -> fmt::Result {
    page.gauge("aiproxy_calls_in_flight", "Calls that have begun and not ended", single(gateway.calls_in_flight))?;
    page.gauge("aiproxy_connections", "Open connections of callers", single(gateway.connections))?;
    page.gauge("aiproxy_websockets_open", "WebSockets that are open", single(gateway.open_websockets))?;
    let opened = gateway.websockets_opened;
    page.counter("aiproxy_websockets_opened", "WebSockets that were established", single(opened))?;
    page.gauge("aiproxy_webrtc_calls_open", "Calls by WebRTC that are not over", single(gateway.open_webrtc_calls))?;
    let idle = gateway.idle_upstream_connections.iter().map(|(host, count)| ([("host", &**host)], *count));
    page.gauge("aiproxy_upstream_idle_connections", "Idle connections to upstreams", idle)?;
    page.gauge("aiproxy_draining", "1 while the gateway shuts down", single(u64::from(gateway.is_draining)))?;
    page.counter("aiproxy_config_reloads", "How often the config was replaced", single(gateway.reloads as u64))?;
    let current = u64::from(gateway.config_is_current);
    page.gauge(
        "aiproxy_config_current",
        "0 while the config files are broken and older ones in force",
        single(current),
    )?;
    let reload = gateway.last_reload_unix_ms.map(|moment| moment as f64 / 1e3);
    page.gauge("aiproxy_config_last_reload_timestamp_seconds", "When the config was last replaced", optional(reload))?;
    let denied = gateway.denied.iter().map(|(by, count)| ([("by", *by)], *count));
    page.counter("aiproxy_denied_calls", "Calls denied before any key was looked at", denied)?;
    let held = gateway.addresses_held;
    page.gauge("aiproxy_addresses_held", "Addresses with calls or unknown keys on count", single(held))?;
    let blocked = gateway.addresses_blocked;
    page.counter("aiproxy_addresses_blocked", "How often an address was blocked for unknown keys", single(blocked))?;
    write_channels(page, &gateway.channels)
}

fn write_channels(page: &mut Page<'_>, channels: &[ChannelMeasures]) -> fmt::Result {
    let states = channels.iter().flat_map(|channel| {
        states(channel.state).map(|(state, is)| ([("channel", &*channel.id), ("state", state)], is))
    });
    page.gauge("aiproxy_channel_state", "1 for the state that a channel is in", states)?;
    let credentials = || channels.iter().flat_map(|channel| channel.credentials.iter().map(move |one| (channel, one)));
    let credential_states = credentials()
        .flat_map(|(channel, (id, state, _))| states_of([("channel", &*channel.id), ("credential", &**id)], state));
    page.gauge("aiproxy_credential_state", "1 for the state that a credential is in", credential_states)?;
    let paused =
        credentials().map(|(channel, (id, _, models))| ([("channel", &*channel.id), ("credential", &**id)], *models));
    page.gauge("aiproxy_credential_paused_models", "Models that a credential is not asked for now", paused)?;
    let endpoints: Vec<_> = channels.iter().flat_map(numbered_endpoints).collect();
    let endpoint_states = endpoints
        .iter()
        .flat_map(|(channel, endpoint, state)| states_of([("channel", *channel), ("endpoint", &**endpoint)], state));
    page.gauge("aiproxy_endpoint_state", "1 for the state that an endpoint is in", endpoint_states)
}

fn states(current: &str) -> [(&'static str, u64); 4] {
    STATES.map(|state| (state, u64::from(state == current)))
}

fn states_of<'text>(
    labels: [(&'static str, &'text str); 2],
    current: &str,
) -> [([(&'static str, &'text str); 3], u64); 4] {
    states(current).map(|(state, is)| ([labels[0], labels[1], ("state", state)], is))
}

/// A channel may have two endpoints at one host, which must not become one series twice.
fn numbered_endpoints(channel: &ChannelMeasures) -> impl Iterator<Item = (&str, String, &'static str)> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    channel.endpoints.iter().map(move |(host, state)| {
        let times = seen.entry(host).or_default();
        *times += 1;
        let endpoint = if *times == 1 { host.to_string() } else { format!("{host} {times}") };
        (&*channel.id, endpoint, *state)
    })
}
