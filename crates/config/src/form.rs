//! The config as it is written. Every doc comment here is what the JSON Schema, editors and the reference show.
//!
//! Two forms exist of each thing: this one, which says what was written, and [`crate::snapshot`], which says what it
//! means. Nothing is looked up or opened here.

mod channel;
mod health;
mod ledger;
mod limits;
mod log;
mod prices;
mod rate;
mod realtime;
mod rules;
mod shape;
mod system;
mod text;
mod user;

use schemars::JsonSchema;
use serde::Deserialize;

pub use channel::{ChannelForm, CredentialForm, EndpointForm, HeadersForm, KindForm, TimeoutsForm, UpstreamTlsForm};
pub use health::{HealthForm, ProbeForm, ProbeKindForm};
pub use ledger::{
    CaptureChoice, CaptureForm, ClientAbortChoice, ClientAbortForm, ClientAbortPolicy, JournalForm, OnJournalFullForm,
    RetentionChoice, RetentionForm,
};
pub use limits::{LimitsForm, QuotaForm, QuotaPeriodForm, QuotaUnitForm};
pub use log::{
    LogFileChoice, LogFileForm, LogForm, ParquetChoice, ParquetForm, S3Form, WebhookChoice, WebhookEntry, WebhookForm,
};
pub use prices::{Money, PriceForm, PricesForm, TierForm};
pub use rate::{BadCredentialsForm, RateForm, RateLimitForm, RetryBudgetForm};
pub use realtime::{RealtimeForm, UnattachedForm, WebsocketForm};
pub use rules::{ModelEntry, ModelsForm};
pub use shape::{Any, OneOrMany, Pairs, Switch, Switchable};
pub use system::{AdminForm, ClientTimeoutsForm, LogLevel, OpenStats, SecretsForm, ServerTlsForm, SystemForm};
pub use text::{BaseUrl, Listen, Network, Size, Span, SpanOrOff, Timestamp, UrlPath, WebsocketUrl};
pub use user::{DepartmentForm, GroupForm, ProxyKeyForm, UserForm};

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
    /// Limits and quotas of departments, by the name that users have as their `department`.
    pub departments: Pairs<DepartmentForm>,
    /// Settings of the process.
    pub system: SystemForm,
}
