//! Words every other crate shares: secrets, record ids, the time source, tracked tasks.
//!
//! This crate knows nothing of HTTP, of AI dialects or of configuration. It is the only one that reads the clock.

pub mod id;
pub mod secret;
pub mod tasks;
pub mod time;

pub use secret::Secret;
