//! Settings of the process: `system`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use aiproxy_core::Secret;
use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::{ClientAbort, Database, Drain, Journal, Log, Realtime, Retention, WebSocket};

/// Settings of the process. Fields that cannot change while running say so.
#[derive(Debug)]
pub struct System {
    /// Address of the callers' port; needs a restart. Default `127.0.0.1:8001`.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin paths, where they have a port of their own; needs a restart.
    pub admin_listen: Option<SocketAddr>,
    /// Admin credential from the file, if one was written.
    pub admin_token: Option<Secret>,
    /// Where data is kept; needs a restart. Default `./data`, relative to the config file's directory.
    pub data_dir: PathBuf,
    /// Certificate and key files of the callers' port; watched.
    pub tls: Option<ServerTls>,
    /// How often files are looked at even without a change notice. Zero: only notices and signals. Default 300 s.
    pub config_reload_interval: Duration,
    /// `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub log_level: Box<str>,
    /// Client connections at once; more are answered 503 `overloaded`. Default 10,000.
    pub max_connections: usize,
    /// Peers whose forwarding headers are believed. Default none.
    pub trusted_proxies: Box<[IpNet]>,
    /// Largest request body in bytes. Default 1 GiB.
    pub body_limit: u64,
    /// Deadlines towards clients.
    pub client_timeouts: ClientTimeouts,
    /// How long running calls may take after SIGTERM. Default 30 s.
    pub shutdown_timeout: Duration,
    /// Whether streamed OpenAI chats are asked for usage when the caller did not. Default true.
    pub usage_injection: bool,
    /// Where records are written.
    pub log: Log,
    /// Calls running at once; more are answered 503 `overloaded`. Default `max_connections`.
    pub max_in_flight: usize,
    /// How fast calls may come before any key is looked at.
    pub rate_limit: RateLimit,
    /// How many calls may be sent a second time.
    pub retry_budget: RetryBudget,
    /// Largest request body in bytes that is held to be sent again. Default 32 MiB.
    pub replay_limit: u64,
    /// Where hours, days and months of quotas and statistics begin. Default UTC.
    pub timezone: TimeZone,
    /// What happens upstream when the client goes away. Default `cancel`.
    pub client_abort: ClientAbort,
    /// Bounds of reading on, where that happens.
    pub drain: Drain,
    /// Whether the local machine may read the statistics without a credential. Default false.
    pub open_stats: bool,
    /// Where the ledger's tables are; needs a restart.
    pub database: Database,
    /// The local journal that every record passes; needs a restart.
    pub journal: Journal,
    /// How long records, bodies and statistics are kept.
    pub retention: Retention,
    /// Regular expressions whose matches are replaced in captured bodies, besides the built-in ones. Each compiles and
    /// never matches the empty text.
    pub redact: Box<[Box<str>]>,
    /// What holds for every WebSocket.
    pub websocket: WebSocket,
    /// Calls by WebRTC.
    pub realtime: Realtime,
}

/// How fast calls may come before any key is looked at: `system.rate_limit`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimit {
    /// All calls together. Default none.
    pub global: Option<Rate>,
    /// Calls from one client address (IPv6: one /64 network). Default none.
    pub per_ip: Option<Rate>,
    /// What happens to an address that presents unknown keys again and again; `None` means nothing.
    pub bad_credentials: Option<BadCredentials>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Calls per second on average; above 0.
    pub requests_per_second: f64,
    /// Calls at once: the size of the bucket; at least 1. Default twice the rate.
    pub burst: u32,
}

/// When an address that presents unknown keys is refused: `system.rate_limit.bad_credentials`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCredentials {
    /// Unknown keys within `window` after which the address is refused. From a third of it on, answers come slower.
    /// Default 30.
    pub limit: u32,
    /// Default 60 s.
    pub window: Duration,
    /// How long the address is refused. Default 60 s.
    pub block: Duration,
}

impl Default for BadCredentials {
    fn default() -> Self {
        Self { limit: 30, window: Duration::from_secs(60), block: Duration::from_secs(60) }
    }
}

/// How many calls may be sent a second time: `system.retry_budget`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Further attempts as a share of calls, from 0 to 1. Default 0.2.
    pub share: f64,
    /// Further attempts per second that are always allowed. Default 10.
    pub per_second: f64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { share: 0.2, per_second: 10.0 }
    }
}

impl Default for System {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8001))],
            admin_listen: None,
            admin_token: None,
            data_dir: PathBuf::from("data"),
            tls: None,
            config_reload_interval: Duration::from_secs(300),
            log_level: "info".into(),
            max_connections: 10_000,
            trusted_proxies: Box::default(),
            body_limit: 1 << 30,
            client_timeouts: ClientTimeouts::default(),
            shutdown_timeout: Duration::from_secs(30),
            usage_injection: true,
            log: Log::default(),
            max_in_flight: 10_000,
            rate_limit: RateLimit { bad_credentials: Some(BadCredentials::default()), ..RateLimit::default() },
            retry_budget: RetryBudget::default(),
            replay_limit: 32 << 20,
            timezone: TimeZone::UTC,
            client_abort: ClientAbort::default(),
            drain: Drain::default(),
            open_stats: false,
            database: Database::default(),
            journal: Journal::default(),
            retention: Retention::default(),
            redact: Box::default(),
            websocket: WebSocket::default(),
            realtime: Realtime::default(),
        }
    }
}

/// Certificate of the callers' port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM chain, leaf first.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// Deadlines towards clients: `system.timeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From accept, or from the first byte of a further request, to the end of its headers. Default 10 s.
    pub headers: Duration,
    /// Between two reads of the request body. Default 60 s.
    pub body: Duration,
    /// A connection without a call. Default 75 s.
    pub keep_alive: Duration,
    /// A client that does not take the response. Default 60 s.
    pub write: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            headers: Duration::from_secs(10),
            body: Duration::from_secs(60),
            keep_alive: Duration::from_secs(75),
            write: Duration::from_secs(60),
        }
    }
}
