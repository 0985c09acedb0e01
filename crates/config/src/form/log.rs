//! `system.log`: where the record of each call is written.

use aiproxy_core::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Size, Span, Switch};

/// Where the record of each call is written. Any number of places at once; each has its own buffer and its own pace.
/// Needs a restart.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Log")]
pub struct LogForm {
    /// On stderr: a readable line on a terminal, JSON otherwise. Default true.
    pub console: Option<bool>,
    /// In a file of JSON lines: its path, or path and rotation. Default: none.
    pub file: Option<LogFileChoice>,
    /// In `system.database`. Statistics and lists of records come from there. Default true.
    pub database: Option<bool>,
    /// To receivers, as signed batches of JSON: a URL, a URL with settings, or a list of those. Default: none.
    pub webhook: Option<WebhookChoice>,
    /// In Parquet files: `true`, their directory, or directory and settings. Default false.
    pub parquet: Option<ParquetChoice>,
}

/// The path alone, or everything.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum LogFileChoice {
    /// The path, relative to the data directory.
    Path(String),
    /// Path and rotation.
    Full(LogFileForm),
}

/// A file of JSON lines that is rotated by size.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "LogFile")]
pub struct LogFileForm {
    /// The current file, relative to the data directory; older ones get `.1`, `.2`, … appended.
    pub path: String,
    /// A larger file is rotated: bytes, or e.g. `100MiB`. Default 100 MiB.
    pub max_size: Option<Size>,
    /// Rotated files kept. Default 10.
    #[schemars(range(max = 10_000))]
    pub keep: Option<u32>,
    /// Whether rotated files are compressed by gzip; they get `.gz` appended, too. Default false.
    pub compress: Option<bool>,
}

/// Receivers of batches of records.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum WebhookChoice {
    /// Off.
    Switch(Switch),
    /// One receiver.
    One(WebhookEntry),
    /// Any number.
    Many(Vec<WebhookEntry>),
}

/// The URL alone, or everything.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum WebhookEntry {
    /// The URL. `${NAME}`, `env:NAME` and `file:/path` are filled in.
    Url(Secret),
    /// URL and settings.
    Full(WebhookForm),
}

/// A receiver of batches of records. A batch that is not answered by 2xx is sent again, later and later.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Webhook")]
pub struct WebhookForm {
    /// Stable name, under which it is kept how far the receiver has read: letters, digits, `-`, `_` and `.`. Default:
    /// `webhook`, and `webhook-2` and so on by the place in the list.
    pub name: Option<String>,
    /// `https://` or `http://`. `${NAME}`, `env:NAME` and `file:/path` are filled in.
    pub url: Secret,
    /// Key that each batch is signed with (HMAC-SHA-256). `${NAME}`, `env:NAME` and `file:/path` are filled in. Default:
    /// batches are not signed.
    pub secret: Option<Secret>,
    /// Most records in one batch. Default 500.
    #[schemars(range(min = 1, max = 10_000))]
    pub batch: Option<u32>,
    /// The longest a record waits for others to be sent with it, up to 1 h. Default 1 s.
    pub interval: Option<Span>,
    /// How long the receiver may take, from 100 ms to 5 min. Default 10 s.
    pub timeout: Option<Span>,
    /// Whether captured bodies are sent along. Default false.
    pub bodies: Option<bool>,
}

/// Off or on, the directory alone, or everything.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ParquetChoice {
    /// Off, or on by default.
    Switch(Switch),
    /// The directory, relative to the data directory.
    Directory(String),
    /// Directory and settings.
    Full(ParquetForm),
}

/// Parquet files, one or more for each day. A file is complete and never changes once it has its name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Parquet")]
pub struct ParquetForm {
    /// Where the files are, relative to the data directory. Default `parquet`.
    pub directory: Option<String>,
    /// A file of about this size is finished: bytes, or e.g. `128MiB`, from 1 MiB to 4 GiB. Default 128 MiB.
    pub max_size: Option<Size>,
    /// A file is finished at the latest after this time, from 1 s to 24 h. Default 10 min.
    pub interval: Option<Span>,
    /// Where finished files are uploaded to. Default: nowhere, they stay in the directory.
    pub s3: Option<S3Form>,
}

/// S3 or something compatible.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "S3")]
pub struct S3Form {
    /// `https://host`, with port and path prefix if need be. Default: Amazon's own in the region.
    pub endpoint: Option<String>,
    /// Region; needed unless there is an `endpoint`. Default `us-east-1`.
    pub region: Option<String>,
    /// Bucket.
    pub bucket: String,
    /// Put before the name of each file, e.g. `aiproxy/production`. Default: nothing.
    pub prefix: Option<String>,
    /// Name of the access key. `${NAME}`, `env:NAME` and `file:/path` are filled in.
    pub access_key_id: Secret,
    /// The access key itself. `${NAME}`, `env:NAME` and `file:/path` are filled in.
    pub secret_access_key: Secret,
}
