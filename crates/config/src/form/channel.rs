//! `channels`: upstream accounts.

use aiproxy_core::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    BaseUrl, CaptureChoice, HealthForm, LimitsForm, ModelsForm, Pairs, QuotaForm, Span, Switch, Switchable, UrlPath,
    WebsocketUrl,
};

/// One upstream account.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Channel")]
pub struct ChannelForm {
    /// Display name.
    pub name: Option<String>,
    /// What kind of API it speaks. Default: by the host; `custom` for an unknown host.
    pub kind: Option<KindForm>,
    /// `active`, or anything else to switch the channel off, e.g. `disabled`. Default `active`.
    #[schemars(example = &"active", example = &"disabled")]
    pub status: Option<String>,
    /// Where it is: `https://host`, with port and path prefix if need be. The prefix is put before the caller's path.
    pub base_url: Option<BaseUrl>,
    /// Several places instead of `base_url`, sharing load by weight. A failed call may move to another of them.
    pub endpoints: Option<Vec<EndpointForm>>,
    /// Base of WebSocket calls, if it is another one: `wss://host` or `ws://host`, with port and path prefix if need be;
    /// `https://` and `http://` mean the same. `proxy` and `tls` hold for it, too.
    pub websocket_url: Option<WebsocketUrl>,
    /// The real key. `${NAME}`, `env:NAME` and `file:/path` are filled in.
    pub api_key: Option<Secret>,
    /// Several real keys instead of `api_key`, sharing load by weight. A failed call may move to another of them.
    pub credentials: Option<Vec<CredentialForm>>,
    /// Channels with a lower number are used first; the others when none of those is left. Default 0.
    #[schemars(range(max = 1_000_000))]
    pub priority: Option<u32>,
    /// Share of calls among channels of the same priority, at least 1. Default 1.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-instead" = "write `status: disabled` to take it out"))]
    pub weight: Option<u32>,
    /// Models served: names and patterns (`gpt-*`), or a map of alias to real name. Default: all.
    pub models: Option<ModelsForm>,
    /// Paths callers use and what they become, exactly as written: `/chat/completions:
    /// /compatible-mode/v1/chat/completions`.
    pub path_rewrite: Pairs<UrlPath>,
    /// The same for WebSocket calls, to which `path_rewrite` does not apply.
    pub websocket_endpoints: Pairs<UrlPath>,
    /// Whether WebSocket calls are served; where not, they are answered 400. Default true.
    pub supports_websocket: Option<bool>,
    /// Sets `timeouts.first_byte` and `timeouts.idle`. In seconds.
    pub timeout: Option<Span>,
    /// Deadlines of a call, each on its own.
    pub timeouts: Option<TimeoutsForm>,
    /// Further connection attempts after one that provably did not arrive. Default 0.
    #[schemars(range(max = 10))]
    pub max_retries: Option<u32>,
    /// Also send a call again that was sent and then met silence or a reset, although it may be charged twice.
    /// Default false.
    pub retry_ambiguous: Option<bool>,
    /// Headers towards the upstream.
    pub headers: Option<HeadersForm>,
    /// Replaces the caller's `User-Agent`.
    pub user_agent: Option<String>,
    /// Outbound proxy: `http://user:password@host:port` or `socks5://…`. `${NAME}` is filled in. Default: none.
    pub proxy: Option<Secret>,
    /// How the upstream's certificate is judged.
    pub tls: Option<UpstreamTlsForm>,
    /// When a credential or endpoint that fails is left alone for a while: `false` (or `off`) never, `true` by the
    /// defaults of the fields below. Default true.
    pub health: Option<Switchable<HealthForm>>,
    /// Whether a conversation stays with one credential while that is healthy, for the sake of the provider's prompt
    /// cache. Default false.
    pub affinity: Option<Switch>,
    /// How fast the channel may be called, all its credentials together.
    pub limits: Option<LimitsForm>,
    /// How much the channel may be used, all its credentials together.
    pub quotas: Vec<QuotaForm>,
    /// Whether the bodies of its calls are stored where the key does not say: `true`, `false`, a share of calls such as
    /// `0.01`, or share and settings. Default false.
    pub capture: Option<CaptureChoice>,
}

/// What kind of API an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", rename = "Kind")]
pub enum KindForm {
    /// OpenAI.
    Openai,
    /// Alibaba Cloud Model Studio (百炼).
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
    /// Anything else, such as an OpenAI-compatible server: the key is a bearer token, paths are kept.
    Custom,
}

/// One place a channel is reached at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Endpoint")]
pub struct EndpointForm {
    /// `https://host`, with port and path prefix if need be.
    pub base_url: BaseUrl,
    /// Share of calls, at least 1. Default 1.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-instead" = "to take it out, remove it from the list"))]
    pub weight: Option<u32>,
}

/// One real key of a channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Credential")]
pub struct CredentialForm {
    /// Stable id that appears in records instead of the key. Default: `credential-1` and so on.
    pub id: Option<String>,
    /// The real key, another one for each credential of the channel. `${NAME}`, `env:NAME` and `file:/path` are filled
    /// in.
    pub api_key: Secret,
    /// Share of calls, at least 1. Default 1.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-instead" = "write `status: disabled` to take it out"))]
    pub weight: Option<u32>,
    /// `active`, or anything else to switch it off, e.g. `disabled`. Default `active`.
    #[schemars(example = &"active", example = &"disabled")]
    pub status: Option<String>,
    /// How fast it may be used. A call that finds it at its limit takes another one.
    pub limits: Option<LimitsForm>,
    /// How much it may be used. A call that finds one of them used up takes another credential.
    #[serde(default)]
    pub quotas: Vec<QuotaForm>,
}

/// Deadlines of an upstream call. 0 switches one off.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Timeouts")]
pub struct TimeoutsForm {
    /// Name lookup, TCP and TLS together. Default 10 s.
    pub connect: Option<Span>,
    /// From the last byte of the request to the first of the response. Default 300 s.
    pub first_byte: Option<Span>,
    /// Between two pieces of the response. Default 300 s.
    pub idle: Option<Span>,
    /// The whole call. Default 0: none.
    pub total: Option<Span>,
}

/// Headers towards the upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Headers")]
pub struct HeadersForm {
    /// Written last, replacing any of the same name. `${NAME}`, `env:NAME` and `file:/path` are filled in.
    pub set: Pairs<Secret>,
    /// Names of headers that are not sent on.
    pub remove: Vec<String>,
}

/// How an upstream's certificate is judged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "UpstreamTls")]
pub struct UpstreamTlsForm {
    /// PEM file with the only authorities to trust; relative to the config's directory. Default: the usual ones.
    pub ca_file: Option<String>,
    /// Accept any certificate. For tests only. Default false.
    pub insecure: Option<bool>,
}
