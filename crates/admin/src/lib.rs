//! The control plane's answers: statistics, records and exports from the ledger, and `/stats` from memory.
//!
//! ```text
//! request (authenticated by whoever asks) ─ parameters ─ store::query ─ json | csv | xlsx ─▶ answer
//! ```
//!
//! It never touches a live call: what it tells of this process comes through [`Live`], all else from the database. It
//! checks no credential and sets no CORS header.

mod admin;
mod answer;
mod export;
mod json;
mod live;
pub mod metrics;
mod parameters;
mod records;
mod statistics;
mod stats;

pub use admin::{Admin, Paths};
pub use answer::AdminBody;
pub use live::{About, Channel, Live, User};
pub use stats::stats;
