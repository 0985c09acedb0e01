//! Qwen-Omni realtime: the session of `crate::realtime` in the words of OpenAI's beta (`protocols.md` §2.12).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::realtime::{error_event, not_text, say};
use super::{Dialogue, Outbox, Step};
use crate::magic::Magic;
use crate::realtime::{Ids, RealtimeSession, extend};

/// Sound goes in at 16 kHz and comes out at 24 kHz.
const INPUT_RATE: u64 = 16_000;

/// A session of Qwen-Omni.
#[derive(Debug)]
pub(super) struct Qwen {
    session: RealtimeSession,
    magic: Magic,
    ids: Ids,
    /// The session object as the client sees it: everything at the top.
    shown: Value,
}

impl Qwen {
    pub(super) fn new(model: &str) -> Self {
        let input = json!({"format": {"type": "audio/pcm", "rate": INPUT_RATE}});
        let session = RealtimeSession::new(model, Some(&json!({"audio": {"input": input}})));
        let mut ids = Ids::new();
        let shown = json!({"id": ids.next("sess_"), "object": "realtime.session", "model": model,
            "modalities": ["text", "audio"], "instructions": "", "voice": "Cherry", "input_audio_format": "pcm16",
            "output_audio_format": "pcm24", "input_audio_transcription": null, "turn_detection": null, "tools": []});
        Self { session, magic: Magic::of(model), ids, shown }
    }

    fn show(&mut self, kind: &str, outbox: &mut Outbox) {
        outbox.event(json!({"type": kind, "event_id": self.ids.next("event_"), "session": self.shown}));
    }

    /// Passes on what an update changes, in the words of the session.
    fn update(&mut self, asked: &Value, outbox: &mut Outbox) {
        let Some(changes) = asked.as_object() else {
            return outbox.event(error_event("missing_required_parameter", "Missing required parameter: 'session'."));
        };
        if changes.get("model").is_some_and(|model| *model != self.shown["model"]) {
            return outbox.event(error_event("invalid_value", "Cannot update the session's model."));
        }
        let mut session = Map::new();
        for (name, value) in changes {
            match name.as_str() {
                "modalities" => session.insert("output_modalities".to_owned(), value.clone()),
                "instructions" | "tools" => session.insert(name.clone(), value.clone()),
                _ => None,
            };
        }
        let input: Map<String, Value> =
            [("input_audio_transcription", "transcription"), ("turn_detection", "turn_detection")]
                .into_iter()
                .filter_map(|(theirs, ours)| Some((ours.to_owned(), changes.get(theirs)?.clone())))
                .collect();
        session.insert("audio".to_owned(), json!({"input": input}));
        self.session.client_event(&json!({"type": "session.update", "session": session}));
        extend(&mut self.shown, asked.clone());
        self.show("session.updated", outbox);
    }
}

impl Dialogue for Qwen {
    fn opening(&mut self, outbox: &mut Outbox) {
        self.show("session.created", outbox);
    }

    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        let Ok(mut event) = serde_json::from_str::<Value>(text) else {
            return outbox.event(error_event("invalid_json", "Could not parse the event as JSON."));
        };
        match event["type"].as_str() {
            Some("session.update") => self.update(&event["session"], outbox),
            Some("session.finish") => {
                outbox.event(json!({"type": "session.finished", "event_id": self.ids.next("event_")}));
                outbox.push(Step::Close(1000, String::new()));
            }
            _ => {
                if let Some(modalities) = event["response"].get("modalities").cloned() {
                    event["response"]["output_modalities"] = modalities;
                }
                say(&mut self.session, self.magic, &event, outbox);
            }
        }
    }

    fn binary(&mut self, _bytes: &Bytes, outbox: &mut Outbox) {
        outbox.event(not_text());
    }

    fn worded(&self, mut event: Value) -> Option<Value> {
        let kind = event["type"].as_str().unwrap_or_default();
        let kind = match kind {
            "conversation.item.added" => "conversation.item.created".to_owned(),
            "conversation.item.done" => return None,
            kind => {
                kind.replace("response.output_audio", "response.audio").replace("response.output_text", "response.text")
            }
        };
        event["type"] = json!(kind);
        if let Some(response) = event.get_mut("response") {
            let modalities = response.as_object_mut().and_then(|response| response.remove("output_modalities"));
            response["modalities"] = modalities.unwrap_or_default();
            if let Some(usage) = response["usage"].as_object_mut() {
                for name in ["input_token_details", "output_token_details"] {
                    let details = usage.remove(name).unwrap_or_default();
                    usage.insert(name.replace("token_", "tokens_"), details);
                }
            }
        }
        Some(event)
    }
}
