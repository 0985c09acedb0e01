//! One response: what the model says, the events that tell it, and what it costs, whole or cut short.
//!
//! Text costs what [`tokens`] says. Sound that goes in costs a token for 100 ms, sound that comes out one for 50 ms.
//! Input that the response before had too counts as cached.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::conversation::{Context, Conversation, Item};
use super::settings::{Format, Settings};
use super::{Fault, Ids, MILLISECONDS_PER_INPUT_TOKEN, event, extend};
use crate::answer::Content;
use crate::magic::Magic;
use crate::prompt::{Prompt, Role};
use crate::{base64, openai, sound, tokens, words};

const MILLISECONDS_PER_OUTPUT_TOKEN: u64 = 50;
/// One delta carries so much sound.
const MILLISECONDS_PER_DELTA: u64 = 200;
/// An echo is cut after this much sound.
const LONGEST_ECHO: u64 = 60_000;
const DELTAS_BEFORE_ERROR: usize = 2;

/// In which form the model answers.
#[derive(Debug)]
enum Form {
    Text,
    Spoken { sound: Vec<u8>, format: Format },
    Call { name: String, call_id: String },
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Completed,
    /// The output limit cut it.
    Incomplete,
    Cancelled,
    Failed,
}

impl Ending {
    fn status(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    fn details(self) -> Value {
        match self {
            Self::Completed => Value::Null,
            Self::Incomplete => json!({"type": "incomplete", "reason": "max_output_tokens"}),
            Self::Cancelled => json!({"type": "cancelled", "reason": "client_cancelled"}),
            Self::Failed => json!({"type": "failed", "error": {"type": "server_error", "code": "server_error",
                "message": "The server had an error while processing your request. Sorry about that!"}}),
        }
    }
}

/// A piece of an answer.
#[derive(Debug)]
enum Delta<'a> {
    Words(String),
    Sound(&'a [u8]),
}

/// A response and all that its end depends on.
#[derive(Debug)]
pub(super) struct Response {
    id: String,
    item_id: String,
    /// The item before this one; none stands for a response that the conversation does not see.
    conversation: Option<(String, Option<String>)>,
    /// The response object, without what changes.
    shown: Value,
    form: Form,
    /// The text, the transcript, or the arguments of a call.
    text: String,
    ending: Ending,
    input: Context,
    cached: Context,
}

impl Response {
    /// The answer to what the conversation holds; `asked` is the `response` of the event that asks for it.
    pub(super) fn new(
        ids: &mut Ids,
        settings: &Settings,
        conversation: &mut Conversation,
        asked: &Value,
        echo: Vec<u8>,
    ) -> Result<Self, Fault> {
        let setting = |name: &str| asked.get(name).unwrap_or_else(|| settings.get(name));
        let mut prompt = Prompt {
            tools: openai::tools(setting("tools")),
            choice: openai::tool_choice(setting("tool_choice")),
            limit: setting("max_output_tokens").as_u64(),
            ..Prompt::default()
        };
        prompt.add(Role::System, setting("instructions").as_str().unwrap_or_default());
        let mut heard = 0;
        let mut hear = |item: &Item| {
            prompt.add(item.role, &item.text);
            heard += item.sound;
        };
        match asked["input"].as_array() {
            Some(items) => {
                for item in items {
                    match item["type"] == "item_reference" {
                        true => hear(conversation.find(&item["id"])?),
                        false => hear(&Item::of_client(ids.next("item_"), item, settings.input())?.0),
                    }
                }
            }
            None => conversation.items().iter().for_each(&mut hear),
        }
        let input = Context { characters: prompt.characters, sound: heard };
        let cached = Context {
            characters: input.characters.min(conversation.cached.characters),
            sound: input.sound.min(conversation.cached.sound),
        };
        let is_aside = asked["conversation"] == "none";
        if !is_aside {
            conversation.cached = input;
        }
        let modalities = setting("output_modalities");
        let is_spoken = modalities.as_array().is_some_and(|modalities| modalities.iter().any(|name| name == "audio"));
        let answer = prompt.answer(settings.model());
        let (form, text) = match answer.content {
            Content::Call { name, arguments } => {
                (Form::Call { name, call_id: ids.next("call_") }, arguments.to_string())
            }
            Content::Text(text) if is_spoken => (Form::spoken(settings.output(), &text, echo), text),
            Content::Text(text) => (Form::Text, text),
        };
        let ending = match (Magic::of(settings.model()), answer.is_cut) {
            (Magic::ErrorInStream, _) => Ending::Failed,
            (_, true) => Ending::Incomplete,
            (_, false) => Ending::Completed,
        };
        let id = ids.next("resp_");
        let conversation =
            (!is_aside).then(|| (conversation.id().to_owned(), conversation.last_id().map(str::to_owned)));
        let shown = json!({"object": "realtime.response", "id": id, "status": "in_progress", "status_details": null,
            "output": [], "conversation_id": conversation.as_ref().map(|(id, _)| id), "output_modalities": modalities,
            "max_output_tokens": setting("max_output_tokens"), "audio": {"output": settings.get("audio")["output"]},
            "usage": null, "metadata": asked["metadata"]});
        Ok(Self { id, item_id: ids.next("item_"), conversation, shown, form, text, ending, input, cached })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether its end is not sent yet.
    pub(super) fn is_under_way(&self, unsent: &VecDeque<Value>) -> bool {
        unsent.iter().any(|event| event["type"] == "response.done" && event["response"]["id"] == self.id)
    }

    /// The item that the conversation gains.
    pub(super) fn item_to_remember(&self) -> Option<Item> {
        let (words, sound) = self.said(&self.deltas());
        self.conversation.as_ref().map(|_| self.item(&words, sound, self.ending))
    }

    /// All events, from `response.created` to `response.done`.
    pub(super) fn events(&self, ids: &mut Ids) -> Vec<Value> {
        let mut events = vec![event(ids, "response.created", json!({"response": self.shown}))];
        let mut item = self.shown_item("", self.ending);
        item["status"] = json!("in_progress");
        if let Form::Text | Form::Spoken { .. } = self.form {
            item["content"] = json!([]);
        }
        let added = json!({"response_id": self.id, "output_index": 0, "item": item});
        events.push(event(ids, "response.output_item.added", added));
        if let Some((_, previous)) = &self.conversation {
            let added = json!({"previous_item_id": previous, "item": item});
            events.push(event(ids, "conversation.item.added", added));
        }
        if let Some(part) = self.part("") {
            events.push(event(ids, "response.content_part.added", self.place(json!({"part": part}))));
        }
        let deltas = self.deltas();
        for delta in &deltas {
            let (kind, delta) = match delta {
                Delta::Words(words) => (self.words_kind(), words.clone()),
                Delta::Sound(sound) => ("response.output_audio", base64::encode(sound)),
            };
            events.push(event(ids, &format!("{kind}.delta"), self.place(json!({"delta": delta}))));
        }
        let (words, sound) = self.said(&deltas);
        events.extend(self.last_events(ids, &words, sound, self.ending));
        events
    }

    /// Takes its events out of `unsent` and ends it there: the last events, and its item (none if the client has not
    /// seen it).
    pub(super) fn cancelled(&self, ids: &mut Ids, unsent: &mut VecDeque<Value>) -> (Vec<Value>, Option<Item>) {
        let (mut is_item_seen, mut words_left, mut sound_left) = (true, 0, 0);
        unsent.retain(|event| {
            let is_ours = event["response_id"] == self.id
                || event["item"]["id"] == self.item_id
                || event["type"] == "response.done" && event["response"]["id"] == self.id;
            if is_ours {
                let delta = event["delta"].as_str().unwrap_or_default();
                match event["type"].as_str() {
                    Some("response.output_item.added") => is_item_seen = false,
                    Some("response.output_audio.delta") => sound_left += base64::decode(delta).map_or(0, |it| it.len()),
                    _ => words_left += delta.len(),
                }
            }
            !is_ours
        });
        let (words, sound) = self.said(&self.deltas());
        let words = words.get(..words.len().saturating_sub(words_left)).unwrap_or_default();
        let sound = sound.saturating_sub(sound_left);
        if !is_item_seen {
            return (vec![self.done(ids, "", 0, Ending::Cancelled)], None);
        }
        let events = self.last_events(ids, words, sound, Ending::Cancelled);
        (events, Some(self.item(words, sound, Ending::Cancelled)))
    }

    pub(super) fn item_id(&self) -> &str {
        &self.item_id
    }

    /// The answer in pieces, words and sound in turn. A response that fails does so after two.
    fn deltas(&self) -> Vec<Delta<'_>> {
        let mut words = match self.form {
            Form::Call { .. } => words::fragments(&self.text),
            Form::Text | Form::Spoken { .. } => words::pieces(&self.text),
        }
        .into_iter();
        let sound = match &self.form {
            Form::Spoken { sound, format } => sound.chunks(format.bytes(MILLISECONDS_PER_DELTA).max(1)),
            Form::Text | Form::Call { .. } => [].chunks(1),
        };
        let mut deltas = Vec::new();
        for sound in sound {
            deltas.extend(words.next().map(Delta::Words));
            deltas.push(Delta::Sound(sound));
        }
        deltas.extend(words.map(Delta::Words));
        if self.ending == Ending::Failed {
            deltas.truncate(DELTAS_BEFORE_ERROR);
        }
        deltas
    }

