//! Model names that let people see failures.
//!
//! | model | does |
//! |---|---|
//! | `demo-error-401`, `-404`, `-429`, `-500`, `-529` (any 4xx/5xx) | answers that status in the dialect's envelope; 429 with `retry-after` |
//! | `demo-missing` | 404, as for a model that does not exist |
//! | `demo-slow` | waits 3 s before the first byte |
//! | `demo-hang` | never answers |
//! | `demo-break` | cuts the connection in the middle of the body |
//! | `demo-error-in-stream` | sends an error event after two chunks; 500 when not streaming |
//! | `demo-long` | answers with 200 pieces of text |
//! | `demo-close-1011` (any code from 1000 to 4999) | a WebSocket is closed with that code as soon as it is open |
//! | `demo-upgrade-wrong` | a WebSocket handshake is answered by a switch to another protocol |
//! | `demo-echo` | a WebSocket sends every message back |
//! | `demo-realtime-late` | a WebRTC call can be listened to only after its first second |
//! | `demo-realtime-unattachable` | a WebRTC call can never be listened to |
//!
//! On a WebSocket whose handshake names the model, a refusal takes the place of the 101, `demo-slow` and `demo-hang`
//! hold the 101 back, and `demo-break` and `demo-error-in-stream` fail in the middle of an answer. Where a message names
//! it, the answer to that message fails instead.

use std::time::Duration;

use crate::framing::Framing;
use crate::refusal::Refusal;
use crate::reply::{Delay, Part, Reply};
use crate::route::Dialect;

const SLOW: Duration = Duration::from_secs(3);
const CHUNKS_BEFORE_ERROR: usize = 2;

/// What a model name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Magic {
    None,
    Refuse(u16),
    Slow,
    Hang,
    Break,
    ErrorInStream,
    Long,
    Close(u16),
    WrongUpgrade,
    Echo,
}

impl Magic {
    /// Reads a model name, with or without a path before it (`models/demo-slow`).
    pub(crate) fn of(model: &str) -> Self {
        match model.rsplit('/').next().unwrap_or_default() {
            "demo-missing" => Self::Refuse(404),
            "demo-slow" => Self::Slow,
            "demo-hang" => Self::Hang,
            "demo-break" => Self::Break,
            "demo-error-in-stream" => Self::ErrorInStream,
            "demo-long" => Self::Long,
            "demo-upgrade-wrong" => Self::WrongUpgrade,
            "demo-echo" => Self::Echo,
            name => {
                let number = |prefix| name.strip_prefix(prefix).and_then(|number: &str| number.parse().ok());
                match (number("demo-error-"), number("demo-close-")) {
                    (Some(status @ 400..=599), _) => Self::Refuse(status),
                    (_, Some(code @ 1000..=4999)) => Self::Close(code),
                    _ => Self::None,
                }
            }
        }
    }

    /// The refusal that stands in for every answer of this model.
    pub(crate) fn refusal(self, model: &str, dialect: Dialect) -> Option<Refusal> {
        match self {
            Self::Refuse(404) => Some(Refusal::no_model(model, dialect)),
            Self::Refuse(status) => Some(Refusal::genuine(status, dialect)),
            _ => None,
        }
    }

    /// How long the first word is held back.
    pub(crate) fn delay(self) -> Delay {
        match self {
            Self::Slow => Delay::For(SLOW),
            Self::Hang => Delay::Forever,
            _ => Delay::None,
        }
    }

    /// Breaks, delays or holds back a reply that was fine.
    pub(crate) fn spoil(self, mut reply: Reply, dialect: Dialect, request_id: &str) -> Reply {
        match self {
            Self::None | Self::Refuse(_) | Self::Long => return reply,
            Self::Close(_) | Self::WrongUpgrade | Self::Echo => return reply,
            Self::Slow | Self::Hang => reply.delay = self.delay(),
            Self::Break => cut(&mut reply),
            Self::ErrorInStream => {
                let refusal = Refusal::genuine(500, dialect);
                match reply.framing {
                    None => return refusal.into_reply(dialect, request_id),
                    Some(Framing::Raw(_)) => cut(&mut reply),
                    Some(framing) => {
                        reply.parts.truncate(CHUNKS_BEFORE_ERROR);
                        let event = framing.error(reply.parts.len(), &refusal, dialect, request_id);
                        reply.parts.push(Part::Bytes(event));
                    }
                }
            }
        }
        reply
    }
}

/// Keeps the first half of the parts and half of the next one, then breaks the connection.
fn cut(reply: &mut Reply) {
    reply.parts.truncate(reply.parts.len() / 2 + 1);
    if let Some(Part::Bytes(last)) = reply.parts.last_mut() {
        last.truncate(last.len() / 2);
    }
    reply.parts.extend([Part::Flush, Part::Break]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answered, post};
    use serde_json::{Value, json};

    fn chat(model: &str, is_stream: bool) -> Answered {
        let messages = json!([{"role": "user", "content": "hello"}]);
        post("/v1/chat/completions", &json!({"model": model, "messages": messages, "stream": is_stream}))
    }

    #[test]
    fn names_are_read_with_or_without_a_path() {
        assert_eq!(Magic::of("models/demo-slow"), Magic::Slow);
        assert_eq!(Magic::of("demo-error-529"), Magic::Refuse(529));
        assert_eq!(Magic::of("demo-close-4000"), Magic::Close(4000));
        let ordinary = ["demo-error-200", "demo-error-x", "demo-close-99", "gpt-x", ""];
        assert_eq!(ordinary.map(Magic::of), [Magic::None; 5]);
    }

    #[test]
    fn magic_names_fail_as_promised() {
        for (model, status, code) in [
            ("demo-error-401", 401, json!("invalid_api_key")),
            ("demo-error-404", 404, json!("model_not_found")),
            ("demo-missing", 404, json!("model_not_found")),
            ("demo-error-429", 429, json!("rate_limit_exceeded")),
            ("demo-error-500", 500, Value::Null),
            ("demo-error-529", 529, Value::Null),
        ] {
            let answer = chat(model, false);
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &code), "{model}");
        }
        assert_eq!(chat("demo-error-429", false).header("retry-after"), "1");
        assert_eq!(chat("demo-slow", false).delay, Delay::For(SLOW));
        assert_eq!(chat("demo-hang", false).delay, Delay::Forever);
        let broken = chat("demo-break", true);
        assert!(broken.is_cut && broken.chunks > 2 && !broken.text.contains("[DONE]"));
        let failed = chat("demo-error-in-stream", true);
        assert_eq!((failed.chunks, failed.events()[2]["error"]["type"].as_str()), (3, Some("server_error")));
        assert_eq!(chat("demo-error-in-stream", false).status, 500);
        let content =
            |event: &&Value| event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty());
        assert_eq!(chat("demo-long", true).events().iter().filter(content).count(), 200);
    }
}
