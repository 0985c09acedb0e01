//! A record as one line for the eyes of a person at a terminal.

use std::fmt::Write;

use aiproxy_gateway::record::{End, Record};

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Appends the line, coloured: status, who, what, where, how long, how much.
pub(crate) fn write(record: &Record, line: &mut String) {
    let color = match record.status {
        200..=399 => GREEN,
        400..=499 => YELLOW,
        _ => RED,
    };
    let user = record.user.as_deref().map_or("-", |user| &user.id);
    let model = record.model_asked.as_deref().unwrap_or("-");
    let channel = record.channel_id.as_deref().unwrap_or("-");
    // Writing to a String cannot fail.
    let _: Result<(), std::fmt::Error> = write!(
        line,
        "{color}{status:3}{RESET} {method:<4} {path}  {user} {DIM}→{RESET} {channel} {DIM}{model}{RESET}  {duration:.0} ms",
        status = record.status,
        method = record.method,
        path = printable(&record.path),
        user = printable(user),
        channel = printable(channel),
        model = printable(model),
        duration = record.duration_ms(),
    );
    if let Some(usage) = &record.usage {
        let tokens = |number: Option<u64>| number.map_or_else(|| "-".to_string(), |number| number.to_string());
        let _: Result<(), std::fmt::Error> =
            write!(line, "  {} in {} out", tokens(usage.input), tokens(usage.output));
    }
    if let Some(code) = record.error_code {
        let _: Result<(), std::fmt::Error> = write!(line, "  {RED}{code}{RESET}");
    }
    if record.end != End::Complete {
        let end = match record.end {
            End::Complete => "",
            End::ClientClosed => "client closed",
            End::UpstreamError => "upstream error",
            End::Timeout => "timeout",
            End::Shutdown => "shutdown",
        };
        let _: Result<(), std::fmt::Error> = write!(line, "  {YELLOW}{end}{RESET}");
    }
    line.push('\n');
}

/// `text` without what could move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}
