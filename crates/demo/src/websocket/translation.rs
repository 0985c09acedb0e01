//! OpenAI translations on a socket: sound in, the same sound and a transcript out, 200 ms at a time.
//!
//! They tell no usage: the provider bills the sound by its length.

use bytes::Bytes;
use serde_json::{Value, json};

use super::realtime::{error_event, not_text};
use super::{Dialogue, Outbox, Step};
use crate::realtime::{Ids, extend};
use crate::{base64, words};

/// 200 ms of 16-bit mono samples at 24 kHz.
const FRAME_BYTES: usize = 9600;
const FRAME_MILLISECONDS: u64 = 200;
const SAID: &str = "This is what the AIProxy demo upstream translated. ";

/// A translation session.
#[derive(Debug)]
pub(super) struct Translation {
    ids: Ids,
    session: Value,
    /// Less than a frame of sound.
    rest: Vec<u8>,
    frames: u64,
}

impl Translation {
    pub(super) fn new(model: &str) -> Self {
        let mut ids = Ids::new();
        let session = json!({"id": ids.next("sess_"), "type": "translation", "model": model,
            "expires_at": aiproxy_core::time::unix_ms() / 1000 + 3600,
            "audio": {"input": {"noise_reduction": null, "transcription": null}, "output": {"language": "en"}}});
        Self { ids, session, rest: Vec::new(), frames: 0 }
    }

    fn say(&mut self, kind: &str, more: Value, outbox: &mut Outbox) {
        let mut event = json!({"type": kind, "event_id": self.ids.next("event_")});
        extend(&mut event, more);
        outbox.event(event);
    }

    fn show(&mut self, kind: &str, outbox: &mut Outbox) {
        self.say(kind, json!({"session": self.session}), outbox);
    }

    /// Translates every whole frame; at the end also what is left.
    fn translate(&mut self, is_end: bool, outbox: &mut Outbox) {
        let sound = std::mem::take(&mut self.rest);
        for frame in sound.chunks(FRAME_BYTES) {
            if frame.len() < FRAME_BYTES && !is_end {
                self.rest = frame.to_vec();
                break;
            }
            let pieces = words::pieces(SAID);
            let word = &pieces[(self.frames % pieces.len() as u64) as usize];
            let elapsed = self.frames * FRAME_MILLISECONDS;
            self.frames += 1;
            let words = json!({"delta": word, "elapsed_ms": elapsed});
            if self.session["audio"]["input"]["transcription"].is_object() {
                self.say("session.input_transcript.delta", words.clone(), outbox);
            }
            self.say("session.output_transcript.delta", words, outbox);
            let sound = json!({"delta": base64::encode(frame), "sample_rate": 24_000, "channels": 1,
                "format": "pcm16", "elapsed_ms": elapsed});
            self.say("session.output_audio.delta", sound, outbox);
        }
    }

    fn update(&mut self, asked: &Value, outbox: &mut Outbox) {
        let audio = &asked["audio"];
        for (pointer, change) in [
            ("/audio/input/transcription", audio["input"].get("transcription")),
            ("/audio/input/noise_reduction", audio["input"].get("noise_reduction")),
            ("/audio/output/language", audio["output"].get("language")),
        ] {
            if let (Some(place), Some(change)) = (self.session.pointer_mut(pointer), change) {
                *place = change.clone();
            }
        }
        self.show("session.updated", outbox);
    }
}

impl Dialogue for Translation {
    fn opening(&mut self, outbox: &mut Outbox) {
        self.show("session.created", outbox);
    }

    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        match event["type"].as_str() {
            Some("session.update") => self.update(&event["session"], outbox),
            Some("session.input_audio_buffer.append") => match event["audio"].as_str().and_then(base64::decode) {
                Some(sound) => {
                    self.rest.extend(sound);
                    self.translate(false, outbox);
                }
                None => outbox.event(error_event("invalid_value", "Invalid 'audio'. Expected base64-encoded audio.")),
            },
            Some("session.close") => {
                self.translate(true, outbox);
                self.say("session.closed", json!({}), outbox);
                outbox.push(Step::Close(1000, String::new()));
            }
            _ => outbox.event(error_event("invalid_event", "The 'type' field is missing or unknown.")),
        }
    }

    fn binary(&mut self, _bytes: &Bytes, outbox: &mut Outbox) {
        outbox.event(not_text());
    }
}
