//! DashScope's own API: with `incremental_output` events bring pieces, without it each repeats the text from its
//! beginning. Nothing but the texts tells which.

use serde_json::{Map, Value};

use super::{Told, content_texts, number, object, text};
use crate::capture::section::{Kind, Sections};

pub(super) fn read(output: &Map<String, Value>, sections: &mut Sections) -> Told {
    if let Some(piece) = text(output, "text") {
        if let Some(thought) = text(output, "reasoning_content") {
            sections.add_repeated(0, Kind::Reasoning, thought);
        }
        sections.add_repeated(0, Kind::Text, piece);
        return Told::Understood;
    }
    // Everything else (tasks, sentences, sound) has forms of its own.
    let Some(Value::Array(choices)) = output.get("choices") else { return Told::Unknown };
    for (position, choice) in choices.iter().enumerate() {
        let Some(choice) = choice.as_object() else { continue };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        if let Some(message) = object(choice, "message") {
            read_message(index, message, sections);
        }
    }
    Told::Understood
}

fn read_message(choice: u64, message: &Map<String, Value>, sections: &mut Sections) {
    if let Some(piece) = text(message, "reasoning_content") {
        sections.add_repeated(choice, Kind::Reasoning, piece);
    }
    if let Some(content) = message.get("content") {
        // Its parts together are what one event says.
        let (mut said, mut thought) = (String::new(), String::new());
        content_texts(content, &mut |piece, is_thinking| {
            if is_thinking { &mut thought } else { &mut said }.push_str(piece);
        });
        sections.add_repeated(choice, Kind::Text, &said);
        if !thought.is_empty() {
            sections.add_repeated(choice, Kind::Reasoning, &thought);
        }
    }
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for call in calls.into_iter().flatten().filter_map(Value::as_object) {
        let Some(function) = object(call, "function") else { continue };
        let tool = Kind::Tool(number(call, "index"));
        if let Some(name) = text(function, "name").filter(|name| !name.is_empty()) {
            sections.name(choice, tool, name);
        }
        if let Some(arguments) = text(function, "arguments") {
            sections.add_repeated(choice, tool, arguments);
        }
    }
}
