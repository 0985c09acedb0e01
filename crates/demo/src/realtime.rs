//! A conversation with a realtime model, free of any socket: client events in, server events out (`protocols.md` §2.9).
//!
//! It speaks the shapes that OpenAI made final ("GA"). Sound goes in and comes out as base64; a spoken answer echoes
//! the sound that it answers. It detects no turns: a client commits its sound and asks for a response itself, and with
//! `turn_detection` set it is merely told when speech began and ended.

mod conversation;
mod response;
mod settings;

use std::collections::VecDeque;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::magic::Magic;
use crate::realtime::conversation::{Conversation, Item};
use crate::realtime::response::Response;
use crate::realtime::settings::Settings;
use crate::route::Dialect;
use crate::{base64, tokens, words};

/// The most sound that waits to be committed, in bytes. OpenAI takes 15 MiB in one event.
const LARGEST_BUFFER: usize = 32 * 1024 * 1024;
/// The least sound that may be committed, in milliseconds.
const SHORTEST_COMMIT: u64 = 100;
/// A token of sound that goes in lasts this long.
const MILLISECONDS_PER_INPUT_TOKEN: u64 = 100;
const HEARD: &str = "This is what the AIProxy demo upstream heard.";

/// Makes ids that differ within and between sessions.
#[derive(Debug)]
pub(crate) struct Ids {
    seed: String,
    count: u64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self { seed: Uuid::new_v4().simple().to_string(), count: 0 }
    }

    /// The next id, such as `event_…`.
    pub(crate) fn next(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}{}{:04x}", &self.seed[..12], self.count)
    }
}

/// Sound that was appended and is not committed yet.
#[derive(Debug, Default)]
struct Buffer {
    sound: Vec<u8>,
    /// The item that it will become, named when speech begins.
    item_id: Option<String>,
}

/// One realtime session.
///
/// A sender that paces itself keeps the events that it has not sent yet in a queue and uses
/// [`RealtimeSession::client_event_over`]; any other sends what [`RealtimeSession::client_event`] returns.
#[derive(Debug)]
pub(crate) struct RealtimeSession {
    ids: Ids,
    settings: Settings,
    conversation: Conversation,
    buffer: Buffer,
    /// The sound of the latest committed item that no spoken answer has echoed yet.
    unanswered: Vec<u8>,
    /// Milliseconds of sound that were appended in all.
    heard: u64,
    /// The response that was made last; it is under way while events of it are unsent.
    last: Option<Response>,
}

impl RealtimeSession {
    /// A session with `model` (empty if nobody named one). `session` holds what was asked for before it began: the
    /// `session` of a client secret or of a call, or a `type` of `transcription`.
    pub(crate) fn new(model: &str, session: Option<&Value>) -> Self {
        let mut ids = Ids::new();
        let settings = Settings::new(&ids.next("sess_"), model, session);
        let (conversation, buffer) = (Conversation::new(ids.next("conv_")), Buffer::default());
        Self { ids, settings, conversation, buffer, unanswered: Vec::new(), heard: 0, last: None }
    }

    /// What the server says first.
    pub(crate) fn opening(&mut self) -> Vec<Value> {
        vec![self.event("session.created", json!({"session": self.settings.shown()}))]
    }

    /// Answers one client event: everything, up to the end of a response.
    pub(crate) fn client_event(&mut self, event: &Value) -> Vec<Value> {
        let mut unsent = VecDeque::new();
        self.client_event_over(event, &mut unsent);
        unsent.into()
    }

    /// The same for a sender that paces itself: answers go behind the events that it has not sent yet, and a
    /// `response.cancel` takes back those of the response that it stops, which then costs only what was sent.
    pub(crate) fn client_event_over(&mut self, event: &Value, unsent: &mut VecDeque<Value>) {
        let result = match event["type"].as_str().unwrap_or_default() {
            "session.update" => self.update(&event["session"]),
            "input_audio_buffer.append" => self.append(&event["audio"]),
            "input_audio_buffer.commit" => self.commit(),
            "input_audio_buffer.clear" => self.clear(),
            "output_audio_buffer.clear" => Ok(vec![self.event("output_audio_buffer.cleared", json!({}))]),
            "conversation.item.create" => self.create_item(event),
            "conversation.item.retrieve" => self.retrieve_item(&event["item_id"]),
            "conversation.item.delete" => self.delete_item(&event["item_id"]),
            "conversation.item.truncate" => self.truncate_item(event),
            "response.create" => self.respond(&event["response"], unsent),
            "response.cancel" => self.cancel(&event["response_id"], unsent),
            "" => Err(Fault::new("missing_required_parameter", "Missing required parameter: 'type'.").param("type")),
            unknown => Err(Fault::new("invalid_value", format!("Invalid value: '{unknown}'.")).param("type")),
        };
        match result {
            Ok(events) => unsent.extend(events),
            Err(fault) => {
                let error = json!({"type": "invalid_request_error", "code": fault.code, "message": fault.message,
                    "param": fault.param, "event_id": event["event_id"]});
                unsent.push_back(self.event("error", json!({"error": error})));
            }
        }
    }

