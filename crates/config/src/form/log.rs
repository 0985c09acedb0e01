//! `system.log`: where the record of each call is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Any, Size};

/// Where the record of each call is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Log")]
pub struct LogForm {
    /// On stderr: a readable line on a terminal, JSON otherwise. Default true.
    pub console: Option<bool>,
    /// In a file of JSON lines: its path, or path and rotation. Default: none.
    pub file: Option<LogFileChoice>,
    /// In the database.
    pub database: Option<Any>,
    /// To a URL.
    pub webhook: Option<Any>,
    /// In Parquet files.
    pub parquet: Option<Any>,
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
}
