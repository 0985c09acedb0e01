//! What goes to the terminal: data to stdout, everything else to stderr, colour only where a person looks.

use std::io::{self, IsTerminal, Write};

/// Writes `text` and a newline to stdout.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

/// Writes a message to stderr. A closed stderr is nobody's problem.
pub(crate) fn note(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Writes an error to stderr.
pub(crate) fn error(text: &str) {
    let (red, reset) = if colours() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    note(&format!("{red}error:{reset} {text}"));
}

/// Whether stderr is a terminal whose owner has not asked for no colour (<https://no-color.org>).
pub(crate) fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
