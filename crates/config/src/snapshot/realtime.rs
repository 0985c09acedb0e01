//! What holds for all sockets, and for calls by WebRTC: `system.websocket`, `system.realtime`.

use std::time::Duration;

/// What holds for every WebSocket: `system.websocket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocket {
    /// Largest message in bytes, in either direction, all its frames together; from 64 KiB to 1 GiB. Default 64 MiB.
    pub message_limit: u64,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { message_limit: 64 << 20 }
    }
}

/// Calls by WebRTC: `system.realtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Realtime {
    /// Calls that one client secret may begin. 0, the default: any number.
    pub secret_max_calls: u32,
    /// Client secrets that are valid at once; at least 1. Default 100,000.
    pub max_secrets: usize,
    /// How long the gateway tries to attach its own socket to a call; from 1 s to 5 min. Default 10 s.
    pub attach_timeout: Duration,
    /// What happens to a call that it cannot attach to within that time. Default [`Unattached::HangUp`].
    pub unattached: Unattached,
}

impl Default for Realtime {
    fn default() -> Self {
        Self {
            secret_max_calls: 0,
            max_secrets: 100_000,
            attach_timeout: Duration::from_secs(10),
            unattached: Unattached::default(),
        }
    }
}

/// What happens to a call whose use nobody can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unattached {
    /// It is ended.
    #[default]
    HangUp,
    /// It goes on, and nothing here ends it any more. `usage_flaw` of its record is `unmetered`.
    Unmetered,
}
