//! What the journal holds: the record of one call as plain data, and the bodies of one call where they are kept.
//!
//! The journal's form is compact (postcard, a varint coding of serde's data model), not JSON: it is written once per
//! call on the data path and read by every sink. A sink that wants JSON has [`Entry::write_json`].

use aiproxy_llm::usage::Usage;
use serde::{Deserialize, Serialize};

/// The record of one finished call. Field names are those of the public record; times and sizes have their unit in
/// the name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// UUID version 7; unique, and ordered by the time the call began.
    pub id: [u8; 16],
    /// When the call began, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// From the request's head to the end of the call, in microseconds.
    pub duration_us: u64,
    /// From the request's head to the upstream's first byte, in microseconds.
    pub first_byte_us: Option<u64>,
    /// The user, once known.
    pub user_id: Option<&'a str>,
    /// The user's department.
    pub department: Option<&'a str>,
    /// The user's groups.
    #[serde(borrow)]
    pub groups: Vec<&'a str>,
    /// Id of the proxy key; never the key.
    pub key_id: Option<&'a str>,
    /// Id of the relay token, where one was used.
    pub relay_token_id: Option<&'a str>,
    /// Address of the caller, as text.
    pub client_ip: &'a str,
    /// Request method.
    pub method: &'a str,
    /// Request path without the query.
    pub path: &'a str,
    /// Normalised path.
    pub endpoint: &'a str,
    /// API spoken.
    pub dialect: &'a str,
    /// `http`, `sse`, `websocket` or `webrtc`.
    pub protocol: &'a str,
    /// Channel used last.
    pub channel_id: Option<&'a str>,
    /// Credential used last.
    pub credential_id: Option<&'a str>,
    /// Model in the request.
    pub model_asked: Option<&'a str>,
    /// Model that served the call.
    pub model_served: Option<&'a str>,
    /// Every try, in order.
    pub attempts: Vec<EntryAttempt<'a>>,
    /// Status sent to the client; 499 if it left before one was sent.
    pub status: u16,
    /// Machine code of an error made by the gateway.
    pub error_code: Option<&'a str>,
    /// The upstream's own id of the request.
    pub upstream_request_id: Option<&'a str>,
    /// `complete`, `client_closed`, `upstream_error`, `timeout` or `shutdown`.
    pub end: &'a str,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// What was used.
    #[serde(with = "usage_numbers")]
    pub usage: Option<Usage>,
    /// `provider`, `estimated` or `none`.
    pub usage_source: &'a str,
    /// Why a number of the provider's was refused, if one was.
    pub usage_flaw: Option<&'a str>,
    /// Cost of all attempts together, in micro-units of the base currency; `None` while it is unknown.
    pub cost: Option<i64>,
    /// Which prices made `cost`; `unpriced` where a price is missing. `None` where there was nothing to price.
    pub price_version: Option<&'a str>,
    /// `hit`, `miss` or `off`.
    pub cache: &'a str,
    /// Whether the call counts as a request of its quotas: it was not refused.
    pub counted: bool,
}

/// One try at one upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EntryAttempt<'a> {
    /// Channel tried.
    pub channel_id: &'a str,
    /// Credential tried.
    pub credential_id: &'a str,
    /// Status answered, if any.
    pub status: Option<u16>,
    /// How long it took to the response head or to the failure, in milliseconds.
    pub ms: u64,
    /// Why it failed; absent where it did not.
    pub why: Option<&'a str>,
    /// What it used although it failed.
    #[serde(with = "usage_numbers")]
    pub usage: Option<Usage>,
    /// What that cost, in micro-units; part of the entry's cost.
    pub cost: Option<i64>,
}

/// The price version of a call whose price is not known.
pub const UNPRICED: &str = "unpriced";

