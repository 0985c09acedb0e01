//! Wire knowledge of the AI dialects: what the official SDKs send, what the providers answer, and what either means for
//! routing, metering, prices and errors. Everything here is a pure function of bytes. The crate knows no sockets, no
//! clock and no config; it never panics on any input, and what it keeps of a stream is bounded.

pub mod dialect;
pub mod error;
pub mod estimate;
#[doc(hidden)]
pub mod fuzzing;
pub mod json_scan;
pub mod meter;
pub mod models;
pub mod peek;
pub mod prices;
pub mod realtime;
pub mod sse;
pub mod usage;
pub mod websocket;
pub mod work;
