//! What is kept of calls and for how long: `capture`, and the journal, the retention and the aborts of `system`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Size, Span, SpanOrOff, Switch};

/// Whether bodies are stored: on or off, a share of calls, or everything.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum CaptureChoice {
    /// Of every call, or of none.
    Switch(Switch),
    /// Of this share of calls, from 0 to 1.
    Share(#[schemars(range(min = 0, max = 1))] f64),
    /// With settings.
    Full(CaptureForm),
}

/// Which bodies of calls are stored, decompressed and with secrets replaced.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Capture")]
pub struct CaptureForm {
    /// Share of calls, from 0 to 1. Default 1.
    #[schemars(range(min = 0, max = 1))]
    pub share: Option<f64>,
    /// More of one body is cut off: bytes, or e.g. `64KiB`, from 1 KiB to 16 MiB. Default 64 KiB.
    pub max_size: Option<Size>,
    /// Whether the request's body is stored. Default true.
    pub request: Option<bool>,
    /// Whether the response's body is stored. Default true.
    pub response: Option<bool>,
}

/// What happens upstream when the client goes away: the word alone, or with bounds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ClientAbortChoice {
    /// The word.
    Policy(ClientAbortPolicy),
    /// The word and bounds.
    Full(ClientAbortForm),
}

/// What happens upstream when the client goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAbortPolicy {
    /// The upstream call is ended at once; what it used is estimated.
    Cancel,
    /// The rest of the response is read, within bounds, so that its usage is known.
    Drain,
}

/// What happens upstream when the client goes away, and its bounds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "ClientAbort")]
pub struct ClientAbortForm {
    /// What happens.
    pub policy: ClientAbortPolicy,
    /// With `drain`: how long one response is read on, from 1 s to 1 h. Default 60 s.
    pub timeout: Option<Span>,
    /// With `drain`: how many responses are read on at once; beyond that calls are cancelled. Default 100.
    #[schemars(range(min = 1, max = 100_000), extend("x-instead" = "write `cancel` to read on for nobody"))]
    pub concurrent: Option<u32>,
}

/// The local journal that every record passes before its call ends. Sinks read behind it at their own pace.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Journal")]
pub struct JournalForm {
    /// A larger segment is followed by a new one; a segment goes once every sink has read it. Bytes, or e.g. `64MiB`,
    /// from 1 MiB to 1 GiB. Needs a restart. Default 64 MiB.
    pub segment_size: Option<Size>,
    /// Records that wait in memory while the disk does not take them: bytes, or e.g. `64MiB`, from 1 MiB to 16 GiB.
    /// Needs a restart. Default 64 MiB.
    pub memory: Option<Size>,
    /// How often what was written is forced to the disk, from 1 ms to 1 h, so that a loss of power costs no more than
    /// that. `off` leaves it to the system; an end of the process alone loses nothing either way. Needs a restart.
    /// Default `off`.
    pub fsync: Option<SpanOrOff>,
    /// What happens to calls once that memory is full, too. Needs a restart. Default `serve`.
    pub on_full: Option<OnJournalFullForm>,
}

/// What happens to calls that can no longer be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", rename = "OnJournalFull")]
pub enum OnJournalFullForm {
    /// They are served; how many records were lost is counted.
    Serve,
    /// They are refused until records find room again.
    Refuse,
}

/// How long records are kept, or how long each thing is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum RetentionChoice {
    /// Records; the rest by default.
    Records(SpanOrOff),
    /// Each on its own.
    Full(RetentionForm),
}

/// How long things are kept: from 1 h to 100 years; `off` keeps them for ever.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Retention")]
pub struct RetentionForm {
    /// Records of calls. Default `90d`.
    pub records: Option<SpanOrOff>,
    /// Captured bodies, which never outlive their records. Default `7d`.
    pub bodies: Option<SpanOrOff>,
    /// Statistics by the hour. Default `90d`.
    pub hours: Option<SpanOrOff>,
    /// Statistics by the day. Default `3y`.
    pub days: Option<SpanOrOff>,
    /// Statistics by the month. Default `off`.
    pub months: Option<SpanOrOff>,
}
