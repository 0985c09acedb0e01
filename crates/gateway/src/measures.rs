//! What the gateway knows that no record tells: how many calls run, what is left alone, whether the config is current.
//! Plain data for metrics, read when somebody asks; nothing here costs a call anything.

use std::collections::BTreeMap;

use aiproxy_config::snapshot::Status;

use crate::health::{Breaker, Gate};
use crate::serving::Serving;
use crate::state::Gateway;

/// How the gateway is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// Calls that have begun and not ended.
    pub calls_in_flight: usize,
    /// Open connections of callers.
    pub connections: usize,
    /// Idle connections to upstreams by host (with its port, where that is not the usual one), of all workers together.
    /// Hosts that the config no longer has are under the empty name until their connections are closed.
    pub idle_upstream_connections: BTreeMap<Box<str>, usize>,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// How often the config was replaced since the start.
    pub reloads: usize,
    /// When it was replaced last, in milliseconds since 1970-01-01 UTC; `None` if it is still that of the start.
    pub last_reload_unix_ms: Option<u64>,
    /// Whether the files on disk are what is in force. If not they are broken, and the last good ones are.
    pub config_is_current: bool,
    /// Calls denied since the start before any key was looked at: by what denied them.
    pub denied: [(&'static str, u64); 3],
    /// Addresses that are held for `system.rate_limit` and for unknown keys.
    pub addresses_held: usize,
    /// How often an address came to be refused for its unknown keys since the start.
    pub addresses_blocked: u64,
    /// Channels in the order of the config.
    pub channels: Vec<ChannelMeasures>,
}

/// How a channel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMeasures {
    /// Its id.
    pub id: Box<str>,
    /// Of the channel itself; its credentials and endpoints have their own.
    pub state: State,
    /// Its credentials: id, state, and how many models each is not asked for now.
    pub credentials: Vec<(Box<str>, State, usize)>,
    /// Its endpoints: host and state.
    pub endpoints: Vec<(Box<str>, State)>,
}

/// Whether calls go to a channel, a credential or an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They do.
    Healthy,
    /// One does, to see whether it has recovered.
    Recovering,
    /// It is left alone for a while.
    Paused,
    /// It is switched off in the config.
    Disabled,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Recovering, Self::Paused, Self::Disabled];

    /// The name used in status and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Recovering => "recovering",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }

    fn of(breaker: &Breaker, status: Status, now_ms: u64) -> Self {
        match breaker.gate(now_ms) {
            _ if status != Status::Active => Self::Disabled,
            Gate::Closed => Self::Healthy,
            Gate::HalfOpen => Self::Recovering,
            Gate::Open(..) => Self::Paused,
        }
    }
}

/// How `gateway` is now.
#[must_use]
pub fn measures(gateway: &Gateway) -> Measures {
    let serving = gateway.snapshot();
    let denials = gateway.admission.denials();
    Measures {
        calls_in_flight: gateway.calls_in_flight(),
        connections: gateway.connections(),
        idle_upstream_connections: idle_upstream_connections(gateway, &serving),
        is_draining: gateway.is_draining(),
        reloads: gateway.reloads(),
        last_reload_unix_ms: gateway.last_reload_unix_ms(),
        config_is_current: gateway.config_problem().is_none(),
        denied: [("global", denials.global), ("ip", denials.ip), ("bad_credentials", denials.bad_credentials)],
        addresses_held: gateway.admission.held_addresses(),
        addresses_blocked: gateway.admission.blocks(),
        channels: channels(&serving, gateway.now_ms()),
    }
}

fn channels(serving: &Serving, now_ms: u64) -> Vec<ChannelMeasures> {
    let channels = serving.channels.iter().zip(&serving.health.channels).map(|(channel, health)| {
        let credentials = channel.credentials.iter().zip(&health.credentials).map(|(credential, health)| {
            let state = State::of(&health.breaker, credential.status, now_ms);
            (credential.id.clone(), state, health.paused_models(now_ms))
        });
        let endpoints = channel
            .endpoints
            .iter()
            .zip(&health.endpoints)
            .map(|(endpoint, breaker)| (endpoint.authority.clone(), State::of(breaker, Status::Active, now_ms)));
        ChannelMeasures {
            id: channel.id.clone(),
            state: State::of(&health.breaker, channel.status, now_ms),
            credentials: credentials.collect(),
            endpoints: endpoints.collect(),
        }
    });
    channels.collect()
}

