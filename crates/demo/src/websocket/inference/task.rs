//! One task: what it says or hears, and what that costs.
//!
//! Speech costs characters of its text, two for each Chinese ideograph. Listening costs seconds of sound, rounded up.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Step, event, failed, invalid};
use crate::magic::Magic;
use crate::refusal::Refusal;
use crate::route::Dialect;
use crate::sound;
use crate::websocket::outbox::broken;

/// Characters in one `continue-task`, and in a task.
const MOST_CHARACTERS: (usize, usize) = (20_000, 200_000);
const SOUND_PIECE: usize = 4096;
/// A listener ends a sentence after so many seconds.
const SENTENCE_SECONDS: u64 = 5;
const HEARD: &str = "This is what the AIProxy demo upstream heard.";
const STEPS_BEFORE_ERROR: usize = 2;

/// A running task.
#[derive(Debug)]
pub(super) struct Task {
    id: String,
    magic: Magic,
    format: String,
    sample_rate: u32,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Speaks {
        /// Characters of text so far, as they are billed.
        billed: u64,
        characters: usize,
    },
    Listens {
        /// Bytes of sound so far.
        heard: u64,
        /// Whole seconds at which the current sentence began, and up to which it was told.
        sentence: u64,
        told: u64,
    },
}

impl Task {
    pub(super) fn new(id: &str, payload: &Value) -> Result<Self, Refusal> {
        let work = match payload["task"].as_str() {
            Some("tts") => Work::Speaks { billed: 0, characters: 0 },
            Some("asr") => Work::Listens { heard: 0, sentence: 0, told: 0 },
            _ => return Err(invalid("task must be tts or asr")),
        };
        let parameters = &payload["parameters"];
        let (format, rate) = match work {
            Work::Speaks { .. } => ("mp3", 22_050),
            Work::Listens { .. } => ("pcm", 16_000),
        };
        let sample_rate = parameters["sample_rate"].as_u64().and_then(|rate| u32::try_from(rate).ok()).unwrap_or(rate);
        Ok(Self {
            id: id.to_owned(),
            magic: Magic::of(payload["model"].as_str().unwrap_or_default()),
            format: parameters["format"].as_str().unwrap_or(format).to_owned(),
            sample_rate: sample_rate.clamp(8_000, 48_000),
            work,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn listens(&self) -> bool {
        matches!(self.work, Work::Listens { .. })
    }

    /// Says a text: its sound, then what has been said in all.
    pub(super) fn go_on(&mut self, input: &Value) -> Result<Vec<Step>, Refusal> {
        let Work::Speaks { billed, characters } = &mut self.work else { return Ok(Vec::new()) };
        let text = input["text"].as_str().ok_or_else(|| invalid("input.text"))?;
        let count = text.chars().count();
        *characters += count;
        if count > MOST_CHARACTERS.0 || *characters > MOST_CHARACTERS.1 {
            return Err(invalid("input.text is too long"));
        }
        let is_first = *billed == 0;
        *billed += self::billed(text);
        let usage = json!({"characters": *billed});
        let result =
            event(&self.id, "result-generated", json!({"output": {"sentence": {"words": []}}, "usage": usage}));
        let sound = self.voice(sound::milliseconds(text), is_first);
        let mut steps = vec![result];
        steps.extend(sound.chunks(SOUND_PIECE).map(|piece| Step::Binary(Bytes::copy_from_slice(piece))));
        Ok(match self.magic {
            Magic::Break => broken(steps),
            Magic::ErrorInStream => {
                steps.truncate(STEPS_BEFORE_ERROR);
                steps.push(failed(&self.id, &Refusal::genuine(500, Dialect::DashScope)));
                steps
            }
            _ => steps,
        })
    }

    /// Hears sound: each whole second is told, and each sentence ends with the usage so far.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Vec<Step> {
        let rate = self.bytes_per_second();
        let Work::Listens { heard, sentence, told } = &mut self.work else { return Vec::new() };
        *heard += bytes.len() as u64;
        let seconds = *heard / rate;
        let mut steps = Vec::new();
        while *told < seconds {
            *told += 1;
            let is_end = *told - *sentence >= SENTENCE_SECONDS;
            steps.push(result(&self.id, *sentence, *told, is_end));
            if is_end {
                *sentence = *told;
            }
        }
        if self.magic == Magic::Break && !steps.is_empty() { broken(steps) } else { steps }
    }

    /// Ends the task with what it cost.
    pub(super) fn finish(&mut self) -> Vec<Step> {
        let rate = self.bytes_per_second();
        let mut steps = Vec::new();
        let usage = match &self.work {
            Work::Speaks { billed, .. } => json!({"characters": billed}),
            Work::Listens { heard, sentence, .. } => {
                let seconds = heard.div_ceil(rate);
                if seconds > *sentence {
                    steps.push(result(&self.id, *sentence, seconds, true));
                }
                Value::Null
            }
        };
        let mut payload = json!({"output": {"sentence": {"words": []}}, "usage": usage});
        if self.listens() {
            payload["output"] = json!({});
        }
        steps.push(event(&self.id, "task-finished", payload));
        steps
    }

    /// How long sound of this format takes on the wire: PCM by its rate, anything else as if it were 128 kbit/s.
    fn bytes_per_second(&self) -> u64 {
        if self.format == "pcm" { u64::from(self.sample_rate) * 2 } else { 16_000 }
    }

    fn voice(&self, milliseconds: u64, is_first: bool) -> Vec<u8> {
        match self.format.as_str() {
            "pcm" => sound::pcm_at(self.sample_rate, milliseconds),
            // Only the first piece of a file has its header.
            "wav" if is_first => sound::wav(milliseconds),
            "wav" => sound::pcm(milliseconds),
            _ => sound::mp3(milliseconds),
        }
    }
}

/// A sentence, as far as it was heard. Only a whole one tells the usage.
fn result(id: &str, from: u64, to: u64, is_end: bool) -> Step {
    let words = json!([{"begin_time": from * 1000, "end_time": to * 1000, "text": HEARD, "punctuation": ""}]);
    let end_time = if is_end { json!(to * 1000) } else { Value::Null };
    let sentence = json!({"begin_time": from * 1000, "end_time": end_time, "text": HEARD, "words": words,
        "sentence_end": is_end});
    let usage = if is_end { json!({"duration": to}) } else { Value::Null };
    event(id, "result-generated", json!({"output": {"sentence": sentence}, "usage": usage}))
}

/// Two for a Chinese ideograph, one for any other character.
fn billed(text: &str) -> u64 {
    let is_ideograph = |character| matches!(character, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}');
    text.chars().map(|character| if is_ideograph(character) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::billed;

    #[test]
    fn ideographs_are_billed_twice() {
        assert_eq!(["", "hello", "你好", "你好, all！"].map(billed), [0, 5, 4, 10]);
    }
}
