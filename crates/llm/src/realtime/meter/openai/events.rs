//! Which of OpenAI's events count, where they write what counts, and what they say of models and errors.

use serde_json::Value;

use crate::json_scan::{Captures, Path, decode_string};
use crate::meter::MeterError;
use crate::realtime::values::{cut_sentence, error_at, kept_name, name_at};

use super::super::{Event, Models, Protocol};

pub(in crate::realtime::meter) const TYPE: usize = 0;
pub(super) const RESPONSE_ID: usize = 1;
pub(super) const RESPONSE_MODEL: usize = 2;
pub(super) const RESPONSE_USAGE: usize = 3;
pub(super) const RESPONSE_ERROR: usize = 4;
pub(super) const STATUS_ERROR: usize = 5;
pub(super) const ERROR: usize = 6;
pub(super) const USAGE: usize = 7;
pub(super) const SESSION_MODEL: usize = 8;
pub(super) const TRANSCRIPTION: usize = 9;
pub(super) const BETA_TRANSCRIPTION: usize = 10;
pub(super) const CODE: usize = 11;
pub(super) const MESSAGE: usize = 12;
pub(super) const ITEM_ID: usize = 13;
pub(super) const CONTENT_INDEX: usize = 14;
pub(super) const INNER_TYPE: usize = 15;
pub(super) const DECISION_ID: usize = 16;
pub(super) const DECISION_USAGE: usize = 17;
pub(super) const DECISION_MODEL: usize = 18;
pub(super) const BARE_DECISION_ID: usize = 19;
pub(super) const BARE_DECISION_USAGE: usize = 20;
pub(super) const BARE_DECISION_MODEL: usize = 21;

const NOWHERE: Path = &[];

pub(in crate::realtime::meter) const PATHS: &[Path] = &[
    &["type"],
    &["response", "id"],
    &["response", "model"],
    &["response", "usage"],
    &["response", "error"],
    &["response", "status_details", "error"],
    &["error"],
    &["usage"],
    &["session", "model"],
    // As deep as a scan goes: the model is a member.
    &["session", "audio", "input", "transcription"],
    &["session", "input_audio_transcription"],
    &["code"],
    &["message"],
    &["item_id"],
    &["content_index"],
    NOWHERE,
    NOWHERE,
    NOWHERE,
    NOWHERE,
    NOWHERE,
    NOWHERE,
    NOWHERE,
];

/// Responses and decisions come wrapped in `event`. Whether a decision does is not known for sure, so both are read.
pub(in crate::realtime::meter) const LIVE_PATHS: &[Path] = &[
    &["type"],
    &["event", "response", "id"],
    &["event", "response", "model"],
    &["event", "response", "usage"],
    &["event", "response", "error"],
    NOWHERE,
    &["error"],
    &["usage"],
    &["session", "model"],
    &["session", "audio", "input", "transcription"],
    NOWHERE,
    &["code"],
    &["message"],
    &["item_id"],
    &["content_index"],
    &["event", "type"],
    &["event", "decision", "id"],
    &["event", "decision", "usage"],
    &["event", "decision", "model"],
    &["decision", "id"],
    &["decision", "usage"],
    &["decision", "model"],
];

/// What a message with the type `name` is; `None` if nothing in it counts.
pub(in crate::realtime::meter) fn event(protocol: Protocol, name: &[u8]) -> Option<Event> {
    match (protocol, name) {
        (_, b"error") => Some(Event::Error),
        (Protocol::Live, b"session.started") => Some(Event::Started),
        (_, b"session.created" | b"session.updated") => Some(Event::Session),
        (Protocol::Realtime, b"transcription_session.created" | b"transcription_session.updated") => {
            Some(Event::Session)
        }
        (Protocol::Realtime | Protocol::Responses, b"response.created") => Some(Event::Created),
        (Protocol::Realtime, b"response.done") => Some(Event::Done),
        (Protocol::Responses, name) if is_terminal(name) => Some(Event::Done),
        (Protocol::Realtime | Protocol::Live, b"conversation.item.input_audio_transcription.completed") => {
            Some(Event::Transcribed)
        }
        (Protocol::Live, b"session.usage.updated" | b"session.closed") => Some(Event::Lasted),
        (Protocol::Live, name) if name.ends_with(b".event") || name.starts_with(b"decision.") => Some(Event::Wrapped),
        _ => None,
    }
}

/// The event that ends a response of the Responses API.
pub(super) fn is_terminal(name: &[u8]) -> bool {
    matches!(name, b"response.completed" | b"response.incomplete" | b"response.failed")
}

/// Takes the models that the event says serve.
pub(in crate::realtime::meter) fn observe_models(event: Event, captures: &Captures, models: &mut Models) {
    let said = match event {
        Event::Session | Event::Started => SESSION_MODEL,
        // A delegated response has a model of its own, which does not serve the session.
        Event::Created | Event::Done => RESPONSE_MODEL,
        _ => return,
    };
    if let Some(name) = name_at(captures, said) {
        models.said = Some(name);
    }
    // Switched off, the transcriptions that are still to come belong to the model that was named before.
    if let Some(name) = [TRANSCRIPTION, BETA_TRANSCRIPTION].into_iter().find_map(|index| model_in(captures, index)) {
        models.transcription = Some(name);
    }
}

fn model_in(captures: &Captures, index: usize) -> Option<String> {
    let object: Value = serde_json::from_slice(captures.raw(index)?).ok()?;
    object.get("model")?.as_str().filter(|name| !name.is_empty()).map(kept_name)
}

/// The error that the event tells.
pub(in crate::realtime::meter) fn error(event: Event, captures: &Captures) -> Option<MeterError> {
    match event {
        Event::Done | Event::Wrapped => {
            [RESPONSE_ERROR, STATUS_ERROR].into_iter().find_map(|index| error_at(captures, index))
        }
        Event::Error => Some(error_at(captures, ERROR).unwrap_or_else(|| {
            let text = |index| captures.raw(index).and_then(decode_string).map(cut_sentence);
            MeterError { code: text(CODE), kind: None, message: text(MESSAGE) }
        })),
        _ => None,
    }
}