    /// The words of `deltas`, and their sound in bytes.
    fn said(&self, deltas: &[Delta<'_>]) -> (String, usize) {
        deltas.iter().fold((String::new(), 0), |(words, sound), delta| match delta {
            Delta::Words(more) => (words + more, sound),
            Delta::Sound(more) => (words, sound + more.len()),
        })
    }

    /// The events that end the item and the response, when so much of it was said.
    fn last_events(&self, ids: &mut Ids, words: &str, sound: usize, ending: Ending) -> Vec<Value> {
        let mut events = Vec::new();
        let said = match &self.form {
            Form::Text => json!({"text": words}),
            Form::Spoken { .. } => json!({"transcript": words}),
            Form::Call { name, call_id } => json!({"call_id": call_id, "name": name, "arguments": words}),
        };
        if let Form::Spoken { .. } = self.form {
            events.push(event(ids, "response.output_audio.done", self.place(json!({}))));
        }
        events.push(event(ids, &format!("{}.done", self.words_kind()), self.place(said)));
        if let Some(part) = self.part(words) {
            events.push(event(ids, "response.content_part.done", self.place(json!({"part": part}))));
        }
        let item = self.shown_item(words, ending);
        if let Some((_, previous)) = &self.conversation {
            events.push(event(ids, "conversation.item.done", json!({"previous_item_id": previous, "item": item})));
        }
        let done = json!({"response_id": self.id, "output_index": 0, "item": item});
        events.push(event(ids, "response.output_item.done", done));
        events.push(self.done(ids, words, sound, ending));
        events
    }

    fn done(&self, ids: &mut Ids, words: &str, sound: usize, ending: Ending) -> Value {
        let mut response = self.shown.clone();
        let output = if words.is_empty() && sound == 0 { json!([]) } else { json!([self.shown_item(words, ending)]) };
        extend(
            &mut response,
            json!({"status": ending.status(), "status_details": ending.details(), "output": output,
            "usage": self.usage(words, sound)}),
        );
        event(ids, "response.done", json!({"response": response}))
    }

    fn usage(&self, words: &str, sound: usize) -> Value {
        let text = |characters| tokens::for_characters(characters);
        let audio = |milliseconds: u64| milliseconds.div_ceil(MILLISECONDS_PER_INPUT_TOKEN);
        let (text_in, audio_in) = (text(self.input.characters), audio(self.input.sound));
        let (text_cached, audio_cached) = (text(self.cached.characters), audio(self.cached.sound));
        let text_out = match &self.form {
            Form::Call { name, .. } => tokens::count(&format!("{name}{words}")),
            Form::Text | Form::Spoken { .. } => tokens::count(words),
        };
        let audio_out = self.milliseconds(sound).div_ceil(MILLISECONDS_PER_OUTPUT_TOKEN);
        let (input, output) = (text_in + audio_in, text_out + audio_out);
        json!({"total_tokens": input + output, "input_tokens": input, "output_tokens": output,
            "input_token_details": {"text_tokens": text_in, "audio_tokens": audio_in, "image_tokens": 0,
                "cached_tokens": text_cached + audio_cached, "cached_tokens_details": {"text_tokens": text_cached,
                    "audio_tokens": audio_cached, "image_tokens": 0}},
            "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out}})
    }

    fn milliseconds(&self, bytes: usize) -> u64 {
        match self.form {
            Form::Spoken { format, .. } => format.milliseconds(bytes),
            Form::Text | Form::Call { .. } => 0,
        }
    }

    fn item(&self, words: &str, sound: usize, ending: Ending) -> Item {
        let text = match &self.form {
            Form::Call { name, .. } => format!("{name}{words}"),
            Form::Text | Form::Spoken { .. } => words.to_owned(),
        };
        Item::of_model(self.shown_item(words, ending), text, self.milliseconds(sound))
    }

    fn shown_item(&self, words: &str, ending: Ending) -> Value {
        let status = if ending == Ending::Completed { "completed" } else { "incomplete" };
        let content = match &self.form {
            Form::Text => json!([{"type": "output_text", "text": words}]),
            Form::Spoken { .. } => json!([{"type": "output_audio", "transcript": words}]),
            Form::Call { name, call_id } => {
                return json!({"id": self.item_id, "object": "realtime.item", "type": "function_call",
                    "status": status, "name": name, "call_id": call_id, "arguments": words});
            }
        };
        json!({"id": self.item_id, "object": "realtime.item", "type": "message", "status": status,
            "role": "assistant", "content": content})
    }

    fn part(&self, words: &str) -> Option<Value> {
        match self.form {
            Form::Text => Some(json!({"type": "text", "text": words})),
            Form::Spoken { .. } => Some(json!({"type": "audio", "transcript": words})),
            Form::Call { .. } => None,
        }
    }

    fn words_kind(&self) -> &'static str {
        match self.form {
            Form::Text => "response.output_text",
            Form::Spoken { .. } => "response.output_audio_transcript",
            Form::Call { .. } => "response.function_call_arguments",
        }
    }

    /// Where within the response something is.
    fn place(&self, more: Value) -> Value {
        let mut place = json!({"response_id": self.id, "item_id": self.item_id, "output_index": 0});
        if let Form::Text | Form::Spoken { .. } = self.form {
            place["content_index"] = json!(0);
        }
        extend(&mut place, more);
        place
    }
}

impl Form {
    /// Spoken words: the sound that is answered, or else the demo's voice for as long as the words take.
    fn spoken(format: Format, text: &str, mut echo: Vec<u8>) -> Self {
        echo.truncate(format.bytes(LONGEST_ECHO));
        let sound = if echo.is_empty() { format.voice(sound::milliseconds(text)) } else { echo };
        Self::Spoken { sound, format }
    }
}
