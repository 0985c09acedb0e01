//! WebSockets: which conversation lives at a path, who may begin it, and what it says (`protocols.md` §2.8–2.13, §4).
//!
//! A handshake is answered by a pure function, [`DemoUpstream::shake_hands`]. What is said afterwards is a
//! [`Dialogue`], which is free of sockets as well: messages go in, and what to send goes into an [`Outbox`]. Only
//! `socket.rs` reads and writes, with the framing of tungstenite, so that the gateway's own framing is tested against
//! somebody else's.
//!
//! | path | speaks |
//! |---|---|
//! | `/v1/realtime?model=`, `/openai/realtime?deployment=`, `/openai/v1/realtime?model=` | OpenAI realtime |
//! | `/v1/realtime?call_id=` | the sideband of a WebRTC call |
//! | `/v1/realtime?intent=transcription` | OpenAI realtime, which only listens |
//! | `/v1/realtime/translations?model=` | OpenAI translations |
//! | `/v1/responses` | OpenAI Responses |
//! | `/v1/live/sessions` | OpenAI Live |
//! | `/api-ws/v1/inference` | DashScope tasks (CosyVoice, Sambert, Paraformer) |
//! | `/api-ws/v1/realtime?model=` | Qwen-Omni realtime |
//! | `/ws/google.ai.generativelanguage.….BidiGenerateContent`, `/ws/google.cloud.aiplatform.….LlmBidiService/BidiGenerateContent` | Gemini Live |
//! | `/v1/echo-websocket`, `…/echo` | nothing: every message comes back |
//! | `…/close/{code}` | nothing: closes at once with this code |
//! | `…/upgrade-wrong` | nothing: switches to another protocol than was asked for |

mod gemini;
mod handshake;
mod inference;
mod live;
mod outbox;
mod place;
mod plain;
mod qwen;
mod realtime;
mod responses;
mod sideband;
mod socket;
#[cfg(test)]
mod tests;
mod translation;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::call::Call;
use crate::dress::dress;
use crate::refusal::Refusal;
use crate::reply::{Delay, Reply};
use crate::route::Route;
use crate::upstream::DemoUpstream;
use crate::webrtc::Calls;
use crate::{guard, magic};

pub(crate) use outbox::{Outbox, Step};
pub(crate) use socket::converse;

use magic::Magic;
use place::Place;

/// What is said on a socket. Free of it: whoever drives it sends what is in the outbox, one step after the other.
pub(crate) trait Dialogue: Send {
    /// Says what comes first.
    fn opening(&mut self, _outbox: &mut Outbox) {}

    /// Answers a text message.
    fn text(&mut self, text: &str, outbox: &mut Outbox);

    /// Answers a binary message.
    fn binary(&mut self, bytes: &Bytes, outbox: &mut Outbox);

    /// An event in the words in which it is sent; none if it is left out.
    fn worded(&self, event: Value) -> Option<Value> {
        Some(event)
    }
}

/// A conversation that may begin once the protocol was switched.
pub(crate) struct Conversation {
    pub(crate) dialogue: Box<dyn Dialogue>,
    /// Texts to send that others say: the events of the call that a sideband listens to.
    pub(crate) heard: Option<broadcast::Receiver<Arc<str>>>,
}

impl Conversation {
    fn new(dialogue: impl Dialogue + 'static) -> Self {
        Self { dialogue: Box::new(dialogue), heard: None }
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Conversation").field("is_sideband", &self.heard.is_some()).finish_non_exhaustive()
    }
}

/// The answer to a request that asks for a WebSocket.
#[derive(Debug)]
pub(crate) enum Handshake {
    Refused(Reply),
    Accepted {
        /// The headers of the 101.
        headers: HeaderMap,
        /// How long to hold it back.
        delay: Delay,
        /// None for a switch to another protocol, after which nothing is said.
        conversation: Option<Conversation>,
    },
}

impl DemoUpstream {
    /// Answers a request that asks for a WebSocket where there is one; none if it must be answered as plain HTTP.
    pub(crate) fn shake_hands(&self, parts: &Parts) -> Option<Handshake> {
        if !handshake::is_asked_for(&parts.headers) {
            return None;
        }
        let place = Place::of(parts.uri.path())?;
        let call = Call::new(parts, &Bytes::new());
        let dialect = place.dialect(call.path);
        let model = ["model", "deployment"].iter().find_map(|name| call.parameter(name)).unwrap_or_default();
        let route = Route { dialect, tail: call.path, model: Some(model.to_owned()) };
        let magic = Magic::of(model);
        let accepted = handshake::no_leak(&call)
            .and_then(|()| guard::check(&call, &route, &self.options().api_key))
            .and_then(|()| handshake::check(&call))
            .and_then(|()| magic.refusal(model, dialect).map_or(Ok(()), Err))
            .and_then(|()| conversation(place, &call, model, self.calls()));
        Some(match accepted {
            Err(refusal) => {
                let mut reply = refusal.into_reply(dialect, &call.request.to_string());
                handshake::dress_refusal(&mut reply);
                dress(&mut reply.headers, &call, dialect);
                Handshake::Refused(reply)
            }
            Ok(conversation) => {
                let is_wrong = place == Place::WrongUpgrade || magic == Magic::WrongUpgrade;
                let mut headers = handshake::accepting(&call, if is_wrong { "h2c" } else { "websocket" });
                dress(&mut headers, &call, dialect);
                let delay = magic.delay();
                Handshake::Accepted { headers, delay, conversation: conversation.filter(|_| !is_wrong) }
            }
        })
    }
}

/// What is said at `place`; none where nothing is.
fn conversation(place: Place, call: &Call<'_>, model: &str, calls: &Calls) -> Result<Option<Conversation>, Refusal> {
    match Magic::of(model) {
        Magic::Close(code) => return Ok(Some(Conversation::new(plain::Closing(code)))),
        Magic::Echo => return Ok(Some(Conversation::new(plain::Echo))),
        _ => {}
    }
    let needed = || match model.is_empty() {
        true => Err(Refusal::new(400, "You must provide a model parameter.").code("missing_model").param("model")),
        false => Ok(model),
    };
    Ok(Some(match place {
        Place::Realtime => match call.parameter("call_id") {
            Some(call_id) => sideband::conversation(calls, call_id)?,
            None if handshake::is_beta(call) => Conversation::new(realtime::Beta),
            None if call.parameter("intent") == Some("transcription") => {
                Conversation::new(realtime::Realtime::transcription(model))
            }
            None => Conversation::new(realtime::Realtime::new(needed()?)),
        },
        Place::Translations => Conversation::new(translation::Translation::new(needed()?)),
        Place::Responses => Conversation::new(responses::Responses::default()),
        Place::Live => Conversation::new(live::Live::default()),
        Place::Inference => Conversation::new(inference::Inference::default()),
        Place::QwenRealtime => Conversation::new(qwen::Qwen::new(needed()?)),
        Place::Gemini | Place::Vertex => Conversation::new(gemini::Gemini::default()),
        Place::Echo => Conversation::new(plain::Echo),
        Place::Close(code) => Conversation::new(plain::Closing(code)),
        Place::WrongUpgrade => return Ok(None),
    }))
}
