//! Gemini Live: `setup` first, then turns. JSON comes as text or binary and goes out as binary (`protocols.md` §2.13).
//!
//! Sound costs 25 tokens a second in either direction, text what `tokens` says; every turn pays for the context again.

use bytes::Bytes;
use serde_json::{Value, json};

use super::outbox::broken;
use super::plain::close_on_purpose;
use super::{Dialogue, Outbox, Step};
use crate::answer::Content;
use crate::gemini::{generate, member};
use crate::magic::Magic;
use crate::prompt::{Prompt, Role, Tool, text_of};
use crate::refusal::Refusal;
use crate::reply::Delay;
use crate::route::Dialect;
use crate::{base64, sound, tokens, words};

const MILLISECONDS_PER_TOKEN: u64 = 40;
/// 16-bit mono samples: 16 kHz in, 24 kHz out.
const INPUT_BYTES_PER_SECOND: u64 = 32_000;
const OUTPUT_RATE: u32 = 24_000;
const MILLISECONDS_PER_PIECE: u64 = 200;
const STEPS_BEFORE_ERROR: usize = 2;
/// The context is cut to the latest so many messages.
const MOST_MESSAGES: usize = 1000;

/// A socket of the Live API; it has no session before `setup`.
#[derive(Debug, Default)]
pub(super) struct Gemini {
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    model: String,
    magic: Magic,
    system: String,
    tools: Vec<Tool>,
    is_spoken: bool,
    transcribes: bool,
    context: Vec<(Role, String)>,
    /// Bytes of sound in the context, and how many of them came since the last turn.
    heard: u64,
    unanswered: u64,
    /// The turn that is being said.
    turn: Option<Turn>,
    calls: u64,
}

/// A turn, for the case that it is interrupted.
#[derive(Debug)]
struct Turn {
    input: (u64, u64),
    text: String,
}

impl Dialogue for Gemini {
    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        match serde_json::from_str::<Value>(text) {
            Ok(message) if message.is_object() => self.answer(&message, outbox),
            _ => outbox.push(Step::Close(1007, "Invalid JSON payload received.".to_owned())),
        }
    }

    fn binary(&mut self, bytes: &Bytes, outbox: &mut Outbox) {
        self.text(&String::from_utf8_lossy(bytes), outbox);
    }
}

impl Gemini {
    fn answer(&mut self, message: &Value, outbox: &mut Outbox) {
        let content = member(message, "clientContent", "client_content");
        let input = member(message, "realtimeInput", "realtime_input");
        let result = member(message, "toolResponse", "tool_response");
        match &mut self.session {
            None if message["setup"].is_object() => self.set_up(&message["setup"], outbox),
            None => outbox.push(Step::Close(1007, "setup must be the first message and only the first".to_owned())),
            Some(_) if message.get("setup").is_some() => {
                outbox.push(Step::Close(1007, "setup must be the first message and only the first".to_owned()));
            }
            Some(session) if content.is_object() => session.content(content, outbox),
            Some(session) if input.is_object() => session.input(input, outbox),
            Some(session) if result.is_object() => session.result(result, outbox),
            Some(_) => outbox.push(Step::Close(1007, "Request contains an invalid argument.".to_owned())),
        }
    }

    fn set_up(&mut self, setup: &Value, outbox: &mut Outbox) {
        let Some(name) = setup["model"].as_str() else {
            return outbox.push(Step::Close(1007, "setup.model is required".to_owned()));
        };
        let model = name.rsplit('/').next().unwrap_or(name);
        let magic = Magic::of(model);
        if let Some(refusal) = magic.refusal(model, Dialect::Gemini) {
            return outbox.push(closing(&refusal));
        }
        if let Magic::Close(code) = magic {
            return outbox.push(close_on_purpose(code));
        }
        match magic.delay() {
            Delay::None => {}
            Delay::For(time) => outbox.push(Step::Pause(time)),
            Delay::Forever => return,
        }
        let config = member(setup, "generationConfig", "generation_config");
        let modalities = member(config, "responseModalities", "response_modalities");
        let has = |camel: &str, snake: &str| member(setup, camel, snake).is_object();
        self.session = Some(Session {
            model: model.to_owned(),
            magic,
            system: text_of(&member(setup, "systemInstruction", "system_instruction")["parts"]),
            tools: generate::tools(&setup["tools"]),
            is_spoken: modalities.as_array().is_none_or(|names| names.iter().any(|name| name == "AUDIO")),
            transcribes: has("outputAudioTranscription", "output_audio_transcription"),
            context: Vec::new(),
            heard: 0,
            unanswered: 0,
            turn: None,
            calls: 0,
        });
        outbox.push(Step::BinaryEvent(json!({"setupComplete": {}})));
    }
}

