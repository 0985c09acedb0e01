//! Why an attempt at an upstream did not give a response.

use std::fmt;
use std::io;

/// The phase whose deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name lookup, TCP, outbound proxy, TLS.
    Connect,
    /// From the last request byte to the first response byte.
    FirstByte,
    /// Between two reads.
    Idle,
    /// The whole call.
    Total,
}

impl Phase {
    /// The name used in messages and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first byte",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }
}

/// What went wrong, in words that decide about another attempt.
#[derive(Debug)]
pub enum Failure {
    /// The name has no address.
    Lookup(io::Error),
    /// No address accepted a connection.
    Refused(io::Error),
    /// The outbound proxy did not open the way.
    Proxy(String),
    /// The TLS handshake failed.
    Tls(io::Error),
    /// A deadline passed.
    Timeout(Phase),
    /// The connection ended before a whole response head came.
    Closed(Option<io::Error>),
    /// What came is not HTTP.
    Invalid(&'static str),
    /// The caller's body broke off, came too slowly or was too large.
    ClientBody(ClientBodyError),
}

/// What was wrong with the body the caller sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBodyError {
    /// It broke off or its framing was broken.
    Broken,
    /// Nothing came within the deadline.
    Timeout,
    /// It is larger than the limit.
    TooLarge,
}

/// A failed attempt.
#[derive(Debug)]
pub struct AttemptError {
    /// What went wrong.
    pub failure: Failure,
    /// Whether it is certain that the upstream saw nothing of the request, so that sending it again cannot bill twice.
    pub unsent: bool,
}

impl AttemptError {
    /// A failure before the first byte of the request was written.
    pub fn unsent(failure: Failure) -> Self {
        Self { failure, unsent: true }
    }

    /// A failure after which the upstream may have seen the request.
    pub fn ambiguous(failure: Failure) -> Self {
        Self { failure, unsent: false }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(error) => write!(formatter, "name lookup failed: {error}"),
            Self::Refused(error) => write!(formatter, "connect failed: {error}"),
            Self::Proxy(why) => write!(formatter, "outbound proxy: {why}"),
            Self::Tls(error) => write!(formatter, "TLS failed: {error}"),
            Self::Timeout(phase) => write!(formatter, "{} timeout", phase.as_str()),
            Self::Closed(Some(error)) => write!(formatter, "connection lost: {error}"),
            Self::Closed(None) => formatter.write_str("connection closed before a response"),
            Self::Invalid(why) => write!(formatter, "not a valid response: {why}"),
            Self::ClientBody(ClientBodyError::Broken) => formatter.write_str("request body broke off"),
            Self::ClientBody(ClientBodyError::Timeout) => formatter.write_str("request body came too slowly"),
            Self::ClientBody(ClientBodyError::TooLarge) => formatter.write_str("request body too large"),
        }
    }
}
