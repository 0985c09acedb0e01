//! OpenAI Live on a socket, as far as a meter sees it (`protocols.md` §2.10).
//!
//! The session costs the seconds of sound that it heard, told anew after each whole one. Work that it delegates by
//! `response.create` comes wrapped and costs what a response costs.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::outbox::broken;
use super::plain::close_on_purpose;
use super::realtime::not_text;
use super::{Dialogue, Outbox, Step};
use crate::base64;
use crate::call::Call;
use crate::magic::Magic;
use crate::openai::responses;
use crate::realtime::{Ids, extend};
use crate::refusal::Refusal;
use crate::reply::Delay;
use crate::route::Dialect;

/// 16-bit mono samples at 24 kHz.
const BYTES_PER_SECOND: usize = 48_000;

/// A live socket; it has no session before `session.start`.
#[derive(Debug, Default)]
pub(super) struct Live {
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    ids: Ids,
    shown: Value,
    model: String,
    /// Bytes of sound heard.
    heard: usize,
}

impl Dialogue for Live {
    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        let kind = event["type"].as_str().unwrap_or_default();
        let answered = match (kind, &mut self.session) {
            ("session.start", None) => self.start(&event["session"], outbox),
            ("session.start", Some(_)) => Err(fault("session_already_started", "The session has already started.")),
            (_, None) => Err(fault("session_not_started", "Send session.start first.")),
            (kind, Some(session)) => session.answer(kind, &event, outbox),
        };
        if let Err(refusal) = answered {
            let mut error = refusal.envelope(Dialect::OpenAi, "")["error"].take();
            error["client_event_id"] = event["event_id"].clone();
            let mut ids = Ids::new();
            outbox.event(json!({"type": "error", "event_id": ids.next("event_"), "error": error}));
        }
    }

    fn binary(&mut self, _bytes: &Bytes, outbox: &mut Outbox) {
        outbox.event(not_text());
    }
}

impl Live {
    fn start(&mut self, asked: &Value, outbox: &mut Outbox) -> Result<(), Refusal> {
        let model = asked["model"].as_str().ok_or(Refusal::missing("session.model"))?;
        let magic = Magic::of(model);
        if let Some(refusal) = magic.refusal(model, Dialect::OpenAi) {
            return Err(refusal);
        }
        if let Magic::Close(code) = magic {
            outbox.push(close_on_purpose(code));
            return Ok(());
        }
        match magic.delay() {
            Delay::None => {}
            Delay::For(time) => outbox.push(Step::Pause(time)),
            Delay::Forever => return Ok(()),
        }
        let mut ids = Ids::new();
        let mut shown = asked.clone();
        let expires_at = aiproxy_core::time::unix_ms() / 1000 + 3600;
        extend(&mut shown, json!({"id": ids.next("live_"), "expires_at": expires_at, "status": "active"}));
        let session = self.session.insert(Session { ids, shown, model: model.to_owned(), heard: 0 });
        let started = session.event("session.started", json!({"session": session.shown}));
        outbox.event(started);
        Ok(())
    }
}

impl Session {
    fn answer(&mut self, kind: &str, event: &Value, outbox: &mut Outbox) -> Result<(), Refusal> {
        match kind {
            "session.input_audio.append" => {
                let sound = event["audio"].as_str().and_then(base64::decode);
                let sound = sound.ok_or_else(|| fault("invalid_value", "Invalid 'audio'.").param("audio"))?;
                let before = self.heard / BYTES_PER_SECOND;
                self.heard = self.heard.saturating_add(sound.len());
                outbox.event(self.event("session.output_audio.delta", json!({"delta": base64::encode(&sound)})));
                if self.heard / BYTES_PER_SECOND > before {
                    outbox.event(self.event("session.usage.updated", json!({"usage": self.usage()})));
                }
            }
            "session.update" => {
                if !event["session"]["model"].is_null() && event["session"]["model"] != self.model {
                    return Err(fault("invalid_value", "The model cannot be changed.").param("session.model"));
                }
                extend(&mut self.shown, event["session"].clone());
                outbox.event(self.event("session.updated", json!({"session": self.shown})));
            }
            "response.create" => self.delegate(outbox)?,
            "session.close" => {
                let closed = json!({"reason": "close_requested", "usage": self.usage()});
                outbox.event(self.event("session.closed", closed));
                outbox.push(Step::Close(1000, String::new()));
            }
            _ => return Err(fault("invalid_value", "Unknown event type.").param("type")),
        }
        Ok(())
    }

    /// A response that another model makes for the session, wrapped.
    fn delegate(&mut self, outbox: &mut Outbox) -> Result<(), Refusal> {
        let body = json!({"input": "delegated work", "instructions": self.shown["instructions"]});
        let model = self.shown["delegation"]["responses"]["model"].as_str().unwrap_or(&self.model).to_owned();
        let (parts, ()) = Request::new(()).into_parts();
        let events = responses::events(&Call::new(&parts, &Bytes::from(body.to_string())), &model)?;
        let delegation = self.ids.next("delegation_");
        let wrapped = |event| self.event("response.event", json!({"event": event, "delegation_id": delegation}));
        let steps: Vec<Step> = events.into_iter().map(wrapped).map(Step::Event).collect();
        let steps = if Magic::of(&self.model) == Magic::Break { broken(steps) } else { steps };
        steps.into_iter().for_each(|step| outbox.push(step));
        Ok(())
    }

    fn usage(&self) -> Value {
        json!({"seconds": self.heard as f64 / BYTES_PER_SECOND as f64})
    }

    fn event(&mut self, kind: &str, more: Value) -> Value {
        let mut event = json!({"type": kind, "event_id": self.ids.next("event_")});
        extend(&mut event, more);
        event
    }
}

fn fault(code: &'static str, message: &str) -> Refusal {
    Refusal::new(400, message).code(code)
}
