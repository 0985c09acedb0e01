//! What is said on a socket: the client's messages, all alike, and to each one answer of the upstream.
//!
//! So many exchanges make a turn. Both ends know every byte of it, and compare. The ids of responses differ from turn to
//! turn, because a gateway that meters counts none twice.

use std::io::Write;

use aiproxy_llm::websocket::Opcode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::payload::Random;

/// Exchanges of a turn in which sound comes back: a response begins, 48 pieces, it is done.
const TURN: usize = 50;
/// 32 ms of sound as Realtime has it by default: 24,000 samples a second, two bytes each. 2,048 characters in base64.
const SOUND_BYTES: usize = 1_536;

/// What one response says that it has used.
pub(crate) const INPUT_TOKENS: u64 = 127;
pub(crate) const OUTPUT_TOKENS: u64 = 148;

/// Stands where the number of a turn is written.
const ID: &str = "resp_0123456789abcdef";
const ID_PREFIX: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Talk {
    /// Sound to and fro in a Realtime session: JSON that a gateway has to look at, and usage with the end of each
    /// response.
    Realtime,
    /// The same with a response that ends as soon as it has begun: what a session that is idle has behind it.
    RealtimeShort,
    /// The same binary message to and fro, on a path that no gateway knows.
    Echo,
}

/// All messages of a talk.
pub(crate) struct Conversation {
    pub(crate) path: &'static str,
    pub(crate) opcode: Opcode,
    /// What the client says each time.
    pub(crate) question: Vec<u8>,
    answers: Vec<Answer>,
}

struct Answer {
    bytes: Vec<u8>,
    /// Where the sixteen digits of its turn stand, if it has any.
    turn_at: Option<usize>,
}

impl Talk {
    /// Whether each turn tells what it used, and AIProxy counts it.
    pub(crate) fn is_metered(self) -> bool {
        self != Self::Echo
    }

    pub(crate) fn conversation(self) -> Conversation {
        let sound = sound();
        match self {
            Self::Realtime | Self::RealtimeShort => {
                let pieces = if self == Self::Realtime { TURN - 2 } else { 0 };
                let mut answers = vec![Answer::new(&response("response.created", "in_progress", &Value::Null))];
                answers.extend((0..pieces).map(|_| Answer::new(&delta(&sound))));
                answers.push(Answer::new(&response("response.done", "completed", &usage())));
                let question = json!({"type": "input_audio_buffer.append", "audio": sound}).to_string().into_bytes();
                Conversation { path: "/v1/realtime?model=gpt-realtime", opcode: Opcode::Text, question, answers }
            }
            Self::Echo => {
                let question = sound.into_bytes();
                let answers = (0..TURN).map(|_| Answer { bytes: question.clone(), turn_at: None }).collect();
                Conversation { path: "/v1/echo", opcode: Opcode::Binary, question, answers }
            }
        }
    }
}

impl Conversation {
    /// Exchanges of one turn.
    pub(crate) fn turn(&self) -> u64 {
        self.answers.len() as u64
    }

    /// The answer to the message of this number of one socket, counted from 0.
    pub(crate) fn answer(&self, number: u64, out: &mut Vec<u8>) {
        out.clear();
        let (turn, place) = (number / self.turn(), number % self.turn());
        let Some(answer) = self.answers.get(place as usize) else { return };
        out.extend_from_slice(&answer.bytes);
        if let Some(mut digits) = answer.turn_at.and_then(|at| out.get_mut(at..at + ID.len() - ID_PREFIX)) {
            write!(digits, "{turn:016x}").ok();
        }
    }

    /// Bytes of the longest message.
    pub(crate) fn longest(&self) -> usize {
        let answers = self.answers.iter().map(|answer| answer.bytes.len());
        answers.fold(self.question.len(), usize::max)
    }
}

impl Answer {
    fn new(event: &Value) -> Self {
        let bytes = event.to_string().into_bytes();
        let turn_at = memchr::memmem::find(&bytes, ID.as_bytes()).map(|at| at + ID_PREFIX);
        Self { bytes, turn_at }
    }
}

fn sound() -> String {
    let mut random = Random::new(24_000);
    let bytes: Vec<u8> = (0..SOUND_BYTES).map(|_| (random.next() >> 56) as u8).collect();
    STANDARD.encode(bytes)
}

fn delta(sound: &str) -> Value {
    json!({"type": "response.output_audio.delta", "event_id": "event_bench0000000000002", "response_id": ID,
        "item_id": "item_bench0000000000001", "output_index": 0, "content_index": 0, "delta": sound})
}

/// Beginning and end of a response, as OpenAI sends them.
fn response(kind: &str, status: &str, usage: &Value) -> Value {
    let output = if usage.is_null() {
        json!([])
    } else {
        json!([{"id": "item_bench0000000000001", "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_audio", "transcript": "Hello! How can I help you today?"}]}])
    };
    json!({"type": kind, "event_id": "event_bench0000000000001", "response": {"object": "realtime.response", "id": ID,
        "status": status, "status_details": null, "output": output, "conversation_id": "conv_bench0000000000001",
        "output_modalities": ["audio"], "max_output_tokens": "inf",
        "audio": {"output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "marin"}},
        "usage": usage, "metadata": null}})
}

fn usage() -> Value {
    json!({"total_tokens": INPUT_TOKENS + OUTPUT_TOKENS, "input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS,
        "input_token_details": {"text_tokens": 119, "audio_tokens": 8, "image_tokens": 0, "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0}},
        "output_token_details": {"text_tokens": 36, "audio_tokens": 112}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(conversation: &Conversation, number: u64) -> Value {
        let mut out = Vec::new();
        conversation.answer(number, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_turn_is_one_response_with_an_id_of_its_own() {
        let conversation = Talk::Realtime.conversation();
        let kinds: Vec<Value> = (0..51).map(|number| said(&conversation, number)["type"].clone()).collect();
        assert_eq!(
            (&kinds[0], &kinds[49], &kinds[50]),
            (&json!("response.created"), &json!("response.done"), &kinds[0])
        );
        assert!(kinds[1..49].iter().all(|kind| kind == "response.output_audio.delta"));
        assert_eq!(said(&conversation, 49)["response"]["id"], "resp_0000000000000000");
        assert_eq!(said(&conversation, 50)["response"]["id"], "resp_0000000000000001");
        assert_eq!(said(&conversation, 51)["response_id"], "resp_0000000000000001");
        assert_eq!(said(&conversation, 49)["response"]["usage"]["input_tokens"], INPUT_TOKENS);
    }

    #[test]
    fn an_echo_is_what_was_said() {
        let conversation = Talk::Echo.conversation();
        let mut out = Vec::new();
        conversation.answer(7, &mut out);
        assert_eq!((out.len(), &out), (2_048, &conversation.question));
    }
}