    /// A server event with an id of its own.
    fn event(&mut self, kind: &str, more: Value) -> Value {
        event(&mut self.ids, kind, more)
    }

    fn update(&mut self, session: &Value) -> Result<Vec<Value>, Fault> {
        self.settings.update(session)?;
        Ok(vec![self.event("session.updated", json!({"session": self.settings.shown()}))])
    }

    fn append(&mut self, audio: &Value) -> Result<Vec<Value>, Fault> {
        let text = audio.as_str().ok_or_else(|| Fault::missing("audio"))?;
        let sound = base64::decode(text).ok_or_else(|| {
            let message =
                "Invalid 'audio'. Expected base64-encoded audio bytes (mono PCM16 at 24kHz) but got an invalid value.";
            Fault::new("invalid_value", message).param("audio")
        })?;
        if self.buffer.sound.len() + sound.len() > LARGEST_BUFFER {
            return Err(Fault::new("input_audio_buffer_too_large", "The input audio buffer is full.").param("audio"));
        }
        let begins = self.buffer.sound.is_empty() && !sound.is_empty();
        let start = self.heard;
        self.heard += self.settings.input().milliseconds(sound.len());
        self.buffer.sound.extend(sound);
        if !begins || !self.settings.detects_turns() {
            return Ok(Vec::new());
        }
        let item_id = self.ids.next("item_");
        self.buffer.item_id = Some(item_id.clone());
        Ok(vec![self.event("input_audio_buffer.speech_started", json!({"audio_start_ms": start, "item_id": item_id}))])
    }

    fn commit(&mut self) -> Result<Vec<Value>, Fault> {
        let milliseconds = self.settings.input().milliseconds(self.buffer.sound.len());
        if milliseconds < SHORTEST_COMMIT {
            let message = format!(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but buffer only has {milliseconds}.00ms of audio."
            );
            return Err(Fault::new("input_audio_buffer_commit_empty", message));
        }
        let Buffer { sound, item_id } = std::mem::take(&mut self.buffer);
        let mut events = Vec::new();
        if let Some(item_id) = &item_id {
            let stopped = json!({"audio_end_ms": self.heard, "item_id": item_id});
            events.push(self.event("input_audio_buffer.speech_stopped", stopped));
        }
        let item_id = item_id.unwrap_or_else(|| self.ids.next("item_"));
        let committed = json!({"previous_item_id": self.conversation.last_id(), "item_id": item_id});
        events.push(self.event("input_audio_buffer.committed", committed));
        self.unanswered = sound;
        events.extend(self.add(Item::sound(item_id.clone(), milliseconds), None));
        events.extend(self.transcribe(&item_id, milliseconds));
        Ok(events)
    }

    /// The transcription of committed sound, if the session wants one. It is billed apart from responses.
    fn transcribe(&mut self, item_id: &str, milliseconds: u64) -> Vec<Value> {
        let Some(model) = self.settings.transcription_model() else { return Vec::new() };
        let refusal = Magic::of(model).refusal(model, Dialect::OpenAi);
        let usage = transcription_usage(model, self.settings.transcription_prompt(), milliseconds);
        let place = |more: Value| {
            let mut place = json!({"item_id": item_id, "content_index": 0});
            extend(&mut place, more);
            place
        };
        let kind = "conversation.item.input_audio_transcription";
        if let Some(refusal) = refusal {
            let error = refusal.envelope(Dialect::OpenAi, "")["error"].take();
            return vec![self.event(&format!("{kind}.failed"), place(json!({"error": error})))];
        }
        let mut events = Vec::new();
        for piece in words::pieces(HEARD) {
            events.push(self.event(&format!("{kind}.delta"), place(json!({"delta": piece}))));
        }
        events.push(self.event(&format!("{kind}.completed"), place(json!({"transcript": HEARD, "usage": usage}))));
        events
    }

    fn clear(&mut self) -> Result<Vec<Value>, Fault> {
        self.buffer = Buffer::default();
        Ok(vec![self.event("input_audio_buffer.cleared", json!({}))])
    }

    fn create_item(&mut self, event: &Value) -> Result<Vec<Value>, Fault> {
        let id = match event["item"]["id"].as_str() {
            Some(id) => id.to_owned(),
            None => self.ids.next("item_"),
        };
        if self.conversation.has(&id) {
            let message = format!("Error adding item: the conversation already has an item with id '{id}'.");
            return Err(Fault::new("item_create_duplicate_item_id", message).param("item.id"));
        }
        let (item, sound) = Item::of_client(id, &event["item"], self.settings.input())?;
        let after = event["previous_item_id"].as_str();
        if let Some(after) = after.filter(|after| *after != "root" && !self.conversation.has(after)) {
            let message = format!("Error adding item: the previous item with id '{after}' does not exist.");
            return Err(Fault::new("item_create_invalid_previous_item_id", message).param("previous_item_id"));
        }
        if !sound.is_empty() {
            self.unanswered = sound;
        }
        Ok(self.add(item, after))
    }

