//! An event stream as the text a person would read. Which family an event belongs to is told by its form, event by
//! event: a gateway's upstreams do not all speak what their path promises. What is not understood is kept as it came.

mod anthropic;
mod cohere;
mod dashscope;
mod gemini;
mod openai;
mod responses;

use aiproxy_llm::sse::{SseDecoder, SseEvent};
use serde_json::{Map, Value};

use super::section::{Section, Sections};

/// A larger event is kept as it came: parsed, it could take many times its size.
const LARGEST_PARSED: usize = 4 << 20;

/// A stream that was read.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) sections: Vec<Section>,
    /// The last usage the provider told.
    pub(super) usage: Option<String>,
    /// Whether it ended inside an event, which was left out.
    pub(super) is_torn: bool,
    /// Whether there was any event in it.
    pub(super) has_events: bool,
}

/// Reads a whole stream, or its beginning.
pub(super) fn merge(bytes: &[u8], is_cut: bool) -> Merged {
    let mut reading = Reading { is_cut, ..Reading::default() };
    let mut decoder = SseDecoder::new(usize::MAX);
    decoder.feed(bytes, |event| reading.event(event));
    decoder.finish(|event| reading.event(event));
    Merged {
        sections: reading.sections.finish(),
        usage: reading.usage.map(|usage| Value::Object(usage).to_string()),
        is_torn: reading.is_torn,
        has_events: reading.has_events,
    }
}

/// What an event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Its words are in the sections, or it has none.
    Understood,
    /// It should be kept as it came.
    Unknown,
}

/// Reads an event whose `type` says what it is.
type Read = fn(&str, &Map<String, Value>, &mut Sections) -> Told;

#[derive(Debug, Default)]
struct Reading {
    sections: Sections,
    usage: Option<Map<String, Value>>,
    is_cut: bool,
    is_torn: bool,
    has_events: bool,
}

impl Reading {
    fn event(&mut self, event: &SseEvent<'_>) {
        let Some(data) = event.data() else { return };
        self.has_events = true;
        if data.trim_ascii() == b"[DONE]" {
            return;
        }
        let parsed = if data.len() <= LARGEST_PARSED { serde_json::from_slice(&data).ok() } else { None };
        if !event.terminated && (self.is_cut || parsed.is_none()) {
            // Its other half was never seen. Half of a secret could stand here and the other half in a section, where
            // neither would be recognized.
            self.is_torn = true;
            return;
        }
        let told = match &parsed {
            Some(Value::Object(event)) => self.object(event),
            _ => Told::Unknown,
        };
        if told == Told::Unknown {
            self.sections.add_event(event.raw);
        }
    }

    fn object(&mut self, event: &Map<String, Value>) -> Told {
        self.find_usage(event);
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Told::Unknown;
        }
        let sections = &mut self.sections;
        if let Some(Value::Array(choices)) = event.get("choices") {
            choices.iter().for_each(|choice| openai::read(choice, sections));
            return Told::Understood;
        }
        if event.contains_key("candidates") || event.contains_key("usageMetadata") {
            return gemini::read(event, sections);
        }
        if let Some(kind) = text(event, "type") {
            let is_understood = |read: Read| read(kind, event, sections) == Told::Understood;
            let families: [Read; 3] = [anthropic::read, cohere::read, responses::read];
            return if families.into_iter().any(is_understood) { Told::Understood } else { Told::Unknown };
        }
        match event.get("output") {
            Some(Value::Object(output)) => dashscope::read(output, sections),
            _ => Told::Unknown,
        }
    }

    /// The last one counts, for all of them are totals. Anthropic's later ones tell only what has changed.
    fn find_usage(&mut self, event: &Map<String, Value>) {
        let inside = |outer: &str, inner: &str| event.get(outer)?.as_object()?.get(inner)?.as_object();
        let direct = |name: &str| event.get(name)?.as_object();
        let found = direct("usage")
            .or_else(|| direct("usageMetadata"))
            .or_else(|| inside("response", "usage"))
            .or_else(|| inside("message", "usage"))
            .or_else(|| inside("delta", "usage"))
            .or_else(|| inside("x_groq", "usage"));
        let Some(found) = found else { return };
        match &mut self.usage {
            Some(usage) if text(event, "type") == Some("message_delta") => {
                let changed = found.iter().filter(|(_, value)| !value.is_null());
                usage.extend(changed.map(|(name, value)| (name.clone(), value.clone())));
            }
            usage => *usage = Some(found.clone()),
        }
    }
}

/// A member that is a text.
fn text<'event>(object: &'event Map<String, Value>, name: &str) -> Option<&'event str> {
    object.get(name)?.as_str()
}

/// A member that is a number; 0 where it is none.
fn number(object: &Map<String, Value>, name: &str) -> u64 {
    object.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// A member that is an object.
fn object<'event>(object: &'event Map<String, Value>, name: &str) -> Option<&'event Map<String, Value>> {
    object.get(name)?.as_object()
}

/// Content that is a text, or a list of parts of which some have one. Calls `on_text` with each and whether it is
/// thinking.
fn content_texts(content: &Value, on_text: &mut dyn FnMut(&str, bool)) {
    match content {
        Value::String(content) => on_text(content, false),
        Value::Array(parts) => {
            for part in parts.iter().filter_map(Value::as_object) {
                if let Some(part) = text(part, "text") {
                    on_text(part, false);
                }
                // Mistral: its own list of parts.
                match part.get("thinking") {
                    Some(Value::String(thinking)) => on_text(thinking, true),
                    Some(Value::Array(inner)) => {
                        let texts = inner.iter().filter_map(Value::as_object).filter_map(|inner| text(inner, "text"));
                        texts.for_each(|thinking| on_text(thinking, true));
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
