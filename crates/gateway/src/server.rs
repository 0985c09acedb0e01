//! The side that clients connect to: workers, connections, TLS, and what is answered without an upstream.

pub mod connection;
pub(crate) mod guard;
mod head_scan;
pub mod local;
pub mod tls;
pub mod worker;
