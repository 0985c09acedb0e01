//! Small pieces of a snapshot for unit tests.

use std::collections::HashMap;

use aiproxy_config::snapshot::*;
use aiproxy_core::Secret;

/// A caller who may do everything on channel 0.
pub(crate) fn caller() -> (User, ProxyKey) {
    let user = User {
        id: "user1".into(),
        name: "".into(),
        department: "".into(),
        groups: Box::default(),
        status: Status::Active,
        channels: Box::new([0]),
        models: Box::default(),
        ip_allow: Box::default(),
        limited: Box::default(),
    };
    let key = ProxyKey {
        id: "key1".into(),
        user: 0,
        status: Status::Active,
        expires_at_ms: None,
        channels: None,
        models: Box::default(),
        ip_allow: Box::default(),
        failover: false,
        limited: None,
        capture: None,
    };
    (user, key)
}

/// An active channel of `kind` whose one endpoint has the path prefix `base`.
pub(crate) fn channel(kind: Kind, base: &str) -> Channel {
    let endpoint = Endpoint {
        https: false,
        host: "up.test".into(),
        port: 80,
        authority: "up.test".into(),
        path: base.into(),
        weight: 1,
        proxy: None,
        tls: Tls::default(),
        pool_key: 1,
    };
    let credential = Credential {
        id: "default".into(),
        api_key: Secret::new("real"),
        weight: 1,
        status: Status::Active,
        fingerprint: 1,
        limited: None,
    };
    Channel {
        id: "channel1".into(),
        name: "".into(),
        kind,
        status: Status::Active,
        endpoints: Box::new([endpoint]),
        credentials: Box::new([credential]),
        priority: 0,
        weight: 1,
        models: Box::default(),
        path_rewrite: HashMap::new(),
        supports_websocket: true,
        websocket_url: None,
        websocket_endpoints: HashMap::new(),
        timeouts: Timeouts::default(),
        max_retries: 0,
        retry_ambiguous: false,
        health: Some(Health::default()),
        affinity: false,
        limited: None,
        capture: None,
        headers_set: Box::default(),
        headers_remove: Box::default(),
        user_agent: None,
    }
}
