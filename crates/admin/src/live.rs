//! What the gateway tells of itself.

use std::collections::BTreeMap;

use aiproxy_ledger::live::Totals;

/// What is known of this process without asking the database.
pub trait Live: Send + Sync + 'static {
    /// All calls since the first start ever.
    fn totals(&self) -> Totals;

    /// What there is now.
    fn about(&self) -> About;
}

/// What there is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Version of the program.
    pub version: String,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// Now, in milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// Every channel of the config, by id.
    pub channels: BTreeMap<String, Channel>,
    /// Every user of the config, by id.
    pub users: BTreeMap<String, User>,
    /// Number of proxy keys.
    pub keys: u64,
    /// WebSockets that are open: they have no record yet.
    pub open_websockets: u64,
    /// Calls by WebRTC that are not over: they have no record yet.
    pub open_webrtc_calls: u64,
    /// The base currency that costs are in, such as `CNY`.
    pub currency: String,
}

/// A channel of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// Its name for people.
    pub name: String,
    /// `active` or `disabled`.
    pub status: String,
}

/// A user of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Its name for people.
    pub name: String,
}
