//! The data plane: from an accepted connection to a closed record.
//!
//! Read `flow.rs` first. Decisions (route, permit, paths, headers) are pure functions; the only IO is in [`upstream`]
//! and [`server`]. This crate names no table and reads no file but TLS certificates.

mod attempt;
mod client_address;
mod client_body;
mod credential;
pub mod egress;
mod flow;
mod headers;
mod metering;
mod permit;
pub mod record;
pub mod refusal;
mod request_body;
mod request_head;
mod route;
pub mod server;
pub mod state;
#[cfg(test)]
mod test_config;
pub mod timer;
pub mod upstream;
mod upstream_path;
