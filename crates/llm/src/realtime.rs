//! What is said on realtime sockets: which messages of a client name a model, which of an upstream tell what was used,
//! and how an error is put so that the SDK on the other side recognises it. Everything here is a pure function of the
//! messages' bytes, in any pieces. It knows no frames, decides no policy and keeps no more of a message than it must.
//!
//! - [`ClientReader`] says of each client message whether it may name a model and so must be held back.
//! - [`read_client_message`] says which models a held message names and where; [`rename()`] replaces them.
//! - [`SessionMeter`] reads what the upstream says, and sums up what it reports as used.
//! - [`error_messages`] writes the gateway's own errors.

mod client;
mod errors;
mod message;
mod meter;
mod protocol;
mod read;
mod rename;
mod values;

pub use client::{ClientReader, Stance};
pub use errors::error_messages;
pub use message::{ClientMessage, ModelRole, NamedModel, Unreadable, Work};
pub use meter::{ModelUsage, SessionMeter};
pub use protocol::Protocol;
pub use read::read_client_message;
pub use rename::rename;

#[cfg(test)]
mod tests;
