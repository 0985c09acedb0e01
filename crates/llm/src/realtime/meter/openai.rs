//! OpenAI's sockets: Realtime (with Qwen-Omni, which kept the beta's events), Responses, and Live. Usage comes once for
//! each response, when it is done, also if it was cancelled or failed; for each transcription of what the user said,
//! under its own model; and for Live as the seconds that the session has lasted, the last of which counts.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::json_scan::{Captures, Path, decode_string};
use crate::meter::MeterError;
use crate::peek::stable_hash;
use crate::realtime::{id_at, name_at};
use crate::usage::{Usage, UsageForm, parse};

use super::totals::{Running, Totals};
use super::units::{MOST_OPEN, Units};
use super::{Event, ModelRole, Models, Protocol, cut_sentence, error_at, kept_name};

/// So many of the latest responses and transcriptions are remembered, so that none counts twice.
const MOST_COUNTED: usize = 64;

pub(super) const TYPE: usize = 0;
const RESPONSE_ID: usize = 1;
const RESPONSE_MODEL: usize = 2;
const RESPONSE_USAGE: usize = 3;
const RESPONSE_ERROR: usize = 4;
const STATUS_ERROR: usize = 5;
const ERROR: usize = 6;
const USAGE: usize = 7;
const SESSION_MODEL: usize = 8;
const TRANSCRIPTION: usize = 9;
const BETA_TRANSCRIPTION: usize = 10;
const CODE: usize = 11;
const MESSAGE: usize = 12;
const ITEM_ID: usize = 13;
const CONTENT_INDEX: usize = 14;
const INNER_TYPE: usize = 15;
const DECISION_ID: usize = 16;
const DECISION_USAGE: usize = 17;
const DECISION_MODEL: usize = 18;
const BARE_DECISION_ID: usize = 19;
const BARE_DECISION_USAGE: usize = 20;
const BARE_DECISION_MODEL: usize = 21;

const NOWHERE: Path = &[];

