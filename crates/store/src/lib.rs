//! The ledger in SQL: every record, the sums made of them, and how far the journal has been read, in SQLite,
//! PostgreSQL, MySQL or MariaDB.
//!
//! ```text
//! journal ─▶ SqlSink ─▶ series, records, bodies      one transaction per batch:
//!                       rollups, rollup_latency      all of it, or nothing
//!                       cursors
//! ```
//!
//! The tables are in `migrations/`, in SQL that people can read; they have the same names and columns everywhere. A
//! record that is priced or deleted later is changed here too, together with the sums. What is read for statistics and
//! pages is `query`. It knows nothing of HTTP or of how calls are served.

pub mod bins;
mod buckets;
mod connect;
mod connection;
mod error;
mod ids;
mod migrate;
mod options;
pub mod query;
mod record_rows;
pub mod reprice;
pub mod retention;
mod rollup;
mod rows;
mod series;
mod sink;
mod store;
pub mod tallies;
mod text;

pub use buckets::Granularity;
pub use error::{StoreError, StoreErrorKind};
pub use ids::{id_floor, id_unix_ms};
pub use migrate::SCHEMA_VERSION;
pub use options::Options;
pub use sink::{Limits, SINK, SqlSink};
pub use store::{Pools, Store};
