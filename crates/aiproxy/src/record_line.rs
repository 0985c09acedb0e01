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
    // Writing to a String cannot fail.
    try_write(record, line).ok();
}

fn try_write(record: &Record, line: &mut String) -> std::fmt::Result {
    let color = match record.status {
        200..=399 => GREEN,
        400..=499 => YELLOW,
        _ => RED,
    };
    let user = printable(record.user().map_or("-", |user| &user.id));
    let model = printable(record.model_asked.as_deref().unwrap_or("-"));
    let channel = printable(record.channel_id().unwrap_or("-"));
    let (status, method, path) = (record.status, &record.method, printable(&record.path));
    write!(line, "{color}{status:3}{RESET} {method:<4} {path}  {user} {DIM}→{RESET} {channel} {DIM}{model}{RESET}")?;
    write!(line, "  {} ms", record.duration_us() / 1000)?;
    if let Some(usage) = &record.usage {
        let tokens = |number: Option<u64>| number.map_or_else(|| "-".to_string(), |number| number.to_string());
        write!(line, "  {} in {} out", tokens(usage.input), tokens(usage.output))?;
    }
    if let Some(code) = record.error_code {
        write!(line, "  {RED}{code}{RESET}")?;
    }
    let end = match record.end {
        End::Complete => None,
        End::ClientClosed => Some("client closed"),
        End::UpstreamError => Some("upstream error"),
        End::Timeout => Some("timeout"),
        End::Shutdown => Some("shutdown"),
    };
    if let Some(end) = end {
        write!(line, "  {YELLOW}{end}{RESET}")?;
    }
    writeln!(line)
}

/// `text` without what could move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}
