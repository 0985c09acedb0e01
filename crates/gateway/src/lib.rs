//! The data plane: from an accepted connection to a closed record.
//!
//! Read `flow.rs` first. Decisions (route, permit, paths, headers) are pure functions; the only IO is in [`upstream`]
//! and [`server`]. This crate names no table and reads no file but TLS certificates.

mod admission;
mod answer;
mod asked;
mod attempt;
mod calls;
mod capture;
mod channel_status;
mod client_address;
mod client_body;
mod credential;
mod drain;
pub mod egress;
mod failover;
mod flow;
mod headers;
mod health;
pub mod limits;
pub mod measure;
pub mod measures;
mod metering;
mod model_list;
mod outgoing;
mod permit;
mod plan;
pub mod probe;
pub mod quota;
pub mod record;
pub mod refusal;
mod request_body;
mod request_head;
mod respond;
mod retry_budget;
mod route;
pub mod server;
pub mod serving;
mod sessions;
mod share;
pub mod state;
#[cfg(test)]
mod test_config;
pub mod timer;
mod tunnel;
pub mod upstream;
mod upstream_path;
mod verdict;
mod works;
