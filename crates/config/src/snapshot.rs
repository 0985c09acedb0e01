//! What the config means: the immutable form that one call reads from start to end.
//!
//! A snapshot is built whole and swapped whole. It holds no sockets, counters or clocks; state that outlives a reload
//! is kept by the gateway under the stable ids and keys found here.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use aiproxy_core::Secret;
use aiproxy_llm::prices::PriceTable;
use ipnet::IpNet;

mod ledger;
mod realtime;
mod system;

pub use ledger::{
    Capture, ClientAbort, Database, DatabaseKind, Drain, Journal, Log, LogFile, OnJournalFull, Parquet, Quota,
    QuotaPeriod, QuotaUnit, Retention, S3, Webhook,
};
pub use realtime::{Realtime, Unattached, WebSocket};
pub use system::{BadCredentials, ClientTimeouts, Rate, RateLimit, RetryBudget, ServerTls, System};

/// SHA-256 of a proxy key. Keys are found by this digest, so that looking one up takes the same time whatever it is.
pub type KeyDigest = [u8; 32];

/// A map by digest of a key.
pub type DigestMap<Value> = HashMap<KeyDigest, Value, BuildHasherDefault<DigestHasher>>;

/// Hashes digests: they are spread evenly already, so their first bytes will do. Nobody can choose keys whose digests
/// collide more often than by chance without breaking SHA-256.
#[derive(Clone, Copy, Debug, Default)]
pub struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Everything the data plane needs to know, consistent in itself.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Users by their index; [`ProxyKey::user`] points here.
    pub users: Vec<Arc<User>>,
    /// Proxy keys by the digest of the secret.
    pub keys: DigestMap<Arc<ProxyKey>>,
    /// Channels by their index; [`ProxyKey::channels`] and [`User::channels`] point here.
    pub channels: Vec<Arc<Channel>>,
    /// Index of each channel by its id.
    pub channel_by_id: HashMap<Box<str>, usize>,
    /// Everything that has limits of its own. Users, keys, channels and credentials point here by index.
    pub limited: Vec<Limited>,
    /// Settings of the process.
    pub system: System,
    /// What calls cost. Default: the shipped table.
    pub prices: Arc<PriceTable>,
}

/// Whether an entity may be used. Anything but `active` refuses the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// May be used.
    Active,
    /// Switched off.
    Disabled,
}

/// Something with limits or quotas of its own. What was used of them is counted under `scope` and `id`, so that a reload
/// that changes them does not start the count anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// What kind of thing it is.
    pub scope: Scope,
    /// Its id; for a credential `channel/credential`.
    pub id: Box<str>,
    /// How fast it may be used. At least one limit is set, or there is a quota.
    pub limits: Limits,
    /// How much of it may be used in a period. At most one for each unit, period and softness.
    pub quotas: Box<[Quota]>,
}

/// What a limit or a quota belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// A proxy key.
    Key,
    /// A user: all its keys together.
    User,
    /// A group: all its members together.
    Group,
    /// A department: all its users together.
    Department,
    /// A channel: all its credentials together.
    Channel,
    /// One credential of a channel.
    Credential,
}

impl Scope {
    /// As said in records, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Group => "group",
            Self::Department => "department",
            Self::Channel => "channel",
            Self::Credential => "credential",
        }
    }
}

/// How fast calls may come. `None` does not limit; 0 never occurs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls started in any 60 s.
    pub requests_per_minute: Option<u64>,
    /// Tokens, input and output together, in any 60 s.
    pub tokens_per_minute: Option<u64>,
    /// Calls running at once.
    pub concurrent: Option<u64>,
}

/// A person or product.
#[derive(Debug)]
pub struct User {
    /// Stable id, as in the config file.
    pub id: Box<str>,
    /// Display name; empty if none.
    pub name: Box<str>,
    /// Department, for attribution; empty if none.
    pub department: Box<str>,
    /// Ids of the groups the user belongs to, in the order written, without repeats.
    pub groups: Box<[Box<str>]>,
    /// Whether the user may call at all.
    pub status: Status,
    /// Allowed channels in the order written: the user's own and those of the user's groups, without repeats.
    pub channels: Box<[usize]>,
    /// Allowed model names or globs (`gpt-*`); empty means all.
    pub models: Box<[Box<str>]>,
    /// Allowed client networks; empty means any. A call must satisfy the user's, every group's and the key's list.
    pub ip_allow: Box<[Box<[IpNet]>]>,
    /// Indices into [`Snapshot::limited`]: the user's own limits first, then those of the user's groups, then those of
    /// the user's department.
    pub limited: Box<[u32]>,
}