impl Session {
    /// Turns of the conversation; the last message that completes a turn is answered.
    fn content(&mut self, content: &Value, outbox: &mut Outbox) {
        self.interrupt(outbox);
        for turn in content["turns"].as_array().into_iter().flatten() {
            let role = if turn["role"] == "model" { Role::Assistant } else { Role::User };
            self.add(role, text_of(&turn["parts"]));
        }
        if *member(content, "turnComplete", "turn_complete") == true {
            self.take_turn(outbox);
        }
    }

    /// Text is answered at once, sound when it ends.
    fn input(&mut self, input: &Value, outbox: &mut Outbox) {
        let chunks = member(input, "mediaChunks", "media_chunks").as_array();
        for blob in chunks.into_iter().flatten().chain([&input["audio"]]) {
            let kind = member(blob, "mimeType", "mime_type").as_str().unwrap_or_default();
            if let Some(sound) = blob["data"].as_str().filter(|_| kind.starts_with("audio/")).and_then(base64::decode) {
                self.unanswered = self.unanswered.saturating_add(sound.len() as u64);
            }
        }
        if let Some(text) = input["text"].as_str() {
            self.interrupt(outbox);
            self.add(Role::User, text.to_owned());
            self.take_turn(outbox);
        } else if *member(input, "audioStreamEnd", "audio_stream_end") == true
            || member(input, "activityEnd", "activity_end").is_object()
        {
            self.interrupt(outbox);
            self.add(Role::User, String::new());
            self.take_turn(outbox);
        }
    }

    fn result(&mut self, result: &Value, outbox: &mut Outbox) {
        for response in member(result, "functionResponses", "function_responses").as_array().into_iter().flatten() {
            self.add(Role::Tool, response["response"].to_string());
        }
        self.take_turn(outbox);
    }

    fn add(&mut self, role: Role, text: String) {
        self.context.push((role, text));
        if self.context.len() > MOST_MESSAGES {
            self.context.remove(0);
        }
    }

    /// Answers what the context holds.
    fn take_turn(&mut self, outbox: &mut Outbox) {
        self.heard = self.heard.saturating_add(std::mem::take(&mut self.unanswered));
        let mut prompt = Prompt { tools: self.tools.clone(), ..Prompt::default() };
        prompt.add(Role::System, &self.system);
        self.context.iter().for_each(|(role, text)| prompt.add(*role, text));
        let answer = prompt.answer(&self.model);
        let milliseconds = self.heard.saturating_mul(1000) / INPUT_BYTES_PER_SECOND;
        let input = (answer.usage.input, milliseconds.div_ceil(MILLISECONDS_PER_TOKEN));
        let mut steps: Vec<Step> = match &answer.content {
            Content::Call { name, arguments } => {
                self.calls += 1;
                let call = json!({"id": format!("function-call-{}", self.calls), "name": name, "args": arguments});
                self.add(Role::Assistant, format!("{name}{arguments}"));
                let usage = usage(input, "TEXT", answer.usage.output);
                vec![Step::BinaryEvent(json!({"toolCall": {"functionCalls": [call]}, "usageMetadata": usage}))]
            }
            Content::Text(text) => {
                let mut steps = self.pieces(text);
                steps.push(Step::BinaryEvent(json!({"serverContent": {"generationComplete": true}})));
                steps.push(self.end(input, text, spoken_milliseconds(text)));
                self.add(Role::Assistant, text.clone());
                self.turn = Some(Turn { input, text: text.clone() });
                steps
            }
        };
        match self.magic {
            Magic::Break => steps = broken(steps),
            Magic::ErrorInStream => {
                steps.truncate(STEPS_BEFORE_ERROR);
                steps.push(closing(&Refusal::genuine(500, Dialect::Gemini)));
            }
            _ => {}
        }
        steps.into_iter().for_each(|step| outbox.push(step));
    }

