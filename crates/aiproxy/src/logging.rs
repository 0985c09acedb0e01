//! Log lines on stderr: readable on a terminal, JSON elsewhere. The level can change while running.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Changes the log level.
#[derive(Clone)]
pub(crate) struct LogLevel(reload::Handle<LevelFilter, Registry>);

impl LogLevel {
    /// Sets the level of everything that is logged from now on.
    pub(crate) fn set(&self, level: &str) {
        // Fails only when the subscriber is gone, which lives as long as the process.
        self.0.reload(filter(level)).ok();
    }
}

/// Starts logging at `level`.
pub(crate) fn start(level: &str) -> LogLevel {
    let (level, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = if std::io::stderr().is_terminal() {
        lines.with_ansi(crate::output::colours()).compact().boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    // A second start in one process (a test) keeps the first subscriber.
    tracing_subscriber::registry().with(level).with(lines).try_init().ok();
    LogLevel(handle)
}

fn filter(level: &str) -> LevelFilter {
    level.parse().unwrap_or(LevelFilter::INFO)
}
