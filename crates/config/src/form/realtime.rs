//! `system.websocket` and `system.realtime`: what holds for all sockets, and for calls by WebRTC.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Size, Span};

/// What holds for every WebSocket. How long one may be silent and how long it may last say the channel's `timeouts.idle`
/// and `timeouts.total`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Websocket")]
pub struct WebsocketForm {
    /// Largest message of a socket, in either direction, all its frames together; a larger one ends the socket with
    /// code 1009. Bytes, or e.g. `64MiB`, from 64 KiB to 1 GiB. Default 64 MiB.
    pub message_limit: Option<Size>,
}

/// Calls by WebRTC: the secrets that browsers begin them with, and how the gateway follows them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Realtime")]
pub struct RealtimeForm {
    /// Calls that one client secret (`ek_…`) may begin until it expires. 0: any number. Default 0.
    #[schemars(range(max = 1_000_000))]
    pub secret_max_calls: Option<u32>,
    /// Client secrets that are valid at once; beyond that no more are given out. Default 100,000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_secrets: Option<u32>,
    /// How long the gateway tries to attach its own socket to a call that has begun, from 1 s to 5 min. What the call
    /// uses is read from there. Default 10 s.
    pub attach_timeout: Option<Span>,
    /// What happens to a call that it cannot attach to within that time. Default `hang_up`.
    pub unattached: Option<UnattachedForm>,
}

/// What happens to a call that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", rename = "Unattached")]
pub enum UnattachedForm {
    /// It is ended, for nobody would know what it uses.
    HangUp,
    /// It goes on; its record says that it was not metered, and no quota, revocation or time limit ends it any more.
    Unmetered,
}
