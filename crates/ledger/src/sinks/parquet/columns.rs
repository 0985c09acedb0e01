//! The columns of a file, and rows on their way into them.
//!
//! Flat and typed, with the names of the JSON record; what was used is `usage_input` and so on. Lists (groups, attempts)
//! are JSON texts: every reader has functions for those, and few agree on nested columns.

use std::fmt::Write;
use std::fs::File;
use std::sync::Arc;

use aiproxy_llm::usage::Usage;
use bytes::Bytes;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::TypePtr;

use crate::entry::Entry;
use crate::json;

/// How a column's value is read from a record. Only what returns an `Option` may be null.
enum Read {
    Id,
    /// Milliseconds since 1970-01-01 UTC.
    Started,
    Text(for<'a> fn(&Entry<'a>) -> &'a str),
    MaybeText(for<'a> fn(&Entry<'a>) -> Option<&'a str>),
    /// What is appended as JSON.
    Json(fn(&Entry<'_>, &mut Vec<u8>)),
    Integer(fn(&Entry<'_>) -> u64),
    MaybeInteger(fn(&Entry<'_>) -> Option<i64>),
    Used(fn(&Usage) -> Option<u64>),
    /// A thousandth of a whole number.
    Thousandth(fn(&Entry<'_>) -> u64),
    MaybeThousandth(fn(&Entry<'_>) -> Option<u64>),
    Flag(fn(&Entry<'_>) -> bool),
}

/// Every column, in the order of the record. New ones go to the end.
const COLUMNS: [(&str, Read); 47] = [
    ("id", Read::Id),
    ("started_at", Read::Started),
    ("duration_ms", Read::Thousandth(|entry| entry.duration_us)),
    ("first_byte_ms", Read::MaybeThousandth(|entry| entry.first_byte_us)),
    ("user_id", Read::MaybeText(|entry| entry.user_id)),
    ("department", Read::MaybeText(|entry| entry.department.filter(|department| !department.is_empty()))),
    ("groups", Read::Json(|entry, text| json::groups(text, &entry.groups))),
    ("key_id", Read::MaybeText(|entry| entry.key_id)),
    ("relay_token_id", Read::MaybeText(|entry| entry.relay_token_id)),
    ("client_ip", Read::Text(|entry| entry.client_ip)),
    ("method", Read::Text(|entry| entry.method)),
    ("path", Read::Text(|entry| entry.path)),
    ("endpoint", Read::Text(|entry| entry.endpoint)),
    ("dialect", Read::Text(|entry| entry.dialect)),
    ("protocol", Read::Text(|entry| entry.protocol)),
    ("channel_id", Read::MaybeText(|entry| entry.channel_id)),
    ("credential_id", Read::MaybeText(|entry| entry.credential_id)),
    ("model_asked", Read::MaybeText(|entry| entry.model_asked)),
    ("model_served", Read::MaybeText(|entry| entry.model_served)),
    ("attempts", Read::Json(|entry, text| json::attempts(text, &entry.attempts))),
    ("status", Read::Integer(|entry| entry.status.into())),
    ("error_code", Read::MaybeText(|entry| entry.error_code)),
    ("upstream_request_id", Read::MaybeText(|entry| entry.upstream_request_id)),
    ("end", Read::Text(|entry| entry.end)),
    ("request_bytes", Read::Integer(|entry| entry.request_bytes)),
    ("response_bytes", Read::Integer(|entry| entry.response_bytes)),
    ("usage_input", Read::Used(|usage| usage.input)),
    ("usage_output", Read::Used(|usage| usage.output)),
    ("usage_cached", Read::Used(|usage| usage.cached)),
    ("usage_cache_write", Read::Used(|usage| usage.cache_write)),
    ("usage_cache_write_long", Read::Used(|usage| usage.cache_write_long)),
    ("usage_reasoning", Read::Used(|usage| usage.reasoning)),
    ("usage_audio_input", Read::Used(|usage| usage.audio_input)),
    ("usage_audio_output", Read::Used(|usage| usage.audio_output)),
    ("usage_image_input", Read::Used(|usage| usage.image_input)),
    ("usage_image_output", Read::Used(|usage| usage.image_output)),
    ("usage_image", Read::Used(|usage| usage.image)),
    ("usage_video", Read::Used(|usage| usage.video)),
    ("usage_characters", Read::Used(|usage| usage.characters)),
    ("usage_searches", Read::Used(|usage| usage.searches)),
    ("usage_seconds", Read::MaybeThousandth(|entry| entry.usage.as_ref().and_then(|usage| usage.seconds_ms))),
    ("usage_source", Read::Text(|entry| entry.usage_source)),
    ("usage_flaw", Read::MaybeText(|entry| entry.usage_flaw)),
    // In micro-units of the base currency, as in the record.
    ("cost", Read::MaybeInteger(|entry| entry.cost)),
    ("price_version", Read::MaybeText(|entry| entry.price_version)),
    ("cache", Read::Text(|entry| entry.cache)),
    ("counted", Read::Flag(|entry| entry.counted)),
];

impl Read {
    fn schema(&self) -> &'static str {
        match self {
            Self::Id | Self::Text(_) | Self::Json(_) => "REQUIRED BYTE_ARRAY {} (STRING)",
            Self::MaybeText(_) => "OPTIONAL BYTE_ARRAY {} (STRING)",
            Self::Started => "REQUIRED INT64 {} (TIMESTAMP(MILLIS,true))",
            Self::Integer(_) => "REQUIRED INT64 {}",
            Self::MaybeInteger(_) | Self::Used(_) => "OPTIONAL INT64 {}",
            Self::Thousandth(_) => "REQUIRED DOUBLE {}",
            Self::MaybeThousandth(_) => "OPTIONAL DOUBLE {}",
            Self::Flag(_) => "REQUIRED BOOLEAN {}",
        }
    }

    fn values(&self) -> Values {
        match self {
            Self::Id | Self::Text(_) | Self::MaybeText(_) | Self::Json(_) => Values::Texts(Vec::new(), Vec::new()),
            Self::Started | Self::Integer(_) | Self::MaybeInteger(_) | Self::Used(_) => Values::Integers(Vec::new()),
            Self::Thousandth(_) | Self::MaybeThousandth(_) => Values::Numbers(Vec::new()),
            Self::Flag(_) => Values::Flags(Vec::new()),
        }
    }
}

/// Rows, column by column.
pub(super) struct Columns {
    schema: TypePtr,
    columns: Vec<Column>,
    rows: usize,
    size: u64,
}

/// One column of the rows.
struct Column {
    values: Values,
    /// 1 where there is a value, 0 where there is none. Empty where there always is.
    levels: Vec<i16>,
}

enum Values {
    /// All texts one after the other, and where each ends.
    Texts(Vec<u8>, Vec<usize>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Flags(Vec<bool>),
}

impl Columns {
    /// No rows.
    pub(super) fn new() -> Self {
        let columns = COLUMNS.iter().map(|(_, read)| Column { values: read.values(), levels: Vec::new() }).collect();
        Self { schema: schema(), columns, rows: 0, size: 0 }
    }

    /// The schema of the file.
    pub(super) fn schema(&self) -> TypePtr {
        self.schema.clone()
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the rows, roughly.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a row.
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        for ((_, read), column) in COLUMNS.iter().zip(&mut self.columns) {
            self.size += column.push(read, entry) as u64;
        }
        self.rows += 1;
    }

    /// Writes all rows as a row group, and forgets them.
    pub(super) fn write(&mut self, writer: &mut SerializedFileWriter<File>) -> Result<()> {
        let mut group = writer.next_row_group()?;
        for column in &mut self.columns {
            if let Some(mut writer) = group.next_column()? {
                column.write(&mut writer)?;
                writer.close()?;
            }
        }
        group.close()?;
        (self.rows, self.size) = (0, 0);
        Ok(())
    }
}

impl Column {
    /// Adds the value of one row. Returns its bytes, roughly.
    fn push(&mut self, read: &Read, entry: &Entry<'_>) -> usize {
        match (read, &mut self.values) {
            (Read::Id, Values::Texts(texts, ends)) => {
                let id = uuid::Uuid::from_bytes(entry.id);
                push_text(texts, ends, id.hyphenated().encode_lower(&mut [0; 36]))
            }
            (Read::Text(read), Values::Texts(texts, ends)) => push_text(texts, ends, read(entry)),
            (Read::MaybeText(read), Values::Texts(texts, ends)) => {
                let text = read(entry);
                self.levels.push(text.is_some().into());
                text.map_or(0, |text| push_text(texts, ends, text))
            }
            (Read::Json(read), Values::Texts(texts, ends)) => {
                let start = texts.len();
                read(entry, texts);
                ends.push(texts.len());
                texts.len() - start + size_of::<usize>()
            }
            (Read::Started, Values::Integers(values)) => push(values, integer(entry.started_unix_ms)),
            (Read::Integer(read), Values::Integers(values)) => push(values, integer(read(entry))),
            (Read::MaybeInteger(read), Values::Integers(values)) => {
                push_optional(values, &mut self.levels, read(entry))
            }
            (Read::Used(read), Values::Integers(values)) => {
                push_optional(values, &mut self.levels, entry.usage.as_ref().and_then(read).map(integer))
            }
            (Read::Thousandth(read), Values::Numbers(values)) => push(values, thousandth(read(entry))),
            (Read::MaybeThousandth(read), Values::Numbers(values)) => {
                push_optional(values, &mut self.levels, read(entry).map(thousandth))
            }
            (Read::Flag(read), Values::Flags(values)) => push(values, read(entry)),
            // `Read::values` chose what fits.
            _ => 0,
        }
    }

    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let levels = std::mem::take(&mut self.levels);
        let levels = (!levels.is_empty()).then_some(levels.as_slice());
        match &mut self.values {
            Values::Texts(texts, ends) => {
                // One buffer that all values share.
                let texts = Bytes::from(std::mem::take(texts));
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let values: Vec<_> =
                    starts.zip(ends.iter()).map(|(start, end)| ByteArray::from(texts.slice(start..*end))).collect();
                ends.clear();
                writer.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
            }
            Values::Integers(values) => {
                writer.typed::<Int64Type>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Numbers(values) => {
                writer.typed::<DoubleType>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Flags(values) => {
                writer.typed::<BoolType>().write_batch(values, levels, None)?;
                values.clear();
            }
        }
        Ok(())
    }
}

fn push_text(texts: &mut Vec<u8>, ends: &mut Vec<usize>, text: &str) -> usize {
    texts.extend_from_slice(text.as_bytes());
    ends.push(texts.len());
    text.len() + size_of::<usize>()
}

fn push<T>(values: &mut Vec<T>, value: T) -> usize {
    values.push(value);
    size_of::<T>()
}

fn push_optional<T>(values: &mut Vec<T>, levels: &mut Vec<i16>, value: Option<T>) -> usize {
    levels.push(value.is_some().into());
    size_of::<i16>() + value.map_or(0, |value| push(values, value))
}

/// Parquet's whole numbers have a sign. What is larger than they are is no number anybody can use.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn thousandth(value: u64) -> f64 {
    value as f64 / 1000.0
}

fn schema() -> TypePtr {
    let mut text = "message record {".to_string();
    for (name, read) in &COLUMNS {
        // Writing to a String cannot fail.
        write!(text, "{};", read.schema().replace("{}", name)).ok();
    }
    text.push('}');
    Arc::new(parse_message_type(&text).expect("the schema is made of constants, and tests read it back"))
}
