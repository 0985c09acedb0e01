//! Test support: a scripted upstream, a gateway in memory, certificates.
//!
//! Everything runs over in-memory streams, so a test may pause time: nothing here sleeps for real. Failures of the
//! support itself panic, as an assertion would.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this crate is used by tests only")]

pub mod certificate;
mod following;
pub mod gateway;
pub mod reply;
pub mod script;
mod stream;

pub use gateway::{Client, TestGateway};
pub use reply::Reply;
pub use script::{Step, Upstream};
