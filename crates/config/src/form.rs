//! The config as it is written. Every doc comment here is what the JSON Schema, editors and the reference show.
//!
//! Two forms exist of each thing: this one, which says what was written, and [`crate::snapshot`], which says what it
//! means. Nothing is looked up or opened here.

mod channel;
mod health;
mod limits;
mod log;
mod rate;
mod rules;
mod shape;
mod system;
mod text;
mod user;

use schemars::JsonSchema;
use serde::Deserialize;

pub use channel::{ChannelForm, CredentialForm, EndpointForm, HeadersForm, KindForm, TimeoutsForm, UpstreamTlsForm};
pub use health::{HealthForm, ProbeForm, ProbeKindForm};
pub use limits::{LimitsForm, QuotaForm, QuotaPeriod, QuotaUnit};
pub use log::{LogFileChoice, LogFileForm, LogForm};
pub use rate::{BadCredentialsForm, RateForm, RateLimitForm, RetryBudgetForm};
pub use rules::{ModelEntry, ModelsForm};
pub use shape::{Any, OneOrMany, Pairs, Switch, Switchable};
pub use system::{
    AdminForm, ClientAbort, ClientTimeoutsForm, LogLevel, OpenStats, SecretsForm, ServerTlsForm, SystemForm,
};
pub use text::{BaseUrl, Listen, Network, Size, Span, Timestamp, UrlPath};
pub use user::{GroupForm, ProxyKeyForm, UserForm};

pub(crate) use text::check_format;

/// The config of AIProxy: one file, or a directory whose files together say this. Keys that start with `_` are
/// comments.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Config")]
pub struct ConfigForm {
    /// Where the JSON Schema of this file is, for editors. No effect.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// Who may call, by a stable id that appears in records and statistics.
    pub users: Pairs<UserForm>,
    /// Upstream accounts, by a stable id that appears in records and statistics.
    pub channels: Pairs<ChannelForm>,
    /// Users managed together, by id.
    pub groups: Pairs<GroupForm>,
    /// Settings of the process.
    pub system: SystemForm,
}
