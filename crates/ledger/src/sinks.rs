//! The sinks that are files, a terminal or a receiver of HTTP. Databases are in the store crate.
//!
//! | sink | each record | remembers where it is |
//! |---|---|---|
//! | [`console`] | once, twice where the process was killed in between | cursor file |
//! | [`mod@file`] | exactly once | cursor file with the length of the file; ids of lines beyond it |
//! | [`webhook`] | at least once, with its id | cursor file |
//! | [`parquet`] | exactly once | cursor file, which names the finished files |

pub mod console;
mod console_line;
pub mod file;
pub mod parquet;
pub mod tally;
#[cfg(test)]
pub(crate) mod testing;
pub mod webhook;

pub use console::{ConsoleForm, ConsoleSink};
pub use file::{FileOptions, FileSink};
pub use parquet::{Destination, ParquetOptions, ParquetSink};
pub use webhook::{WebhookOptions, WebhookSink};