/// One secret a user holds.
#[derive(Debug)]
pub struct ProxyKey {
    /// Stable id that may appear in logs. For the short form `proxy_key:` it is the user's id.
    pub id: Box<str>,
    /// Index into [`Snapshot::users`].
    pub user: usize,
    /// Whether the key may be used.
    pub status: Status,
    /// Refused from this moment on, in milliseconds since 1970-01-01 UTC.
    pub expires_at_ms: Option<u64>,
    /// Allowed channels; `None` means those of the user. Always a subset of the user's.
    pub channels: Option<Box<[usize]>>,
    /// Allowed model names or globs; empty means the user's.
    pub models: Box<[Box<str>]>,
    /// Allowed client networks; empty means any.
    pub ip_allow: Box<[IpNet]>,
    /// Whether a failed call may move to another of the key's channels: as the key says, or else its user, or else the
    /// system. Default false.
    pub failover: bool,
    /// Index into [`Snapshot::limited`], if the key has limits of its own.
    pub limited: Option<u32>,
    /// Which bodies of its calls are stored; `None` leaves it to the channel.
    pub capture: Option<Capture>,
}

/// What kind of API an upstream speaks; decides where the credential goes and where its OpenAI-compatible root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// OpenAI and whatever is compatible with it at the same paths.
    Openai,
    /// Alibaba Cloud Model Studio.
    Dashscope,
    /// Anthropic.
    Anthropic,
    /// Google Gemini API.
    Gemini,
    /// Google Vertex AI.
    Vertex,
    /// Azure OpenAI.
    Azure,
    /// Amazon Bedrock.
    Bedrock,
    /// Anything else: the credential is sent as a bearer token and paths are kept.
    Custom,
}

impl Kind {
    /// As written in the config; also the family of its prices.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Dashscope => "dashscope",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Vertex => "vertex",
            Self::Azure => "azure",
            Self::Bedrock => "bedrock",
            Self::Custom => "custom",
        }
    }
}

/// One upstream account.
#[derive(Debug)]
pub struct Channel {
    /// Stable id, as in the config file.
    pub id: Box<str>,
    /// Display name; empty if none.
    pub name: Box<str>,
    /// What it speaks.
    pub kind: Kind,
    /// Whether it may be used.
    pub status: Status,
    /// Where it is reached; never empty.
    pub endpoints: Box<[Endpoint]>,
    /// Real keys; never empty for an active channel.
    pub credentials: Box<[Credential]>,
    /// Lower is tried first. Default 0.
    pub priority: u32,
    /// Share of calls among channels of one priority. Default 1.
    pub weight: u32,
    /// Models served: exact names, globs or aliases. Empty means all.
    pub models: Box<[ModelRule]>,
    /// Client path to upstream path, exact match on the decoded path.
    pub path_rewrite: HashMap<Box<str>, Box<str>>,
    /// Whether WebSocket upgrades are served. Default true.
    pub supports_websocket: bool,
    /// Base of WebSocket calls, if it differs from the endpoints; reached through the same proxy, judged by the same TLS
    /// rules.
    pub websocket_url: Option<Endpoint>,
    /// Client path to upstream path for WebSocket calls, exact match on the decoded path.
    pub websocket_endpoints: HashMap<Box<str>, Box<str>>,
    /// Deadlines of this channel's calls.
    pub timeouts: Timeouts,
    /// Extra connection attempts after one that provably did not arrive. Default 0.
    pub max_retries: u32,
    /// Whether a call that was sent and then met silence or a reset may be sent again, although it may be charged
    /// twice. Default false.
    pub retry_ambiguous: bool,
    /// When its credentials are left alone for a while; `None` means never.
    pub health: Option<Health>,
    /// Whether a conversation stays with one credential while that is healthy. Default false.
    pub affinity: bool,
    /// Index into [`Snapshot::limited`], if the channel has limits of its own.
    pub limited: Option<u32>,
    /// Which bodies of its calls are stored where the key does not say. `None`: none.
    pub capture: Option<Capture>,
    /// Headers written to the upstream, after all others. Values may be secret.
    pub headers_set: Box<[(Box<str>, Secret)]>,
    /// Headers not sent to the upstream, lower case.
    pub headers_remove: Box<[Box<str>]>,
    /// Replaces the caller's `User-Agent`.
    pub user_agent: Option<Box<str>>,
}