impl Entry<'_> {
    /// Whether it used something that has no price yet.
    #[must_use]
    pub fn is_unpriced(&self) -> bool {
        self.price_version == Some(UNPRICED)
    }

    /// Whether it lasted as long as its caller liked: a WebSocket or a call by WebRTC. How long that was is no response
    /// time, and so is in no average or percentile of those.
    #[must_use]
    pub fn is_session(&self) -> bool {
        matches!(self.protocol, "websocket" | "webrtc")
    }

    /// The id as text.
    #[must_use]
    pub fn id_text(&self) -> String {
        uuid::Uuid::from_bytes(self.id).hyphenated().to_string()
    }

    /// Appends the journal's form.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        // Into a Vec, of a type without maps or sequences of unknown length, nothing can fail.
        if let Err(error) = postcard::to_io(self, bytes) {
            tracing::error!(%error, "an entry cannot be encoded");
        }
    }
}

impl<'a> Entry<'a> {
    /// Reads the journal's form.
    ///
    /// # Errors
    /// `bytes` is not an entry.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}

/// The bodies of one call, redacted and made readable: what is kept where `capture` is on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bodies<'a> {
    /// Id of the call's record.
    pub id: [u8; 16],
    /// When the call began, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// What the client sent.
    #[serde(borrow)]
    pub request: Option<Body<'a>>,
    /// What the client got.
    pub response: Option<Body<'a>>,
}

/// One body as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body<'a> {
    /// Content type as it was sent, without parameters.
    pub content_type: &'a str,
    /// `text`; `base64` for binary; `sse` for an event stream merged to its text.
    pub form: &'a str,
    /// The body in that form.
    pub content: &'a str,
    /// The provider's raw usage of a merged stream, as JSON.
    pub usage: Option<&'a str>,
    /// Length as it was sent, in bytes.
    pub bytes: u64,
    /// Why it is not whole: `size`, `bomb`, `broken`; `None` where it is.
    pub cut: Option<&'a str>,
}

impl Bodies<'_> {
    /// Appends the journal's form.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        if let Err(error) = postcard::to_io(self, bytes) {
            tracing::error!(%error, "bodies cannot be encoded");
        }
    }
}

impl<'a> Bodies<'a> {
    /// Reads the journal's form.
    ///
    /// # Errors
    /// `bytes` are not bodies.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}

/// Usage leaves out numbers that are missing, which a coding without names cannot: here they are all written.
mod usage_numbers {
    use aiproxy_llm::usage::Usage;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Numbers = [Option<u64>; 15];

    pub(super) fn serialize<S: Serializer>(usage: &Option<Usage>, serializer: S) -> Result<S::Ok, S::Error> {
        usage.as_ref().map(Usage::numbers).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usage>, D::Error> {
        Ok(Option::<Numbers>::deserialize(deserializer)?.map(Usage::from_numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        let usage =
            Usage { input: Some(1), cached: Some(0), seconds_ms: Some(7), searches: Some(9), ..Usage::default() };
        let attempt =
            EntryAttempt { channel_id: "a", ms: 5, usage: Some(usage), cost: Some(-1), ..EntryAttempt::default() };
        let entry = Entry {
            id: [7; 16],
            user_id: Some("张三"),
            groups: vec!["one", "two"],
            attempts: vec![attempt],
            usage: Some(usage),
            cost: Some(i64::MAX),
            ..Entry::default()
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(Entry::decode(&bytes).unwrap(), entry);
        let empty = Entry::default();
        bytes.clear();
        empty.encode(&mut bytes);
        assert_eq!(Entry::decode(&bytes).unwrap(), empty);
    }

    #[test]
    fn bodies_read_back_as_they_were_written() {
        let body = Body { content_type: "text/plain", form: "text", content: "hello", bytes: 5, ..Body::default() };
        let bodies = Bodies { id: [1; 16], request: Some(body), ..Bodies::default() };
        let mut bytes = Vec::new();
        bodies.encode(&mut bytes);
        assert_eq!(Bodies::decode(&bytes).unwrap(), bodies);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes: Vec<u8>) {
            drop(Entry::decode(&bytes));
            drop(Bodies::decode(&bytes));
        }
    }
}
