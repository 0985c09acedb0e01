//! A record as one line of JSON.
//!
//! Written by hand: this runs once per call on the data path, and a general serialiser costs four times as much
//! (measured with `perf` under `make bench`). Names and order are those of the public contract. A test reads every
//! line back with `serde_json`.

use std::fmt::Write;

use aiproxy_llm::usage::UsageSource;

use super::{Attempt, End, Record};

/// Appends `record` to `line`.
pub(super) fn write(record: &Record, line: &mut Vec<u8>) {
    let user = record.user();
    line.extend_from_slice(b"{\"id\":\"");
    line.extend_from_slice(record.id.encode(&mut [0; 36]).as_bytes());
    line.extend_from_slice(b"\",\"started_at\":\"");
    timestamp(line, record.started_unix_ms);
    line.extend_from_slice(b"\",\"duration_ms\":");
    milliseconds(line, record.duration_us());
    line.extend_from_slice(b",\"first_byte_ms\":");
    optional(line, record.first_byte_us(), milliseconds);
    text(line, "user_id", user.map(|user| &*user.id));
    text(line, "department", user.map(|user| &*user.department).filter(|department| !department.is_empty()));
    text(line, "key_id", record.key.as_deref().map(|key| &*key.id));
    text(line, "relay_token_id", None);
    line.extend_from_slice(b",\"client_ip\":\"");
    display(line, record.client_ip);
    line.push(b'"');
    text(line, "method", Some(record.method.as_str()));
    text(line, "path", Some(&record.path));
    text(line, "endpoint", Some(record.endpoint));
    text(line, "dialect", Some(record.dialect.as_str()));
    text(line, "protocol", Some(record.protocol));
    text(line, "channel_id", record.channel_id());
    text(line, "credential_id", record.credential_id());
    text(line, "model_asked", record.model_asked.as_deref());
    text(line, "model_served", record.model_served());
    line.extend_from_slice(b",\"attempts\":[");
    for (index, tried) in record.attempts.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        attempt(line, record, tried);
    }
    line.extend_from_slice(b"],\"status\":");
    number(line, record.status.into());
    text(line, "error_code", record.error_code);
    text(line, "upstream_request_id", record.upstream_request_id.as_deref());
    text(line, "end", Some(end(record.end)));
    line.extend_from_slice(b",\"request_bytes\":");
    number(line, record.request_bytes);
    line.extend_from_slice(b",\"response_bytes\":");
    number(line, record.response_bytes);
    line.extend_from_slice(b",\"usage\":");
    usage(line, record);
    text(line, "usage_source", Some(source(record.usage_source)));
    line.extend_from_slice(b",\"cost\":null,\"cache\":\"off\"}\n");
}

fn attempt(line: &mut Vec<u8>, record: &Record, attempt: &Attempt) {
    line.push(b'{');
    let (channel, credential) = record.place(attempt.place);
    bare_text(line, "channel_id", Some(channel));
    text(line, "credential_id", Some(credential));
    line.extend_from_slice(b",\"status\":");
    optional(line, attempt.status.map(u64::from), number);
    line.extend_from_slice(b",\"ms\":");
    number(line, attempt.ms);
    if let Some(why) = &attempt.why {
        text(line, "why", Some(why));
    }
    line.push(b'}');
}

fn usage(line: &mut Vec<u8>, record: &Record) {
    let Some(usage) = &record.usage else { return line.extend_from_slice(b"null") };
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

fn end(end: End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::ClientClosed => "client_closed",
        End::UpstreamError => "upstream_error",
        End::Timeout => "timeout",
        End::Shutdown => "shutdown",
    }
}

fn source(source: UsageSource) -> &'static str {
    match source {
        UsageSource::Provider => "provider",
        UsageSource::Estimated => "estimated",
        UsageSource::None => "none",
    }
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

/// `width` digits with leading zeros.
fn padded(line: &mut Vec<u8>, value: u64, width: u32) {
    for position in (0..width).rev() {
        line.push(b'0' + (value / 10u64.pow(position) % 10) as u8);
    }
}

/// Microseconds as milliseconds with three decimals.
fn milliseconds(line: &mut Vec<u8>, microseconds: u64) {
    thousandths(line, microseconds);
}

fn thousandths(line: &mut Vec<u8>, value: u64) {
    number(line, value / 1000);
    line.push(b'.');
    padded(line, value % 1000, 3);
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(line: &mut Vec<u8>, unix_ms: u64) {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    padded(line, year, 4);
    line.push(b'-');
    padded(line, month, 2);
    line.push(b'-');
    padded(line, day, 2);
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
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for unix_ms in [0, 951_782_400_000, 1_709_164_799_999, 1_795_244_712_034, 4_102_444_800_000] {
            let expected = jiff::Timestamp::from_millisecond(unix_ms as i64).unwrap();
            let parsed: jiff::Timestamp = written(|line| timestamp(line, unix_ms)).parse().unwrap();
            assert_eq!(parsed, expected);
        }
        assert_eq!(written(|line| timestamp(line, 1_795_244_712_034)), "2026-11-21T07:05:12.034Z");
    }

    #[test]
    fn numbers_keep_their_zeros() {
        assert_eq!(written(|line| milliseconds(line, 12_034)), "12.034");
        assert_eq!(written(|line| milliseconds(line, 7)), "0.007");
        assert_eq!(written(|line| number(line, 0)), "0");
        assert_eq!(written(|line| number(line, u64::MAX)), u64::MAX.to_string());
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_back(value in ".*") {
            let line = written(|line| quoted(line, &value));
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), value);
        }
    }
}
