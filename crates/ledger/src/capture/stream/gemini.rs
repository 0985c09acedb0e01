//! Gemini, the developer API and Vertex: each event is a whole response with more parts.

use serde_json::{Map, Value};

use super::{Told, number, object, text};
use crate::capture::section::{Kind, Sections};

pub(super) fn read(event: &Map<String, Value>, sections: &mut Sections) -> Told {
    for candidate in event.get("candidates").and_then(Value::as_array).into_iter().flatten() {
        let Some(candidate) = candidate.as_object() else { continue };
        let index = number(candidate, "index");
        let parts = object(candidate, "content").and_then(|content| content.get("parts")).and_then(Value::as_array);
        parts.into_iter().flatten().filter_map(Value::as_object).for_each(|one| part(index, one, sections));
    }
    // Why the prompt was blocked, if it was.
    let is_blocked = object(event, "promptFeedback").is_some_and(|feedback| feedback.contains_key("blockReason"));
    if is_blocked { Told::Unknown } else { Told::Understood }
}

fn part(candidate: u64, part: &Map<String, Value>, sections: &mut Sections) {
    if let Some(piece) = text(part, "text") {
        let is_thought = part.get("thought").and_then(Value::as_bool).unwrap_or(false);
        sections.add(candidate, if is_thought { Kind::Reasoning } else { Kind::Text }, piece);
    }
    if let Some(call) = object(part, "functionCall") {
        let tool = Kind::Tool(sections.next_tool());
        sections.name(candidate, tool, text(call, "name").unwrap_or_default());
        let arguments = call.get("args").map(Value::to_string);
        sections.add(candidate, tool, arguments.as_deref().unwrap_or("{}"));
    }
    if let Some(code) = object(part, "executableCode").and_then(|code| text(code, "code")) {
        sections.add(candidate, Kind::Code, code);
    }
    if let Some(output) = object(part, "codeExecutionResult").and_then(|result| text(result, "output")) {
        sections.add(candidate, Kind::CodeOutput, output);
    }
    if let Some(data) = object(part, "inlineData") {
        sections.leave_out(text(data, "mimeType").unwrap_or("data"), text(data, "data").unwrap_or_default());
    }
}
