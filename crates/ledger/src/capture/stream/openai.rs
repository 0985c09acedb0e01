//! Chat Completions and the older Completions, of OpenAI and whoever is compatible.

use serde_json::{Map, Value};

use super::{content_texts, number, object, text};
use crate::capture::section::{Kind, Sections};

pub(super) fn read(choice: &Value, sections: &mut Sections) {
    let Some(choice) = choice.as_object() else { return };
    let index = number(choice, "index");
    if let Some(piece) = text(choice, "text") {
        sections.add(index, Kind::Text, piece);
    }
    let Some(delta) = object(choice, "delta").or_else(|| object(choice, "message")) else { return };
    // Two names for the same; some providers write both.
    if let Some(piece) = text(delta, "reasoning_content").or_else(|| text(delta, "reasoning")) {
        sections.add(index, Kind::Reasoning, piece);
    }
    if let Some(content) = delta.get("content") {
        content_texts(content, &mut |piece, is_thinking| {
            sections.add(index, if is_thinking { Kind::Reasoning } else { Kind::Text }, piece);
        });
    }
    if let Some(piece) = text(delta, "refusal") {
        sections.add(index, Kind::Refusal, piece);
    }
    if let Some(audio) = object(delta, "audio") {
        sections.add(index, Kind::Transcript, text(audio, "transcript").unwrap_or_default());
        if let Some(sound) = text(audio, "data") {
            sections.leave_out("sound", sound);
        }
    }
    let calls = delta.get("tool_calls").and_then(Value::as_array);
    for call in calls.into_iter().flatten().filter_map(Value::as_object) {
        if let Some(function) = object(call, "function").or_else(|| object(call, "custom")) {
            tool(index, number(call, "index"), function, sections);
        }
    }
    if let Some(function) = object(delta, "function_call") {
        tool(index, 0, function, sections);
    }
}

fn tool(choice: u64, call: u64, function: &Map<String, Value>, sections: &mut Sections) {
    if let Some(name) = text(function, "name") {
        sections.name(choice, Kind::Tool(call), name);
    }
    let arguments = text(function, "arguments").or_else(|| text(function, "input"));
    sections.add(choice, Kind::Tool(call), arguments.unwrap_or_default());
}
