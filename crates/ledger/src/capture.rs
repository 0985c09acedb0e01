//! Bodies of calls on their way to the journal, where `capture` is on: taken as they went over the wire, stored as a
//! person can read them and without secrets.
//!
//! ```text
//! data path ── Captured ──▶ queue (bounded) ──▶ one thread: decode, tell text from binary, merge event streams,
//!                                               redact ──▶ journal
//! ```
//!
//! What does not fit the queue is dropped and counted: bodies are an aid, and no call waits for them. It knows nothing
//! of which calls are captured; that is decided where they are served.

mod coding;
mod keeper;
mod multipart;
mod readable;
mod redact;
mod section;
mod stream;
#[cfg(test)]
mod tests;

use aiproxy_core::Secret;

pub use keeper::{BodyKeeper, BodyQueue};

/// The bodies of one finished call, as they went over the wire.
#[derive(Debug, Default)]
pub struct Captured {
    /// Id of the call's record.
    pub id: [u8; 16],
    /// When the call began, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// What the client sent; `None` if that is not stored, or was empty.
    pub request: Option<RawBody>,
    /// What the client got; `None` if that is not stored, or was empty.
    pub response: Option<RawBody>,
    /// What must not be stored, in whichever form it stands in the bodies: the caller's proxy key and the real keys
    /// that the call was tried with.
    pub secrets: Vec<Secret>,
}

/// The beginning of one body, still in its content coding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawBody {
    /// `Content-Type`, parameters included; empty if there was none.
    pub content_type: Box<str>,
    /// `Content-Encoding`, several of them joined by commas; empty if there was none.
    pub content_encoding: Box<str>,
    /// The bytes that were kept.
    pub bytes: Vec<u8>,
    /// How many there were.
    pub length: u64,
    /// `max_size` of the rule the call is captured by, in bytes.
    pub max_bytes: u64,
}

impl RawBody {
    /// Whether there was more than was kept.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.length > self.bytes.len() as u64
    }
}

impl Captured {
    /// Bytes it takes in memory, about.
    fn size(&self) -> usize {
        let of = |body: &Option<RawBody>| body.as_ref().map_or(0, |body| body.bytes.capacity());
        of(&self.request) + of(&self.response)
    }
}
