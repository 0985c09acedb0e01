//! The ledger: every finished call once, in a local journal, and from there in every sink.
//!
//! ```text
//! workers ── append ──▶ journal (segments on disk; in memory while the disk is full)
//!                          │ each sink reads behind it with a cursor of its own
//!                          ├─▶ console, file, webhook, Parquet         this crate
//!                          ├─▶ SQL                                     the store crate
//!                          └─▶ tally: quotas, statistics, metrics      this crate
//! ```
//!
//! A call's entry is in the journal before its last byte is sent on. A sink takes a batch and remembers where it was
//! together with it, or takes nothing; so what it has is each entry exactly once, whatever ends the process.
//!
//! It knows nothing of HTTP, of how calls are served, or of tables.

pub mod batch;
pub mod capture;
pub mod cursor_file;
pub mod entry;
pub mod frame;
pub mod journal;
mod json;
pub mod live;
pub mod open_calls;
pub mod position;
pub mod reader;
pub mod runner;
pub mod sink;
pub mod sinks;
pub mod tally;

pub use batch::{Batch, Item};
pub use entry::{Bodies, Body, Entry, EntryAttempt};
pub use position::Position;
pub use sink::{Sink, SinkError};
