//! Every byte that is sent: proxy keys, request bodies, and the upstream's pre-baked answers.
//!
//! All deterministic, so that two runs and two proxies see the same traffic.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// As many users as a large company has, each with one key.
pub(crate) const USERS: usize = 10_000;
/// And many more, for what must not depend on their number.
pub(crate) const MANY_USERS: usize = 100_000;
/// The secret that only the upstream may see.
pub(crate) const REAL_KEY: &str = "sk-bench-0123456789abcdefghijklmnopqrstuvwxyzABCD";
/// Chunks with content in the fast stream.
pub(crate) const FAST_CHUNKS: usize = 50;
/// Chunks with content in the slow stream, and the pause between them: two seconds, so that the first stream still runs
/// when the last of 2,000 begins.
pub(crate) const SLOW_CHUNKS: usize = 40;
pub(crate) const SLOW_PAUSE_MS: u64 = 50;

pub(crate) const MODEL: &str = "gpt-4o-mini";
const PROMPT_BYTES: usize = 100 * 1024;

/// The proxy key of one user. All have the same length, so that a request is patched in place.
pub(crate) fn proxy_key(user: usize) -> String {
    let mut seed = Random::new(user as u64 + 1);
    format!("pk-bench-{user:05}-{:016x}{:016x}", seed.next(), seed.next())
}

/// The key that user 0 has after the reload of this number, as long as any other.
pub(crate) fn changed_key(reload: u64) -> String {
    let mut seed = Random::new(reload + 10_000_000);
    format!("pk-bench-{:05}-{:016x}{:016x}", 0, seed.next(), seed.next())
}

/// A key that nobody has.
pub(crate) fn unknown_key() -> String {
    proxy_key(MANY_USERS)
}

/// The real key of one of several credentials of one of several channels.
pub(crate) fn real_key(channel: usize, credential: usize) -> String {
    format!("sk-bench-{channel:02}-{credential:02}-6789abcdefghijklmnopqrstuvwxyzABCD")
}

pub(crate) fn user_id(user: usize) -> String {
    format!("user{user:05}")
}

/// Xorshift: enough to choose a key, and not a dependency.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 33) as usize) % bound.max(1)
    }
}

/// Which body a workload sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prompt {
    Small,
    Large,
    Stream { include_usage: bool },
}

impl Prompt {
    pub(crate) fn body(self) -> Vec<u8> {
        let small = "Say hello in one short sentence.";
        match self {
            Self::Small => chat(&Value::from(small).to_string(), ""),
            Self::Large => chat(&large_prompt(), ""),
            Self::Stream { include_usage: false } => chat(&Value::from(small).to_string(), ",\"stream\":true"),
            Self::Stream { include_usage: true } => {
                chat(&Value::from(small).to_string(), ",\"stream\":true,\"stream_options\":{\"include_usage\":true}")
            }
        }
    }
}

fn chat(content: &str, tail: &str) -> Vec<u8> {
    format!(
        "{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}},\
         {{\"role\":\"user\",\"content\":{content}}}],\"temperature\":0.2{tail}}}"
    )
    .into_bytes()
}

/// Source code and prose as people paste it: line ends, quotes, backslashes, raw UTF-8 and the escapes that Python makes.
fn large_prompt() -> String {
    const PARAGRAPH: &str = "Line {n}: fn main() {\\n\\tprintln!(\\\"hello, \\\\\\\"world\\\\\\\"\\\");\\n}\\n\
        请总结这段话的要点，并用一句话回答。\\n\\u4f60\\u597d \\ud83d\\ude80 🚀 naïve café\\r\\n\
        The quick brown fox jumps over the lazy dog while the gateway counts every token it is allowed to spend.\\n";
    let mut text = String::with_capacity(PROMPT_BYTES + 512);
    text.push('"');
    let mut line = 0_usize;
    while text.len() < PROMPT_BYTES {
        text.push_str(&PARAGRAPH.replace("{n}", &line.to_string()));
        line += 1;
    }
    text.push('"');
    text
}

/// A whole request, and where in it the key stands.
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) key_at: usize,
}

impl Request {
    pub(crate) fn new(key: &str, body: &[u8]) -> Self {
        let mut head = String::from(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.internal\r\nUser-Agent: OpenAI/Python 1.59.6\r\n\
             Accept: application/json\r\nContent-Type: application/json\r\nAuthorization: Bearer ",
        );
        let key_at = head.len();
        head.push_str(key);
        write!(head, "\r\nContent-Length: {}\r\n\r\n", body.len()).ok();
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        Self { bytes, key_at }
    }
}

/// The small answer, some 700 bytes as OpenAI sends it.
pub(crate) fn answer() -> Vec<u8> {
    json!({
        "id": "chatcmpl-bench000000000000000000000001", "object": "chat.completion", "created": 1_735_689_600,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello! How can I help you today?",
            "refusal": null, "annotations": []}, "logprobs": null, "finish_reason": "stop"}],
        "usage": usage(), "service_tier": "default", "system_fingerprint": "fp_bench00001"
    })
    .to_string()
    .into_bytes()
}

fn usage() -> Value {
    json!({"prompt_tokens": 24, "completion_tokens": 50, "total_tokens": 74,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}})
}

/// One SSE event of a streamed chat. With `with_usage` every chunk carries the field, as OpenAI does it.
fn event(choices: &Value, with_usage: Option<&Value>) -> String {
    let mut chunk = json!({"id": "chatcmpl-bench000000000000000000000001", "object": "chat.completion.chunk",
        "created": 1_735_689_600, "model": "gpt-4o-mini-2024-07-18", "service_tier": "default",
        "system_fingerprint": "fp_bench00001", "choices": choices});
    if let Some(usage) = with_usage {
        chunk["usage"] = usage.clone();
    }
    format!("data: {chunk}\n\n")
}

/// All events of a stream: `chunks` with content, the usage if it was asked for, `[DONE]`.
pub(crate) fn events(chunks: usize, include_usage: bool) -> Vec<String> {
    let null = include_usage.then_some(Value::Null);
    let mut all: Vec<String> = (0..chunks)
        .map(|number| {
            let finish = if number + 1 == chunks { json!("stop") } else { Value::Null };
            let choices = json!([{"index": 0, "delta": {"content": word(number)}, "logprobs": null,
                "finish_reason": finish}]);
            event(&choices, null.as_ref())
        })
        .collect();
    if include_usage {
        all.push(event(&json!([]), Some(&usage())));
    }
    all.push("data: [DONE]\n\n".to_owned());
    all
}

/// The content of one chunk.
pub(crate) fn word(number: usize) -> String {
    format!(" word{number:02}")
}
