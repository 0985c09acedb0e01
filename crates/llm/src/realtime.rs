//! What is said on realtime sockets: which messages of a client name a model, which of an upstream tell what was used,
//! and how an error is put so that the SDK on the other side recognises it. Everything here is a pure function of the
//! messages' bytes, in any pieces. It knows no frames, decides no policy and keeps no more of a message than it must.
//!
//! - [`ClientReader`] says of each client message whether it may name a model and so must be held back.
//! - [`read_client_message`] says which models a held message names and where; [`rename`] replaces them.
//! - [`SessionMeter`] reads what the upstream says, and sums up what it reports as used.
//! - [`error_messages`] writes the gateway's own errors.

mod client;
mod errors;
mod meter;
mod protocol;
mod read;
mod rename;

pub use client::{ClientReader, Stance};
pub use errors::error_messages;
pub use meter::{ModelUsage, SessionMeter};
pub use protocol::Protocol;
pub use read::{ClientMessage, ModelRole, NamedModel, Unreadable, Work, read_client_message};
pub use rename::rename;

use crate::json_scan::{Captures, decode_string};

/// A longer name, in bytes, is no model's; [`crate::models`] leaves it out of lists, too.
const LONGEST_NAME: usize = 512;

/// Ids of tasks and responses are kept up to this length in bytes. The longest known are below 64.
const LONGEST_ID: usize = 256;

/// The name that was captured at `index`, if there is one that can be a model's.
fn name_at(captures: &Captures, index: usize) -> Option<String> {
    decode_string(captures.raw(index)?).filter(|name| (1..=LONGEST_NAME).contains(&name.len()))
}

/// The id that was captured at `index`; one that is too long is cut.
fn id_at(captures: &Captures, index: usize) -> Option<String> {
    let mut id = decode_string(captures.raw(index)?).filter(|id| !id.is_empty())?;
    id.truncate(id.floor_char_boundary(LONGEST_ID));
    Some(id)
}

#[cfg(test)]
mod tests;
