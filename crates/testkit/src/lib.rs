//! Test support: a scripted upstream, a gateway in memory, WebSockets on both sides of it, certificates.
//!
//! Everything runs over in-memory streams, so a test may pause time: nothing here sleeps for real. Failures of the
//! support itself panic, as an assertion would.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this crate is used by tests only")]

pub mod certificate;
mod following;
pub mod frame;
pub mod gateway;
pub mod reply;
pub mod script;
pub mod socket;
mod stream;

pub use frame::Frame;
pub use gateway::{Client, TestGateway};
pub use reply::Reply;
pub use script::{Step, Upstream};
pub use socket::Socket;
