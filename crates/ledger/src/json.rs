//! A record as one line of JSON, and bodies as one: the form of the file, of the webhook and of what is set aside.
//!
//! Written by hand: every sink that speaks JSON does this once per call, and a general serialiser costs four times as
//! much (measured with `perf` under `make bench`). Names and order are those of the public contract. Tests read every
//! line back with `serde_json`.

use std::fmt::Write;

use aiproxy_llm::usage::Usage;
use serde::de::IgnoredAny;

use crate::entry::{Bodies, Body, Entry, EntryAttempt};

/// The last millisecond of the year 9999: RFC 3339 has no later one.
const LATEST_UNIX_MS: u64 = 253_402_300_799_999;

impl Entry<'_> {
    /// Appends the public record, and a newline.
    pub fn write_json(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"id\":\"");
        id(line, self.id);
        line.extend_from_slice(b"\",\"started_at\":\"");
        timestamp(line, self.started_unix_ms);
        line.extend_from_slice(b"\",\"duration_ms\":");
        thousandths(line, self.duration_us);
        line.extend_from_slice(b",\"first_byte_ms\":");
        optional(line, self.first_byte_us, thousandths);
        text(line, "user_id", self.user_id);
        text(line, "department", self.department.filter(|department| !department.is_empty()));
        if !self.groups.is_empty() {
            line.extend_from_slice(b",\"groups\":");
            groups(line, &self.groups);
        }
        text(line, "key_id", self.key_id);
        text(line, "relay_token_id", self.relay_token_id);
        text(line, "client_ip", Some(self.client_ip));
        text(line, "method", Some(self.method));
        text(line, "path", Some(self.path));
        text(line, "endpoint", Some(self.endpoint));
        text(line, "dialect", Some(self.dialect));
        text(line, "protocol", Some(self.protocol));
        text(line, "channel_id", self.channel_id);
        text(line, "credential_id", self.credential_id);
        text(line, "model_asked", self.model_asked);
        text(line, "model_served", self.model_served);
        line.extend_from_slice(b",\"attempts\":");
        attempts(line, &self.attempts);
        line.extend_from_slice(b",\"status\":");
        number(line, self.status.into());
        text(line, "error_code", self.error_code);
        text(line, "upstream_request_id", self.upstream_request_id);
        text(line, "end", Some(self.end));
        line.extend_from_slice(b",\"request_bytes\":");
        number(line, self.request_bytes);
        line.extend_from_slice(b",\"response_bytes\":");
        number(line, self.response_bytes);
        line.extend_from_slice(b",\"usage\":");
        match &self.usage {
            Some(used) => usage(line, used),
            None => line.extend_from_slice(b"null"),
        }
        text(line, "usage_source", Some(self.usage_source));
        if let Some(flaw) = self.usage_flaw {
            text(line, "usage_flaw", Some(flaw));
        }
        line.extend_from_slice(b",\"cost\":");
        match self.cost {
            Some(cost) => signed(line, cost),
            None => line.extend_from_slice(b"null"),
        }
        text(line, "price_version", self.price_version);
        text(line, "cache", Some(self.cache));
        line.extend_from_slice(b",\"counted\":");
        line.extend_from_slice(if self.counted { b"true" } else { b"false" });
        line.extend_from_slice(b"}\n");
    }
}

impl Bodies<'_> {
    /// Appends them as an object that says `"type":"bodies"`, and a newline.
    pub fn write_json(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"type\":\"bodies\",\"id\":\"");
        id(line, self.id);
        line.extend_from_slice(b"\",\"started_at\":\"");
        timestamp(line, self.started_unix_ms);
        line.extend_from_slice(b"\",\"request\":");
        body(line, self.request.as_ref());
        line.extend_from_slice(b",\"response\":");
        body(line, self.response.as_ref());
        line.extend_from_slice(b"}\n");
    }
}

fn body(line: &mut Vec<u8>, body: Option<&Body<'_>>) {
    let Some(body) = body else { return line.extend_from_slice(b"null") };
    line.push(b'{');
    bare_text(line, "content_type", Some(body.content_type));
    text(line, "form", Some(body.form));
    line.extend_from_slice(b",\"bytes\":");
    number(line, body.bytes);
    if let Some(cut) = body.cut {
        text(line, "cut", Some(cut));
    }
    if let Some(usage) = body.usage {
        line.extend_from_slice(b",\"usage\":");
        embedded(line, usage);
    }
    text(line, "content", Some(body.content));
    line.push(b'}');
}

/// JSON within JSON. What is not JSON after all becomes a string, so that the line stays readable.
fn embedded(line: &mut Vec<u8>, json: &str) {
    if serde_json::from_str::<IgnoredAny>(json).is_err() {
        return quoted(line, json);
    }
    // Outside of strings a line break is white space, and inside of them it cannot be.
    line.extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}

/// Every try, as an array.
pub(crate) fn attempts(line: &mut Vec<u8>, attempts: &[EntryAttempt<'_>]) {
    line.push(b'[');
    for (index, tried) in attempts.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        attempt(line, tried);
    }
    line.push(b']');
}

