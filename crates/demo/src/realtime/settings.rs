//! The session object: what the client may set, and what the demo reads from it.

use serde_json::{Value, json};

use super::{Fault, extend};

/// OpenAI ends a session after this many seconds.
const LONGEST_SESSION: u64 = 60 * 60;
/// Objects within objects of a session are merged down to here; whatever is deeper is replaced whole.
const DEEPEST_MERGE: usize = 8;

/// How sound is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// 16-bit little-endian samples at so many hertz.
    Pcm(u32),
    /// G.711 µ-law at 8 kHz.
    MuLaw,
    /// G.711 A-law at 8 kHz.
    ALaw,
}

impl Format {
    fn of(format: &Value) -> Self {
        match format["type"].as_str() {
            Some("audio/pcmu") => Self::MuLaw,
            Some("audio/pcma") => Self::ALaw,
            _ => {
                let rate = format["rate"].as_u64().and_then(|rate| u32::try_from(rate).ok());
                Self::Pcm(rate.unwrap_or(24_000).clamp(8_000, 48_000))
            }
        }
    }

    fn bytes_per_second(self) -> u64 {
        match self {
            Self::Pcm(rate) => u64::from(rate) * 2,
            Self::MuLaw | Self::ALaw => 8_000,
        }
    }

    /// How long so many bytes last.
    pub(super) fn milliseconds(self, bytes: usize) -> u64 {
        bytes as u64 * 1000 / self.bytes_per_second()
    }

    /// How many bytes last so long; always whole samples.
    pub(super) fn bytes(self, milliseconds: u64) -> usize {
        match self {
            Self::Pcm(rate) => (milliseconds * u64::from(rate) / 1000 * 2) as usize,
            Self::MuLaw | Self::ALaw => (milliseconds * 8) as usize,
        }
    }

    /// The demo's voice: a tone as PCM, silence in G.711.
    pub(super) fn voice(self, milliseconds: u64) -> Vec<u8> {
        match self {
            Self::Pcm(rate) => crate::sound::pcm_at(rate, milliseconds),
            Self::MuLaw => vec![0xff; self.bytes(milliseconds)],
            Self::ALaw => vec![0xd5; self.bytes(milliseconds)],
        }
    }
}

/// The settings of a session, kept as the object that the client sees.
#[derive(Debug)]
pub(super) struct Settings(Value);

impl Settings {
    pub(super) fn new(id: &str, model: &str, asked: Option<&Value>) -> Self {
        let expires_at = aiproxy_core::time::unix_ms() / 1000 + LONGEST_SESSION;
        let format = json!({"type": "audio/pcm", "rate": 24_000});
        let input = json!({"format": format, "transcription": null, "noise_reduction": null, "turn_detection": null});
        let mut session = match asked.map(|asked| &asked["type"]) {
            Some(kind) if kind == "transcription" => json!({"type": "transcription",
                "object": "realtime.transcription_session", "id": id, "expires_at": expires_at,
                "audio": {"input": input}, "include": null}),
            _ => json!({"type": "realtime", "object": "realtime.session", "id": id, "model": model,
                "output_modalities": ["audio"], "instructions": "", "tools": [], "tool_choice": "auto",
                "max_output_tokens": "inf", "tracing": null, "truncation": "auto", "prompt": null,
                "expires_at": expires_at, "include": null,
                "audio": {"input": input, "output": {"format": format, "voice": "marin", "speed": 1.0}}}),
        };
        if let Some(asked) = asked {
            merge(&mut session, asked, DEEPEST_MERGE);
            extend(&mut session, json!({"id": id, "expires_at": expires_at}));
        }
        Self(session)
    }

    /// The session as the client sees it.
    pub(super) fn shown(&self) -> Value {
        self.0.clone()
    }

    /// Changes what `session.update` names. The model is set for good when the session begins.
    pub(super) fn update(&mut self, session: &Value) -> Result<(), Fault> {
        if !session.is_object() {
            return Err(Fault::missing("session"));
        }
        let fixed = [("session.model", "model"), ("session.type", "type")];
        for (param, name) in fixed {
            if !session[name].is_null() && session[name] != self.0[name] {
                let message = format!("Cannot update the session's {name} once the session has begun.");
                return Err(Fault::new("invalid_value", message).param(param));
            }
        }
        let (id, expires_at) = (self.0["id"].clone(), self.0["expires_at"].clone());
        merge(&mut self.0, session, DEEPEST_MERGE);
        extend(&mut self.0, json!({"id": id, "expires_at": expires_at}));
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> &Value {
        &self.0[name]
    }

    pub(super) fn model(&self) -> &str {
        self.0["model"].as_str().unwrap_or_default()
    }

    pub(super) fn is_transcription(&self) -> bool {
        self.0["type"] == "transcription"
    }

    /// How the client sends sound.
    pub(super) fn input(&self) -> Format {
        Format::of(&self.0["audio"]["input"]["format"])
    }

    /// How the demo sends sound.
    pub(super) fn output(&self) -> Format {
        Format::of(&self.0["audio"]["output"]["format"])
    }

    pub(super) fn detects_turns(&self) -> bool {
        self.0["audio"]["input"]["turn_detection"].is_object()
    }

    /// The model that writes down what the client says.
    pub(super) fn transcription_model(&self) -> Option<&str> {
        self.0["audio"]["input"]["transcription"]["model"].as_str()
    }

    pub(super) fn transcription_prompt(&self) -> &str {
        self.0["audio"]["input"]["transcription"]["prompt"].as_str().unwrap_or_default()
    }
}

/// Puts `changes` over `value`, member by member.
fn merge(value: &mut Value, changes: &Value, depth: usize) {
    match (value, changes) {
        (Value::Object(object), Value::Object(changes)) if depth > 0 => {
            for (name, change) in changes {
                merge(object.entry(name).or_insert(Value::Null), change, depth - 1);
            }
        }
        (value, changes) => *value = changes.clone(),
    }
}
