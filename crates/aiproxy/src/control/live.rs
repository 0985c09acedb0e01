//! What `/stats` tells of this process.

use std::sync::Arc;

use aiproxy_admin::{About, Channel, Live, User};
use aiproxy_config::snapshot::Status;
use aiproxy_core::time;
use aiproxy_gateway::state::Gateway;
use aiproxy_ledger::live::{LiveTotals, Totals};

/// Asks the gateway and the tally.
pub(super) struct FromGateway {
    pub(super) gateway: Arc<Gateway>,
    pub(super) totals: Arc<LiveTotals>,
}

impl Live for FromGateway {
    fn totals(&self) -> Totals {
        self.totals.totals()
    }

    fn about(&self) -> About {
        let snapshot = self.gateway.snapshot();
        let channels = snapshot.channels.iter().map(|channel| {
            let status = if channel.status == Status::Active { "active" } else { "disabled" };
            (channel.id.to_string(), Channel { name: named(&channel.name, &channel.id), status: status.into() })
        });
        let users = snapshot.users.iter().map(|user| (user.id.to_string(), User { name: named(&user.name, &user.id) }));
        About {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.gateway.started().elapsed().as_secs(),
            unix_ms: time::unix_ms(),
            channels: channels.collect(),
            users: users.collect(),
            keys: snapshot.keys.len() as u64,
            open_websockets: self.gateway.open_sockets() as u64,
            open_webrtc_calls: self.gateway.open_webrtc_calls() as u64,
            currency: snapshot.prices.currency().into(),
        }
    }
}

/// What people call it: its id, if it has no name.
fn named(name: &str, id: &str) -> String {
    if name.is_empty() { id } else { name }.to_string()
}
