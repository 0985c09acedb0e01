//! WebSocket workloads: what is said on a socket, both ends of it, and how many of them are made to talk, or not to.
//!
//! ```text
//! conversation  every message that is sent, made once
//! handshake     how a connection becomes a socket, on either end
//! frames        whole frames out of bytes, by their lengths
//! answering     the upstream's end
//! client        the caller's end
//! load          many clients: closed loop, fixed rate
//! run           one round of one workload
//! ```

pub(crate) mod answering;
mod client;
pub(crate) mod conversation;
pub(crate) mod frames;
pub(crate) mod handshake;
mod load;
pub(crate) mod run;