/// A place an upstream is reached at. Two endpoints with equal `pool_key` may share connections.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// TLS or not.
    pub https: bool,
    /// Host name or IP address (IPv6 without brackets).
    pub host: Box<str>,
    /// Port; the scheme's default if none was written.
    pub port: u16,
    /// `Host` header: host, and port where it is not the scheme's default.
    pub authority: Box<str>,
    /// Path prefix without a trailing slash; empty if none.
    pub path: Box<str>,
    /// Share of calls among the channel's endpoints. Default 1.
    pub weight: u32,
    /// Outbound proxy.
    pub proxy: Option<OutboundProxy>,
    /// How the upstream's certificate is judged.
    pub tls: Tls,
    /// Hash over scheme, host, port, proxy and TLS settings.
    pub pool_key: u64,
}

/// A proxy that upstream connections go through.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OutboundProxy {
    /// Which protocol it speaks.
    pub scheme: ProxyScheme,
    /// Host name or address.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
    /// User and password, from the URL's user info, percent-decoded.
    pub credential: Option<(Box<str>, Box<str>)>,
}

impl fmt::Debug for OutboundProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {}:{}", self.scheme, self.host, self.port)?;
        formatter.write_str(if self.credential.is_some() { " with ***" } else { "" })
    }
}

/// The protocol of an outbound proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyScheme {
    /// HTTP CONNECT (RFC 9110 §9.3.6).
    Http,
    /// SOCKS version 5 with names resolved by the proxy (RFC 1928). `socks5` and `socks5h` both mean this.
    Socks5,
}

/// How an upstream's certificate is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// PEM text of the only authorities trusted; `None` means the usual ones.
    pub ca_pem: Option<Box<str>>,
    /// Accept any certificate. For tests only; `check` warns.
    pub insecure: bool,
}

/// One real key of a channel.
#[derive(Debug)]
pub struct Credential {
    /// Stable id that may appear in logs; `default` for the short form `api_key:`.
    pub id: Box<str>,
    /// The real key.
    pub api_key: Secret,
    /// Share of calls among the channel's credentials. Default 1.
    pub weight: u32,
    /// Whether it may be used.
    pub status: Status,
    /// The first bytes of the key's SHA-256: tells a key that was exchanged from one that was kept.
    pub fingerprint: u64,
    /// Index into [`Snapshot::limited`], if the credential has limits of its own.
    pub limited: Option<u32>,
}

/// When a credential, an endpoint or a whole channel is left alone for a while: `channels.<id>.health`.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Failures in a row after which no more calls come. Default 5.
    pub failures: u32,
    /// Share of failed calls within `window` after which no more calls come, above 0 and at most 1. Default 0.5.
    pub error_rate: f64,
    /// Calls within `window` below which `error_rate` says nothing. Default 20.
    pub minimum_calls: u32,
    /// How far back `error_rate` looks. Default 30 s.
    pub window: Duration,
    /// How long the first pause is; each further one in a row is twice as long. Default 5 s.
    pub cooldown: Duration,
    /// The longest pause of our own making. Default 60 s. An upstream's `Retry-After` may ask for up to an hour.
    pub max_cooldown: Duration,
    /// Asking unasked.
    pub probe: Option<Probe>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            failures: 5,
            error_rate: 0.5,
            minimum_calls: 20,
            window: Duration::from_secs(30),
            cooldown: Duration::from_secs(5),
            max_cooldown: Duration::from_secs(60),
            probe: None,
        }
    }
}

/// An active health check: `channels.<id>.health.probe`. It never costs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub kind: ProbeKind,
    /// Time between two probes. Default 30 s.
    pub interval: Duration,
    /// How long one may take. Default 5 s.
    pub timeout: Duration,
    /// Failures in a row after which no more calls come. Default 3.
    pub failures: u32,
    /// Successes in a row after which calls come again. Default 2.
    pub successes: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            kind: ProbeKind::Connect,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            failures: 3,
            successes: 2,
        }
    }
}

/// What an active health check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Opens a connection to each endpoint, with TLS where the endpoint has it.
    Connect,
    /// Asks for the list of models with each credential.
    Models,
}

/// One entry of a channel's `models`.
#[derive(Debug, PartialEq, Eq)]
pub enum ModelRule {
    /// This very name.
    Exact(Box<str>),
    /// A pattern in which `*` stands for any text.
    Glob(Box<str>),
    /// Callers ask for `alias`, the upstream is asked for `real`.
    Alias {
        /// Name in the caller's request and in what is sent back.
        alias: Box<str>,
        /// Name the upstream knows.
        real: Box<str>,
    },
}

/// Deadlines of an upstream call. Zero switches one off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name lookup, TCP and TLS together. Default 10 s.
    pub connect: Duration,
    /// From the last request byte sent to the first response byte. Default 300 s.
    pub first_byte: Duration,
    /// Between two reads of the response. Default 300 s.
    pub idle: Duration,
    /// The whole call. Default none.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(300),
            total: Duration::ZERO,
        }
    }
}
