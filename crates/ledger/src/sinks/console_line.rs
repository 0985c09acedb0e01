//! A record as one line for the eyes of a person at a terminal.

use std::borrow::Cow;
use std::fmt::Write;

use crate::entry::Entry;

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Appends the line, coloured: status, who, what, where, how long, how much.
pub(super) fn write(entry: &Entry<'_>, line: &mut String) {
    // Writing to a String cannot fail.
    try_write(entry, line).ok();
}

fn try_write(entry: &Entry<'_>, line: &mut String) -> std::fmt::Result {
    let color = match entry.status {
        200..=399 => GREEN,
        400..=499 => YELLOW,
        _ => RED,
    };
    let user = printable(entry.user_id.unwrap_or("-"));
    let model = printable(entry.model_asked.unwrap_or("-"));
    let channel = printable(entry.channel_id.unwrap_or("-"));
    let (status, method, path) = (entry.status, printable(entry.method), printable(entry.path));
    write!(line, "{color}{status:3}{RESET} {method:<4} {path}  {user} {DIM}→{RESET} {channel} {DIM}{model}{RESET}")?;
    write!(line, "  {} ms", entry.duration_us / 1000)?;
    if let Some(usage) = &entry.usage {
        let tokens = |number: Option<u64>| number.map_or_else(|| "-".to_string(), |number| number.to_string());
        write!(line, "  {} in {} out", tokens(usage.input), tokens(usage.output))?;
    }
    if let Some(code) = entry.error_code {
        write!(line, "  {RED}{}{RESET}", printable(code))?;
    }
    if entry.end != "complete" {
        write!(line, "  {YELLOW}{}{RESET}", printable(entry.end).replace('_', " "))?;
    }
    writeln!(line)
}

/// `text` without what could move a terminal's cursor.
fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use aiproxy_llm::usage::Usage;

    use super::*;

    #[test]
    fn a_line_says_who_asked_what_and_how_it_ended() {
        let entry = Entry {
            status: 200,
            method: "POST",
            path: "/v1/chat/completions",
            user_id: Some("alice"),
            channel_id: Some("openai"),
            model_asked: Some("gpt"),
            duration_us: 1_234_567,
            usage: Some(Usage { input: Some(10), ..Usage::default() }),
            end: "client_closed",
            ..Entry::default()
        };
        let mut line = String::new();
        write(&entry, &mut line);
        assert_eq!(
            line,
            "\x1b[32m200\x1b[0m POST /v1/chat/completions  alice \x1b[2m→\x1b[0m openai \x1b[2mgpt\x1b[0m  1234 ms  \
             10 in - out  \x1b[33mclient closed\x1b[0m\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_in_a_record_moves_the_cursor(text in "(?s).*") {
            let some = Some(text.as_str());
            let (method, path, end) = (text.as_str(), text.as_str(), text.as_str());
            let entry = Entry {
                method, path, end, user_id: some, model_asked: some, channel_id: some, error_code: some, ..Entry::default()
            };
            let mut line = String::new();
            write(&entry, &mut line);
            let colours = [DIM, RED, GREEN, YELLOW, RESET];
            let plain = colours.iter().fold(line.trim_end_matches('\n').to_string(), |line, colour| line.replace(colour, ""));
            proptest::prop_assert!(!plain.chars().any(char::is_control));
        }
    }
}
