//! How a stream separates its events on the wire (`protocols.md` §2, §3.4).

use bytes::Bytes;
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::route::Dialect;

/// The form of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// OpenAI chat: `data:` lines.
    Data,
    /// OpenAI Responses and Anthropic: `event:` and `data:` lines.
    Named,
    /// Gemini with `alt=sse`: `data:` lines ended by CRLF.
    GeminiEvents,
    /// Gemini without: one JSON array, element by element.
    GeminiArray,
    /// DashScope native: `id`, `event`, status comment, `data` without a space.
    DashScope,
    /// Bytes of this content type without any frame.
    Raw(&'static str),
}

impl Framing {
    /// The `content-type` of the response.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Data | Self::GeminiEvents => "text/event-stream",
            Self::Named => "text/event-stream; charset=utf-8",
            Self::DashScope => "text/event-stream;charset=UTF-8",
            Self::GeminiArray => "application/json; charset=UTF-8",
            Self::Raw(content_type) => content_type,
        }
    }

    /// The event number `index` (from 0) of a stream. Only named streams show `name`.
    pub(crate) fn event(self, index: usize, name: &str, data: &Value) -> Bytes {
        let text = match self {
            Self::Data => format!("data: {data}\n\n"),
            Self::Named => format!("event: {name}\ndata: {data}\n\n"),
            Self::GeminiEvents => format!("data: {data}\r\n\r\n"),
            Self::GeminiArray => format!("{}{data}", if index == 0 { "[" } else { ",\r\n" }),
            Self::DashScope => format!("id:{}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n", index + 1),
            Self::Raw(_) => data.to_string(),
        };
        text.into()
    }

    /// An error as event number `index`, which ends the stream.
    pub(crate) fn error(self, index: usize, refusal: &Refusal, dialect: Dialect, request_id: &str) -> Bytes {
        let envelope = refusal.envelope(dialect, request_id);
        match self {
            Self::Named if dialect != Dialect::Anthropic => {
                let data = json!({"type": "error", "code": "server_error", "message": refusal.message(), "param": null,
                    "sequence_number": index});
                self.event(index, "error", &data)
            }
            Self::Data | Self::Named | Self::GeminiEvents | Self::Raw(_) => self.event(index, "error", &envelope),
            Self::GeminiArray => format!(",\r\n{envelope}]").into(),
            Self::DashScope => {
                let (id, status) = (index + 1, refusal.status());
                format!("id:{id}\nevent:error\n:HTTP_STATUS/{status}\ndata:{envelope}\n\n").into()
            }
        }
    }
}

/// The events of a stream, in order.
#[derive(Debug)]
pub(crate) struct EventStream {
    pub(crate) framing: Framing,
    pub(crate) events: Vec<Bytes>,
}

impl EventStream {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, events: Vec::new() }
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, name: &str, data: &Value) {
        self.events.push(self.framing.event(self.events.len(), name, data));
    }

    /// Adds an event that is named by its own `type`, as OpenAI and Anthropic do.
    pub(crate) fn push_typed(&mut self, data: &Value) {
        self.push(data["type"].as_str().unwrap_or_default(), data);
    }

    /// Adds bytes as they are: `data: [DONE]`, the `]` of an array, sound.
    pub(crate) fn push_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.events.push(bytes.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_events(framing: Framing) -> String {
        let mut stream = EventStream::new(framing);
        stream.push_typed(&json!({"type": "a"}));
        stream.push_typed(&json!({"type": "b"}));
        String::from_utf8(stream.events.concat()).unwrap()
    }

    #[test]
    fn every_framing_has_its_own_bytes() {
        assert_eq!(two_events(Framing::Data), "data: {\"type\":\"a\"}\n\ndata: {\"type\":\"b\"}\n\n");
        let named = "event: a\ndata: {\"type\":\"a\"}\n\nevent: b\ndata: {\"type\":\"b\"}\n\n";
        assert_eq!(two_events(Framing::Named), named);
        assert_eq!(two_events(Framing::GeminiEvents), "data: {\"type\":\"a\"}\r\n\r\ndata: {\"type\":\"b\"}\r\n\r\n");
        assert_eq!(two_events(Framing::GeminiArray), "[{\"type\":\"a\"},\r\n{\"type\":\"b\"}");
        let dashscope = "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"type\":\"a\"}\n\n";
        assert!(two_events(Framing::DashScope).starts_with(dashscope));
    }

    #[test]
    fn an_error_keeps_the_framing() {
        let refusal = Refusal::genuine(500, Dialect::DashScope);
        let event = Framing::DashScope.error(2, &refusal, Dialect::DashScope, "id");
        assert!(event.starts_with(b"id:3\nevent:error\n:HTTP_STATUS/500\ndata:{\"code\":\"InternalError\""));
        let event = Framing::GeminiArray.error(2, &refusal, Dialect::Gemini, "id");
        assert!(event.starts_with(b",\r\n{\"error\":") && event.ends_with(b"}]"));
    }
}