    /// Puts an item into the conversation, behind `after` or at its end.
    fn add(&mut self, item: Item, after: Option<&str>) -> Vec<Value> {
        let shown = item.shown().clone();
        let previous = self.conversation.add(item, after);
        let about = json!({"previous_item_id": previous, "item": shown});
        ["conversation.item.added", "conversation.item.done"].map(|kind| self.event(kind, about.clone())).into()
    }

    fn retrieve_item(&mut self, id: &Value) -> Result<Vec<Value>, Fault> {
        let item = self.conversation.find(id)?.shown().clone();
        Ok(vec![self.event("conversation.item.retrieved", json!({"item": item}))])
    }

    fn delete_item(&mut self, id: &Value) -> Result<Vec<Value>, Fault> {
        let id = self.conversation.find(id)?.id().to_owned();
        self.conversation.remove(&id);
        Ok(vec![self.event("conversation.item.deleted", json!({"item_id": id}))])
    }

    /// Only told back: what was said stays in the context that the next response pays for.
    fn truncate_item(&mut self, event: &Value) -> Result<Vec<Value>, Fault> {
        let item_id = self.conversation.find(&event["item_id"])?.id().to_owned();
        let about =
            json!({"item_id": item_id, "content_index": event["content_index"], "audio_end_ms": event["audio_end_ms"]});
        Ok(vec![self.event("conversation.item.truncated", about)])
    }

    fn respond(&mut self, asked: &Value, unsent: &VecDeque<Value>) -> Result<Vec<Value>, Fault> {
        if self.settings.is_transcription() {
            let message = "Responses cannot be created in a transcription session.";
            return Err(Fault::new("invalid_value", message).param("type"));
        }
        let is_aside = asked["conversation"] == "none";
        if let Some(active) = self.last.as_ref().filter(|last| !is_aside && last.is_under_way(unsent)) {
            let message = format!(
                "Conversation already has an active response in progress: {}. Wait until the response is finished before creating a new one.",
                active.id()
            );
            return Err(Fault::new("conversation_already_has_active_response", message));
        }
        let format = self.settings.output();
        let echo = if format == self.settings.input() { std::mem::take(&mut self.unanswered) } else { Vec::new() };
        let response = Response::new(&mut self.ids, &self.settings, &mut self.conversation, asked, echo)?;
        let events = response.events(&mut self.ids);
        if let Some(item) = response.item_to_remember() {
            self.conversation.add(item, None);
        }
        if !is_aside {
            self.last = Some(response);
        }
        Ok(events)
    }

    fn cancel(&mut self, id: &Value, unsent: &mut VecDeque<Value>) -> Result<Vec<Value>, Fault> {
        let active = self.last.as_ref().filter(|last| last.is_under_way(unsent));
        let active = active.filter(|last| id.is_null() || *id == last.id());
        let Some(active) = active else {
            return Err(Fault::new("response_cancel_not_active", "Cancellation failed: no active response found"));
        };
        let (events, item) = active.cancelled(&mut self.ids, unsent);
        match item {
            Some(item) => self.conversation.replace(item),
            None => self.conversation.remove(active.item_id()),
        }
        self.last = None;
        Ok(events)
    }
}

/// What is wrong with a client event.
#[derive(Debug)]
pub(crate) struct Fault {
    code: &'static str,
    message: String,
    param: Option<&'static str>,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None }
    }

    fn param(self, param: &'static str) -> Self {
        Self { param: Some(param), ..self }
    }

    fn missing(param: &'static str) -> Self {
        Self::new("missing_required_parameter", format!("Missing required parameter: '{param}'.")).param(param)
    }
}

/// A server event `kind` with the members of `more`.
fn event(ids: &mut Ids, kind: &str, more: Value) -> Value {
    let mut event = json!({"type": kind, "event_id": ids.next("event_")});
    extend(&mut event, more);
    event
}

/// Adds the members of one object to another.
pub(crate) fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// What hearing so much sound costs: whole seconds with `whisper-1`, else ten tokens for a second and the text.
fn transcription_usage(model: &str, prompt: &str, milliseconds: u64) -> Value {
    if model == "whisper-1" {
        return json!({"type": "duration", "seconds": milliseconds.div_ceil(1000)});
    }
    let (text, audio) = (tokens::count(prompt), milliseconds.div_ceil(MILLISECONDS_PER_INPUT_TOKEN));
    let output = tokens::count(HEARD);
    json!({"type": "tokens", "input_tokens": text + audio, "input_token_details": {"text_tokens": text,
        "audio_tokens": audio}, "output_tokens": output, "total_tokens": text + audio + output})
}

#[cfg(test)]
mod tests;
