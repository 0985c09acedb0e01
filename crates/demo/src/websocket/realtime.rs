//! OpenAI realtime on a socket: the session of `crate::realtime` in text messages.

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::outbox::broken;
use super::{Dialogue, Outbox, Step};
use crate::magic::Magic;
use crate::realtime::RealtimeSession;

/// A realtime session.
#[derive(Debug)]
pub(super) struct Realtime {
    session: RealtimeSession,
    magic: Magic,
}

impl Realtime {
    pub(super) fn new(model: &str) -> Self {
        Self { session: RealtimeSession::new(model, None), magic: Magic::of(model) }
    }

    /// A session that only writes down what it hears.
    pub(super) fn transcription(model: &str) -> Self {
        let mut asked = json!({"type": "transcription"});
        if !model.is_empty() {
            asked["audio"] = json!({"input": {"transcription": {"model": model}}});
        }
        Self { session: RealtimeSession::new(model, Some(&asked)), magic: Magic::of(model) }
    }
}

impl Dialogue for Realtime {
    fn opening(&mut self, outbox: &mut Outbox) {
        self.session.opening().into_iter().for_each(|event| outbox.event(event));
    }

    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        let Ok(event) = serde_json::from_str(text) else {
            return outbox.event(error_event("invalid_json", "Could not parse the event as JSON."));
        };
        say(&mut self.session, self.magic, &event, outbox);
    }

    fn binary(&mut self, _bytes: &Bytes, outbox: &mut Outbox) {
        outbox.event(not_text());
    }
}

/// Answers a client event through `session`.
pub(super) fn say(session: &mut RealtimeSession, magic: Magic, event: &Value, outbox: &mut Outbox) {
    if magic == Magic::Break && event["type"] == "response.create" {
        let steps = session.client_event(event).into_iter().map(Step::Event).collect();
        return broken(steps).into_iter().for_each(|step| outbox.push(step));
    }
    outbox.with_events(|unsent| session.client_event_over(event, unsent));
}

/// What OpenAI still says to a client that asks for the shapes of the beta.
#[derive(Debug)]
pub(super) struct Beta;

impl Dialogue for Beta {
    fn opening(&mut self, outbox: &mut Outbox) {
        let message = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API.";
        outbox.event(error_event("beta_api_shape_disabled", message));
        outbox.push(Step::Close(4000, "invalid_request_error.beta_api_shape_disabled".to_owned()));
    }

    fn text(&mut self, _text: &str, _outbox: &mut Outbox) {}

    fn binary(&mut self, _bytes: &Bytes, _outbox: &mut Outbox) {}
}

/// An `error` event outside any session.
pub(super) fn error_event(code: &str, message: &str) -> Value {
    let id = format!("event_{}", Uuid::new_v4().simple());
    json!({"type": "error", "event_id": id, "error": {"type": "invalid_request_error", "code": code,
        "message": message, "param": null, "event_id": null}})
}

/// The answer to a binary message where only text is read.
pub(super) fn not_text() -> Value {
    error_event("invalid_json", "Events must be text messages.")
}
