//! Config files to a validated [`Snapshot`](snapshot::Snapshot): every problem at once, each with its position.
//!
//! ```text
//! text ─ parse ─ tree with positions ─ schema_check ─ form ─ compile ─ snapshot
//! ```
//!
//! Nothing here reads the environment or the clock: both are handed in. Only [`load()`] touches files.

mod compile;
mod context;
pub mod form;
mod load;
mod lookup;
mod merge;
mod not_enforced;
mod parse;
mod problem;
mod read;
mod schema;
mod schema_check;
pub mod snapshot;
mod suggest;
mod tree;
mod url;

pub use context::Environment;
pub use load::{Loaded, digest_of, load, load_text};
pub use lookup::{glob_match, key_digest};
pub use problem::{Problem, Severity};
pub use schema::{json_schema, json_schema_text};