fn attempt(line: &mut Vec<u8>, attempt: &EntryAttempt<'_>) {
    line.push(b'{');
    bare_text(line, "channel_id", Some(attempt.channel_id));
    text(line, "credential_id", Some(attempt.credential_id));
    line.extend_from_slice(b",\"status\":");
    optional(line, attempt.status.map(u64::from), number);
    line.extend_from_slice(b",\"ms\":");
    number(line, attempt.ms);
    if let Some(why) = attempt.why {
        text(line, "why", Some(why));
    }
    if let Some(used) = &attempt.usage {
        line.extend_from_slice(b",\"usage\":");
        usage(line, used);
    }
    if let Some(cost) = attempt.cost {
        line.extend_from_slice(b",\"cost\":");
        signed(line, cost);
    }
    line.push(b'}');
}

/// The user's groups, as an array.
pub(crate) fn groups(line: &mut Vec<u8>, groups: &[&str]) {
    line.push(b'[');
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        quoted(line, group);
    }
    line.push(b']');
}

fn usage(line: &mut Vec<u8>, usage: &Usage) {
    line.push(b'{');
    let start = line.len();
    for (name, value) in usage.fields() {
        let Some(value) = value else { continue };
        if line.len() > start {
            line.push(b',');
        }
        line.push(b'"');
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(b"\":");
        number(line, value);
    }
    if let Some(milliseconds) = usage.seconds_ms {
        if line.len() > start {
            line.push(b',');
        }
        line.extend_from_slice(b"\"seconds\":");
        thousandths(line, milliseconds);
    }
    line.push(b'}');
}

fn id(line: &mut Vec<u8>, id: [u8; 16]) {
    line.extend_from_slice(uuid::Uuid::from_bytes(id).hyphenated().encode_lower(&mut [0; 36]).as_bytes());
}

/// `,"name":"value"` or `,"name":null`.
fn text(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    line.push(b',');
    bare_text(line, name, value);
}

fn bare_text(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    line.push(b'"');
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
    match value {
        None => line.extend_from_slice(b"null"),
        Some(value) => quoted(line, value),
    }
}

/// A JSON string (RFC 8259 §7).
fn quoted(line: &mut Vec<u8>, value: &str) {
    line.push(b'"');
    let mut written = 0;
    for (index, byte) in value.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        line.extend_from_slice(&value.as_bytes()[written..index]);
        written = index + 1;
        match byte {
            b'"' => line.extend_from_slice(b"\\\""),
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            _ => display(line, format_args!("\\u{byte:04x}")),
        }
    }
    line.extend_from_slice(&value.as_bytes()[written..]);
    line.push(b'"');
}

fn optional(line: &mut Vec<u8>, value: Option<u64>, write: fn(&mut Vec<u8>, u64)) {
    match value {
        Some(value) => write(line, value),
        None => line.extend_from_slice(b"null"),
    }
}

/// Decimal digits.
fn number(line: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = value;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return line.extend_from_slice(&digits[start..]);
        }
    }
}

fn signed(line: &mut Vec<u8>, value: i64) {
    if value < 0 {
        line.push(b'-');
    }
    number(line, value.unsigned_abs());
}

/// `width` digits with leading zeros.
fn padded(line: &mut Vec<u8>, value: u64, width: u32) {
    for position in (0..width).rev() {
        line.push(b'0' + (value / 10u64.pow(position) % 10) as u8);
    }
}

/// A thousandth of `value` with three decimals: microseconds as milliseconds, milliseconds as seconds.
fn thousandths(line: &mut Vec<u8>, value: u64) {
    number(line, value / 1000);
    line.push(b'.');
    padded(line, value % 1000, 3);
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(line: &mut Vec<u8>, unix_ms: u64) {
    let unix_ms = unix_ms.min(LATEST_UNIX_MS);
    let ms = unix_ms % 86_400_000;
    date(line, unix_ms);
    line.push(b'T');
    padded(line, ms / 3_600_000, 2);
    line.push(b':');
    padded(line, ms / 60_000 % 60, 2);
    line.push(b':');
    padded(line, ms / 1000 % 60, 2);
    line.push(b'.');
    padded(line, ms % 1000, 3);
    line.push(b'Z');
}

/// The day in UTC: `2026-11-21`. A time after the year 9999 counts as its last day.
pub(crate) fn date(line: &mut Vec<u8>, unix_ms: u64) {
    let (year, month, day) = civil(unix_ms.min(LATEST_UNIX_MS) / 86_400_000);
    padded(line, year, 4);
    line.push(b'-');
    padded(line, month, 2);
    line.push(b'-');
    padded(line, day, 2);
}

/// Year, month and day of the Gregorian calendar for days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level
/// date algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn display(line: &mut Vec<u8>, value: impl std::fmt::Display) {
    struct Bytes<'line>(&'line mut Vec<u8>);
    impl Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Writing to a Vec cannot fail.
    write!(Bytes(line), "{value}").ok();
}

#[cfg(test)]
mod tests;
