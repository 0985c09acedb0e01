//! `system`: settings of the process.

use aiproxy_core::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Any, ClientAbortChoice, JournalForm, Listen, LogForm, Network, OnJournalFullForm, OneOrMany, PricesForm,
    RateLimitForm, RealtimeForm, RetentionChoice, RetryBudgetForm, Size, Span, WebsocketForm,
};

/// Settings of the process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "System")]
pub struct SystemForm {
    /// Where callers connect: one address or several. Needs a restart. Default `127.0.0.1:8001`.
    pub listen: Option<OneOrMany<Listen>>,
    /// The admin paths.
    pub admin: Option<AdminForm>,
    /// Where data is kept, relative to the config's directory. Needs a restart. Default `data`.
    pub data_dir: Option<String>,
    /// Certificate of the callers' port. Default: no TLS.
    pub tls: Option<ServerTlsForm>,
    /// How often files are looked at even without a change notice. 0: only on notice or signal. At most 24 h.
    /// Default 300 s.
    pub config_reload_interval: Option<Span>,
    /// How much is told about the process itself. Default `info`.
    pub log_level: Option<LogLevel>,
    /// Client connections at once; more are answered 503. Default 10,000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: Option<u32>,
    /// Calls running at once; more are answered 503. Default: as `max_connections`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_in_flight: Option<u32>,
    /// Peers whose `X-Forwarded-For` and the like are believed: addresses or networks. Default: none.
    pub trusted_proxies: Vec<Network>,
    /// Largest request body: bytes, or e.g. `100MiB`. Default 1 GiB.
    pub body_limit: Option<Size>,
    /// Largest request body that is held so that a failed call can be sent again; a larger one is tried once. Bytes, or
    /// e.g. `8MiB`. Default 32 MiB.
    pub replay_limit: Option<Size>,
    /// Deadlines towards clients.
    pub timeouts: Option<ClientTimeoutsForm>,
    /// How long running calls may take after the order to stop. Default 30 s.
    pub shutdown_timeout: Option<Span>,
    /// What happens upstream when the client goes away: a word, or a word and bounds. Default `cancel`.
    pub client_abort: Option<ClientAbortChoice>,
    /// What holds for every WebSocket.
    pub websocket: Option<WebsocketForm>,
    /// Calls by WebRTC.
    pub realtime: Option<RealtimeForm>,
    /// Whether streamed OpenAI chats are asked for usage where the caller did not. Default true.
    pub usage_injection: Option<bool>,
    /// Where the record of each call is written. Needs a restart.
    pub log: Option<LogForm>,
    /// `loopback`: the local machine may read the statistics without a credential. Default `off`.
    pub open_stats: Option<OpenStats>,
    /// Whether a failed call may move to another of the key's channels. Users and keys may say otherwise. Default false.
    pub failover: Option<bool>,
    /// How many calls may be sent a second time, so that an outage is not made worse by retries.
    pub retry_budget: Option<RetryBudgetForm>,
    /// How fast calls may come, before any key is looked at.
    pub rate_limit: Option<RateLimitForm>,
    /// IANA time zone of the hours, days and months of quotas and statistics, e.g. `Asia/Shanghai`. Needs
    /// a restart. Default `UTC`.
    pub timezone: Option<String>,
    /// URL of the database: `postgres://user:password@host/name`, `mysql://…`, `mariadb://…`, or `sqlite:` and a path,
    /// relative to the data directory. `${NAME}`, `env:NAME` and `file:/path` are filled in. Needs a restart. Default:
    /// SQLite in the data directory.
    pub database: Option<Secret>,
    /// The local journal that every record passes. Needs a restart.
    pub journal: Option<JournalForm>,
    /// Short for `journal.on_full`. Needs a restart.
    pub on_journal_full: Option<OnJournalFullForm>,
    /// URL of Redis, shared by several instances. `${NAME}` is filled in. Default: none.
    pub redis: Option<Secret>,
    /// How long records, bodies and statistics are kept: a duration for the records, or each on its own; `off` keeps
    /// them for ever.
    pub retention: Option<RetentionChoice>,
    /// Regular expressions whose matches are replaced in captured bodies, besides what looks like a secret anyway: at
    /// most 100. Default: none.
    pub redact: Vec<String>,
    /// What calls cost.
    pub prices: Option<PricesForm>,
    /// Encryption of stored secrets.
    pub secrets: Option<SecretsForm>,
    /// Accepted for older files. No effect.
    pub monitoring: Option<Any>,
}

/// The admin paths.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Admin")]
pub struct AdminForm {
    /// An address of their own. Needs a restart. Default: the callers' port.
    pub listen: Option<Listen>,
    /// The admin credential, at least 16 characters. `${NAME}`, `env:NAME` and `file:/path` are filled in. Default: made at
    /// the first start and shown once.
    pub token: Option<Secret>,
}

/// Certificate of the callers' port. Both files are watched.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "ServerTls")]
pub struct ServerTlsForm {
    /// PEM file with the chain, leaf first; relative to the config's directory.
    pub cert: String,
    /// PEM file with the key; relative to the config's directory.
    pub key: String,
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What may fail soon.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Deadlines towards clients. 0 switches one off.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "ClientTimeouts")]
pub struct ClientTimeoutsForm {
    /// From the start of a request to the end of its headers. Default 10 s.
    pub headers: Option<Span>,
    /// Between two pieces of the request body. Default 60 s.
    pub body: Option<Span>,
    /// A connection without a call. Default 75 s.
    pub keep_alive: Option<Span>,
    /// A client that does not take the response. Default 60 s.
    pub write: Option<Span>,
}

/// Who may read the statistics without a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OpenStats {
    /// Nobody.
    Off,
    /// The local machine.
    Loopback,
}

/// Encryption of stored secrets.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Secrets")]
pub struct SecretsForm {
    /// Key that stored real keys and relay keys are encrypted with. `${NAME}` and `file:/path` are filled in.
    pub master_key: Option<Secret>,
}
