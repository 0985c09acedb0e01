//! What the gateway measures, in the words of the control plane, which does not know the gateway.

use aiproxy_admin::metrics::{ChannelMeasures, GatewayMeasures};
use aiproxy_gateway::measures::{self, measures};
use aiproxy_gateway::state::Gateway;

/// How `gateway` is now.
pub(super) fn of(gateway: &Gateway) -> GatewayMeasures {
    let now = measures(gateway);
    GatewayMeasures {
        calls_in_flight: now.calls_in_flight,
        connections: now.connections,
        open_websockets: gateway.open_sockets(),
        websockets_opened: gateway.sockets_opened(),
        open_webrtc_calls: gateway.open_webrtc_calls(),
        idle_upstream_connections: now.idle_upstream_connections.into_iter().collect(),
        is_draining: now.is_draining,
        reloads: now.reloads,
        last_reload_unix_ms: now.last_reload_unix_ms,
        config_is_current: now.config_is_current,
        denied: now.denied.to_vec(),
        addresses_held: now.addresses_held,
        addresses_blocked: now.addresses_blocked,
        channels: now.channels.into_iter().map(channel).collect(),
    }
}

fn channel(channel: measures::ChannelMeasures) -> ChannelMeasures {
    let credentials = channel.credentials.into_iter();
    let endpoints = channel.endpoints.into_iter();
    ChannelMeasures {
        id: channel.id,
        state: channel.state.as_str(),
        credentials: credentials.map(|(id, state, models)| (id, state.as_str(), models)).collect(),
        endpoints: endpoints.map(|(host, state)| (host, state.as_str())).collect(),
    }
}
