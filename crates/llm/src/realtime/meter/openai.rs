//! OpenAI's sockets: Realtime (with Qwen-Omni, which kept the beta's events), Responses, and Live. Usage comes once for
//! each response, when it is done, also if it was cancelled or failed; for each transcription of what the user said,
//! under its own model; and for Live as the seconds that the session has lasted, the last of which counts.

mod events;

use std::collections::VecDeque;

use serde_json::json;

use crate::json_scan::{Captures, decode_string};
use crate::peek::stable_hash;
use crate::realtime::values::{id_at, name_at};
use crate::usage::{Usage, UsageForm, parse};

use super::totals::{Running, Totals};
use super::units::{MOST_OPEN, Units};
use super::{Event, ModelRole, Models, Protocol};

use events::{
    BARE_DECISION_ID, BARE_DECISION_MODEL, BARE_DECISION_USAGE, CONTENT_INDEX, DECISION_ID, DECISION_MODEL,
    DECISION_USAGE, INNER_TYPE, ITEM_ID, RESPONSE_ID, RESPONSE_MODEL, RESPONSE_USAGE, USAGE, is_terminal,
};
pub(super) use events::{LIVE_PATHS, PATHS, TYPE, error, event, observe_models};

/// So many of the latest responses and transcriptions are remembered, so that none counts twice.
const MOST_COUNTED: usize = 64;

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
