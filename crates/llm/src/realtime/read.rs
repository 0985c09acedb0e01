//! Reads a held client message as a whole: every model it names, where each name stands, and whether it begins work. It
//! does not judge the names. A key on the way to one that comes twice makes the message unreadable, because servers
//! differ in which of the two they take.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::values::LONGEST_ID;
use super::{ClientMessage, ModelRole, NamedModel, Protocol, Unreadable, Work};

/// A place in messages that matters.
#[derive(Clone, Copy)]
struct Place {
    path: &'static [&'static str],
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Model(ModelRole),
    /// `type`, or `header.action`.
    Kind,
    TaskId,
    /// A member whose presence tells the kind.
    Setup,
}

const fn place(path: &'static [&'static str], what: What) -> Place {
    Place { path, what }
}

/// The same for all of OpenAI's sockets: none of them uses a place for anything else.
const OPENAI: &[Place] = &[
    place(&["type"], What::Kind),
    place(&["model"], What::Model(ModelRole::Main)),
    place(&["response", "model"], What::Model(ModelRole::Main)),
    place(&["session", "model"], What::Model(ModelRole::Main)),
    place(&["session", "audio", "input", "transcription", "model"], What::Model(ModelRole::Transcription)),
    // The beta's form, which Qwen-Omni kept.
    place(&["session", "input_audio_transcription", "model"], What::Model(ModelRole::Transcription)),
];
const DASHSCOPE: &[Place] = &[
    place(&["header", "action"], What::Kind),
    place(&["header", "task_id"], What::TaskId),
    place(&["payload", "model"], What::Model(ModelRole::Main)),
];
const GEMINI: &[Place] = &[place(&["setup"], What::Setup), place(&["setup", "model"], What::Model(ModelRole::Main))];

/// Reads what a held message asks for.
///
/// # Errors
///
/// The message must not be passed on: it is not a JSON object, a key that matters comes twice in it, a model's name is no
/// string, or a task's id is too long to be remembered. `null` is no name and no error.
pub fn read_client_message(protocol: Protocol, message: &[u8]) -> Result<ClientMessage, Unreadable> {
    let places = match protocol {
        Protocol::Realtime | Protocol::Responses | Protocol::Live => OPENAI,
        Protocol::DashscopeInference => DASHSCOPE,
        Protocol::GeminiLive => GEMINI,
        Protocol::Unread => return Ok(ClientMessage::default()),
    };
    let text = std::str::from_utf8(message).map_err(|_| Unreadable::NotJson)?;
    let mut reading = Reading { protocol, message: text, models: Vec::new(), kind: None, task_id: None };
    reading.read(text, places, 0)?;
    reading.models.sort_by_key(|model| model.span.start);
    let work = match reading.kind.as_deref() {
        Some("run-task" | "response.create") => Some(Work::Begin { id: reading.task_id }),
        Some("session.start" | "session.update" | "transcription_session.update" | "setup") => Some(Work::Other),
        _ => None,
    };
    Ok(ClientMessage { models: reading.models, work })
}

struct Reading<'m> {
    protocol: Protocol,
    message: &'m str,
    models: Vec<NamedModel>,
    kind: Option<String>,
    task_id: Option<String>,
}

impl<'m> Reading<'m> {
    /// Reads one object, which the first `depth` keys of all `places` lead to.
    fn read(&mut self, object: &'m str, places: &[Place], depth: usize) -> Result<(), Unreadable> {
        let mut names: Vec<&'static str> = Vec::with_capacity(places.len());
        for name in places.iter().filter_map(|place| place.path.get(depth)) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        let mut source = serde_json::Deserializer::from_str(object);
        let found = Members(&names).deserialize(&mut source).map_err(|_| Unreadable::NotJson)?;
        source.end().map_err(|_| Unreadable::NotJson)?;
        if found.repeated {
            return Err(Unreadable::Contradiction);
        }
        for (name, value) in names.iter().zip(found.values) {
            let Some(value) = value.map(RawValue::get) else { continue };
            let through: Vec<Place> =
                places.iter().filter(|place| place.path.get(depth) == Some(name)).copied().collect();
            for place in through.iter().filter(|place| place.path.len() == depth + 1) {
                self.take(place.what, value)?;
            }
            let deeper: Vec<Place> = through.into_iter().filter(|place| place.path.len() > depth + 1).collect();
            if !deeper.is_empty() && value.starts_with('{') {
                self.read(value, &deeper, depth + 1)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, what: What, value: &'m str) -> Result<(), Unreadable> {
        if value == "null" {
            return Ok(());
        }
        let text = serde_json::from_str::<String>(value);
        match what {
            What::Setup => self.kind = Some("setup".to_owned()),
            What::Kind => self.kind = text.ok(),
            What::TaskId => {
                self.task_id = text.ok();
                if self.task_id.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
                    return Err(Unreadable::TooLong);
                }
            }
            What::Model(role) => {
                let text = text.map_err(|_| Unreadable::NotAName)?;
                let (prefix, name) = text.split_at(self.prefix_length(&text));
                let start = value.as_ptr().addr() - self.message.as_ptr().addr();
                self.models.push(NamedModel {
                    name: name.to_owned(),
                    span: start..start + value.len(),
                    prefix: prefix.to_owned(),
                    role,
                });
            }
        }
        Ok(())
    }

    /// Gemini's names are paths: `models/x`, `publishers/google/models/x`, `projects/P/locations/L/…/models/x`.
    fn prefix_length(&self, text: &str) -> usize {
        const FOLDER: &str = "models/";
        if self.protocol != Protocol::GeminiLive {
            return 0;
        }
        let whole = |at: &usize| *at == 0 || text.as_bytes()[*at - 1] == b'/';
        let last = text.rmatch_indices(FOLDER).map(|(at, _)| at).find(whole);
        last.map_or(0, |at| at + FOLDER.len())
    }
}

/// The members of an object that have one of these names.
struct Members<'n>(&'n [&'static str]);

struct Found<'m> {
    /// Numbered like the names.
    values: Vec<Option<&'m RawValue>>,
    repeated: bool,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Found<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Found { values: vec![None; self.0.len()], repeated: false };
        while let Some(index) = map.next_key_seed(Key(self.0))? {
            let Some(slot) = index.and_then(|index| found.values.get_mut(index)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            found.repeated |= slot.is_some();
            *slot = Some(map.next_value()?);
        }
        Ok(found)
    }
}

/// A key, as the number of its name.
struct Key<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}