fn idle_upstream_connections(gateway: &Gateway, serving: &Serving) -> BTreeMap<Box<str>, usize> {
    let endpoints = || serving.channels.iter().flat_map(|channel| &channel.endpoints);
    let mut idle: BTreeMap<Box<str>, usize> = endpoints().map(|endpoint| (endpoint.authority.clone(), 0)).collect();
    let by_key: BTreeMap<u64, &str> = endpoints().map(|endpoint| (endpoint.pool_key, &*endpoint.authority)).collect();
    for worker in gateway.workers() {
        for (key, count) in worker.pool.idle() {
            *idle.entry(by_key.get(&key).copied().unwrap_or_default().into()).or_default() += count;
        }
    }
    idle
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use aiproxy_config::snapshot::{Channel, Kind, Snapshot};
    use aiproxy_ledger::Entry;

    use super::*;
    use crate::health::Reason;
    use crate::state::{RecordSink, Worker};
    use crate::test_config;
    use crate::upstream::connect::NetworkDialer;
    use crate::upstream::pool::Connection;

    struct Nowhere;

    impl RecordSink for Nowhere {
        fn emit(&self, _: &Entry<'_>) {}
    }

    fn snapshot(channels: Vec<Channel>) -> Snapshot {
        Snapshot { channels: channels.into_iter().map(Arc::new).collect(), ..Snapshot::default() }
    }

    fn gateway(channels: Vec<Channel>) -> Arc<Gateway> {
        Gateway::new(snapshot(channels), Arc::new(NetworkDialer::default()), Arc::new(Nowhere), [0; 32])
    }

    #[tokio::test]
    async fn breakers_are_told_by_the_state_a_call_finds_them_in() {
        let mut off = test_config::channel(Kind::Openai, "");
        off.status = Status::Disabled;
        let gateway = gateway(vec![test_config::channel(Kind::Openai, ""), off]);
        let serving = gateway.snapshot();
        let health = &serving.health.channels[0];
        let pause = Duration::from_secs(60);
        health.credentials[0].breaker.pause(gateway.now_ms(), pause, pause, None, Reason::Exhausted);
        let found = measures(&gateway);
        let [first, second] = &found.channels[..] else { panic!("two channels: {found:?}") };
        assert_eq!((first.state, second.state), (State::Healthy, State::Disabled));
        assert_eq!(first.credentials, [("default".into(), State::Paused, 0)]);
        assert_eq!(first.endpoints, [("up.test".into(), State::Healthy)]);
        let later = channels(&serving, gateway.now_ms() + 61_000);
        assert_eq!(later[0].credentials[0].1, State::Recovering);
    }

    #[tokio::test]
    async fn a_reload_a_broken_file_and_a_drain_are_seen() {
        let gateway = gateway(Vec::new());
        let found = measures(&gateway);
        assert!(found.config_is_current && !found.is_draining);
        assert_eq!((found.reloads, found.last_reload_unix_ms), (0, None));
        gateway.config_is_broken("a brace is missing".into());
        gateway.drain();
        let found = measures(&gateway);
        assert!(!found.config_is_current && found.is_draining);
        drop(gateway.swap(snapshot(Vec::new())));
        let found = measures(&gateway);
        assert!(found.config_is_current && found.last_reload_unix_ms.is_some());
        assert_eq!(found.reloads, 1);
    }

    #[tokio::test]
    async fn idle_connections_of_all_workers_are_counted_by_host_until_the_worker_ends() {
        let gateway = gateway(vec![test_config::channel(Kind::Openai, "")]);
        let workers = [Worker::new(gateway.clone()), Worker::new(gateway.clone())];
        let (near, _far) = tokio::io::duplex(64);
        let (other, _other_far) = tokio::io::duplex(64);
        workers[0].pool.put(Connection::new(Box::new(near), 1));
        workers[1].pool.put(Connection::new(Box::new(other), 999));
        let idle = measures(&gateway).idle_upstream_connections;
        assert_eq!(idle, [("".into(), 1), ("up.test".into(), 1)].into());
        drop(workers);
        assert_eq!(measures(&gateway).idle_upstream_connections, [("up.test".into(), 0)].into());
        assert_eq!(Arc::strong_count(&gateway), 1);
    }
}