    /// The messages that say `text`, in the form that the setup asks for.
    fn pieces(&self, text: &str) -> Vec<Step> {
        let turn = |part: Value| json!({"modelTurn": {"role": "model", "parts": [part]}});
        let message = |content: Value| Step::BinaryEvent(json!({"serverContent": content}));
        let words = words::pieces(text);
        if !self.is_spoken {
            return words.into_iter().map(|words| message(turn(json!({"text": words})))).collect();
        }
        let sound = sound::pcm_at(OUTPUT_RATE, spoken_milliseconds(text));
        let mut words = words.into_iter().filter(|_| self.transcribes);
        let transcript = |words: String| message(json!({"outputTranscription": {"text": words}}));
        let mut steps = Vec::new();
        for piece in sound.chunks(OUTPUT_RATE as usize * 2 * MILLISECONDS_PER_PIECE as usize / 1000) {
            steps.extend(words.next().map(transcript));
            let data = json!({"mimeType": "audio/pcm;rate=24000", "data": base64::encode(piece)});
            steps.push(message(turn(json!({"inlineData": data}))));
        }
        steps.extend(words.map(transcript));
        steps
    }

    /// The end of a turn that said `text`, for so long.
    fn end(&self, input: (u64, u64), text: &str, milliseconds: u64) -> Step {
        let usage = match self.is_spoken {
            true => usage(input, "AUDIO", milliseconds.div_ceil(MILLISECONDS_PER_TOKEN)),
            false => usage(input, "TEXT", tokens::count(text)),
        };
        Step::BinaryEvent(json!({"serverContent": {"turnComplete": true}, "usageMetadata": usage}))
    }

    /// Stops the turn that is being said: the client speaks. What was said of it is paid for.
    fn interrupt(&mut self, outbox: &mut Outbox) {
        let Some(turn) = self.turn.take() else { return };
        let unsaid = outbox.take_back(|step| matches!(step, Step::BinaryEvent(event) if is_said(event)));
        if unsaid.is_empty() {
            return;
        }
        let (mut characters, mut milliseconds) = (turn.text.chars().count(), spoken_milliseconds(&turn.text));
        for step in unsaid {
            let Step::BinaryEvent(event) = step else { continue };
            let part = &event["serverContent"]["modelTurn"]["parts"][0];
            characters = characters.saturating_sub(part["text"].as_str().map_or(0, |text| text.chars().count()));
            let sound =
                part["inlineData"]["data"].as_str().and_then(base64::decode).map_or(0, |sound| sound.len() as u64);
            milliseconds = milliseconds.saturating_sub(sound * 1000 / u64::from(OUTPUT_RATE * 2));
        }
        let said: String = turn.text.chars().take(characters).collect();
        outbox.push(Step::BinaryEvent(json!({"serverContent": {"interrupted": true}})));
        outbox.push(self.end(turn.input, &said, milliseconds));
        if let Some((_, text)) = self.context.iter_mut().rfind(|(role, _)| *role == Role::Assistant) {
            *text = said;
        }
    }
}

fn spoken_milliseconds(text: &str) -> u64 {
    sound::milliseconds(text)
}

/// Whether an event belongs to a turn that can be interrupted.
fn is_said(event: &Value) -> bool {
    event["serverContent"].is_object()
}

/// `usageMetadata`: input as tokens of text and of sound, output of one modality.
fn usage((text, audio): (u64, u64), modality: &str, output: u64) -> Value {
    let mut details = vec![json!({"modality": "TEXT", "tokenCount": text})];
    if audio > 0 {
        details.push(json!({"modality": "AUDIO", "tokenCount": audio}));
    }
    json!({"promptTokenCount": text + audio, "responseTokenCount": output, "totalTokenCount": text + audio + output,
        "promptTokensDetails": details, "responseTokensDetails": [{"modality": modality, "tokenCount": output}]})
}

/// Google tells errors of a session by closing it.
fn closing(refusal: &Refusal) -> Step {
    let code = if matches!(refusal.status(), 400..=404) { 1008 } else { 1011 };
    let reason = refusal.message();
    // 123 bytes are all that a close can carry.
    let end =
        reason.char_indices().map(|(at, character)| at + character.len_utf8()).take_while(|end| *end <= 123).last();
    Step::Close(code, reason[..end.unwrap_or(0)].to_owned())
}