pub(super) const PATHS: &[Path] = &[
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
pub(super) const LIVE_PATHS: &[Path] = &[
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
pub(super) fn event(protocol: Protocol, name: &[u8]) -> Option<Event> {
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
fn is_terminal(name: &[u8]) -> bool {
    matches!(name, b"response.completed" | b"response.incomplete" | b"response.failed")
}

/// Takes the models that the event says serve.
pub(super) fn observe_models(event: Event, captures: &Captures, models: &mut Models) {
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
pub(super) fn error(event: Event, captures: &Captures) -> Option<MeterError> {
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

/// The responses of one socket, and what else reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Responses {
    /// The ids of those that are being made, oldest first.
    open: Vec<String>,
    /// What identifies those that have counted, as hashes.
    counted: VecDeque<u64>,
    /// The seconds of a Live session.
    session: Running,
    /// Decisions of a Live session, by id.
    decisions: Units,
}

impl Responses {
    pub(super) fn open(&self) -> &[String] {
        &self.open
    }

    pub(super) fn observe(
        &mut self,
        protocol: Protocol,
        event: Event,
        captures: &Captures,
        models: &Models,
        totals: &mut Totals,
    ) {
        match event {
            Event::Created => self.create(captures),
            Event::Done => self.finish(protocol, captures, models, totals),
            Event::Transcribed => self.transcribe(captures, models, totals),
            // The seconds begin anew.
            Event::Started => totals.settle(&std::mem::take(&mut self.session)),
            Event::Lasted => {
                if let Some(usage) = totals.read(UsageForm::Openai, captures, USAGE) {
                    self.session.report(usage, models.main(), ModelRole::Main, totals);
                    self.recount(totals);
                }
            }
            Event::Wrapped => self.observe_wrapped(captures, models, totals),
            Event::Any | Event::Session | Event::Error => {}
        }
    }

    fn create(&mut self, captures: &Captures) {
        let Some(id) = id_at(captures, RESPONSE_ID).filter(|id| !self.open.contains(id)) else { return };
        if self.open.len() == MOST_OPEN {
            self.open.remove(0);
        }
        self.open.push(id);
    }

    fn finish(&mut self, protocol: Protocol, captures: &Captures, models: &Models, totals: &mut Totals) {
        let id = id_at(captures, RESPONSE_ID);
        self.open.retain(|open| Some(open) != id.as_ref());
        let usage = match protocol {
            Protocol::Realtime => read_realtime(captures, RESPONSE_USAGE, totals),
            _ => totals.read(UsageForm::Openai, captures, RESPONSE_USAGE),
        };
        let Some(usage) = usage else { return };
        if self.is_first(&[b"response", id.as_deref().unwrap_or_default().as_bytes()], id.is_some()) {
            let model = name_at(captures, RESPONSE_MODEL);
            totals.add(&usage, model.as_deref().or(models.main()), ModelRole::Main);
        }
    }

    fn transcribe(&mut self, captures: &Captures, models: &Models, totals: &mut Totals) {
        let Some(usage) = read_realtime(captures, USAGE, totals) else { return };
        let item = captures.raw(ITEM_ID);
        let part = captures.raw(CONTENT_INDEX).unwrap_or_default();
        if self.is_first(&[b"item", item.unwrap_or_default(), part], item.is_some()) {
            totals.add(&usage, models.transcription(), ModelRole::Transcription);
        }
    }

    fn observe_wrapped(&mut self, captures: &Captures, models: &Models, totals: &mut Totals) {
        let kind = captures.raw(INNER_TYPE).and_then(decode_string).unwrap_or_default();
        if kind == "response.created" {
            self.create(captures);
        } else if is_terminal(kind.as_bytes()) {
            self.finish(Protocol::Live, captures, models, totals);
        }
        for (id, usage, model) in [
            (DECISION_ID, DECISION_USAGE, DECISION_MODEL),
            (BARE_DECISION_ID, BARE_DECISION_USAGE, BARE_DECISION_MODEL),
        ] {
            let Some(usage) = totals.read(UsageForm::Openai, captures, usage) else { continue };
            let model = name_at(captures, model);
            let model = model.as_deref().or(models.main());
            match id_at(captures, id) {
                Some(id) => {
                    self.decisions.report(&id, usage, model, false, totals);
                    self.recount(totals);
                }
                None => totals.add(&usage, model, ModelRole::Main),
            }
        }
    }

    fn recount(&self, totals: &mut Totals) {
        totals.recount(self.decisions.running().chain(std::iter::once(&self.session)));
    }

    /// Whether what is identified by `parts` has not counted yet. What has no id always counts.
    fn is_first(&mut self, parts: &[&[u8]], has_id: bool) -> bool {
        let hash = stable_hash(parts);
        if !has_id {
            return true;
        }
        if self.counted.contains(&hash) {
            return false;
        }
        if self.counted.len() == MOST_COUNTED {
            self.counted.pop_front();
        }
        self.counted.push_back(hash);
        true
    }
}

/// Qwen's realtime speech and recognition report characters and a `duration` as DashScope's other services do, alone or
/// beside OpenAI's tokens.
fn read_realtime(captures: &Captures, index: usize, totals: &mut Totals) -> Option<Usage> {
    let usage = totals.read(UsageForm::Openai, captures, index);
    let Some(native) = captures.raw(index).and_then(|raw| parse(UsageForm::Dashscope, raw).usage) else { return usage };
    let mut usage = usage.unwrap_or_default();
    usage.characters = usage.characters.or(native.characters);
    usage.seconds_ms = usage.seconds_ms.or(native.seconds_ms);
    (!usage.is_empty()).then_some(usage)
}

/// What ends each of the `open` responses. Without the id, only one in the default conversation would end.
pub(super) fn cancel(open: &[String]) -> Vec<String> {
    open.iter().map(|id| json!({"type": "response.cancel", "response_id": id}).to_string()).collect()
}
