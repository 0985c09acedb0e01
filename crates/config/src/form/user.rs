//! `users`, `groups` and `departments`: who may call.

use aiproxy_core::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CaptureChoice, LimitsForm, Network, QuotaForm, Timestamp};

/// A person or product that calls.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "User")]
pub struct UserForm {
    /// Display name.
    pub name: Option<String>,
    /// Department, for attribution in records and reports. Its limits and quotas are those of the entry of `departments`
    /// with exactly this name.
    pub department: Option<String>,
    /// How to reach the person. Informational.
    pub contact: Option<String>,
    /// Informational; accepted for older files, `contact` is preferred.
    pub email: Option<String>,
    /// Informational; accepted for older files, `contact` is preferred.
    pub phone: Option<String>,
    /// The secret the user calls with. `${NAME}`, `env:NAME` and `file:/path` are filled in. Its key id is the
    /// user's id.
    pub proxy_key: Option<Secret>,
    /// Further secrets, each with its own rules.
    pub proxy_keys: Vec<ProxyKeyForm>,
    /// `active`, or anything else to switch the user off, e.g. `disabled`. Default `active`.
    #[schemars(example = &"active", example = &"disabled")]
    pub status: Option<String>,
    /// Ids of the channels the user may use, besides those of the user's groups.
    pub channels: Vec<String>,
    /// Ids of the groups the user belongs to.
    pub groups: Vec<String>,
    /// Models the user may ask for: names or patterns (`gpt-*`). Default: those of the groups, or else all.
    pub models: Vec<String>,
    /// Client addresses or networks the user may call from, e.g. `10.0.0.0/8`. Default: any.
    pub ip_allow: Vec<Network>,
    /// Whether a failed call may move to another of the user's channels. Default: as `system.failover`.
    pub failover: Option<bool>,
    /// How fast the user may call, all its keys together.
    pub limits: Option<LimitsForm>,
    /// How much the user may use, all its keys together.
    pub quotas: Vec<QuotaForm>,
    /// Informational.
    pub created_at: Option<String>,
    /// Informational.
    pub updated_at: Option<String>,
}

/// One of several secrets of a user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "ProxyKey")]
pub struct ProxyKeyForm {
    /// Stable id that appears in records instead of the secret. Default: the user's id and the place in the list,
    /// `user1-2`.
    pub id: Option<String>,
    /// The secret. `${NAME}`, `env:NAME` and `file:/path` are filled in.
    pub key: Secret,
    /// `active`, or anything else to switch the key off, e.g. `disabled`. Default `active`.
    #[schemars(example = &"active", example = &"disabled")]
    pub status: Option<String>,
    /// Refused from this moment on, e.g. `2026-12-31T23:59:59+08:00`. Default: never.
    pub expires_at: Option<Timestamp>,
    /// Client addresses or networks the key may be used from, within those of the user. Default: the user's.
    #[serde(default)]
    pub ip_allow: Vec<Network>,
    /// Ids of channels, some of the user's. Default: all of the user's.
    pub channels: Option<Vec<String>>,
    /// Models the key may ask for, some of the user's. Default: the user's.
    #[serde(default)]
    pub models: Vec<String>,
    /// Whether a failed call may move to another of the key's channels. Default: as the user.
    pub failover: Option<bool>,
    /// How fast the key may be used.
    pub limits: Option<LimitsForm>,
    /// How much the key may be used.
    #[serde(default)]
    pub quotas: Vec<QuotaForm>,
    /// Whether the bodies of its calls are stored: `true`, `false`, a share of calls such as `0.01`, or share and
    /// settings. What the key says comes before what the channel says. Default: as the channel.
    pub capture: Option<CaptureChoice>,
}

/// Users managed together.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Group")]
pub struct GroupForm {
    /// Display name.
    pub name: Option<String>,
    /// Ids of the channels every member may use.
    pub channels: Vec<String>,
    /// Models members may ask for who have no list of their own. Default: no rule.
    pub models: Vec<String>,
    /// Client addresses or networks every member must call from. Default: any.
    pub ip_allow: Vec<Network>,
    /// How fast the members may call, together.
    pub limits: Option<LimitsForm>,
    /// How much the members may use, together.
    pub quotas: Vec<QuotaForm>,
}

/// The users of one department, whose `department` is exactly this name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Department")]
pub struct DepartmentForm {
    /// How fast its users may call, together.
    pub limits: Option<LimitsForm>,
    /// How much its users may use, together.
    pub quotas: Vec<QuotaForm>,
}
