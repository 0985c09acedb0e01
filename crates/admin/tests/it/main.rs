//! The admin API as its callers see it: paths and queries in, JSON and files out, over a SQLite ledger.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod exports;
mod ledger;
mod records;
mod statistics;
