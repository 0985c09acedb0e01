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
            name => match name.strip_prefix("demo-error-").and_then(|status| status.parse().ok()) {
                Some(status @ 400..=599) => Self::Refuse(status),
                _ => Self::None,
            },
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

    /// Breaks, delays or holds back a reply that was fine.
    pub(crate) fn spoil(self, mut reply: Reply, dialect: Dialect, request_id: &str) -> Reply {
        match self {
            Self::None | Self::Refuse(_) | Self::Long => return reply,
            Self::Slow => reply.delay = Delay::For(SLOW),
            Self::Hang => reply.delay = Delay::Forever,
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
        assert_eq!(["demo-error-200", "demo-error-x", "gpt-x", ""].map(Magic::of), [Magic::None; 4]);
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
