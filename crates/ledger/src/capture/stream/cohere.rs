//! Cohere's chat, version 2.

use serde_json::{Map, Value};

use super::{Told, content_texts, number, object, text};
use crate::capture::section::{Kind, Sections};

pub(super) fn read(kind: &str, event: &Map<String, Value>, sections: &mut Sections) -> Told {
    let message = object(event, "delta").and_then(|delta| object(delta, "message"));
    let tool = Kind::Tool(number(event, "index"));
    let function = || object(object(message?, "tool_calls")?, "function");
    match kind {
        "message-start" | "content-start" | "content-end" | "tool-call-end" | "citation-start" | "citation-end"
        | "message-end" => {}
        "content-delta" => {
            let Some(content) = message.and_then(|message| message.get("content")) else { return Told::Unknown };
            let parts = Value::Array(vec![content.clone()]);
            content_texts(&parts, &mut |piece, is_thinking| {
                sections.add(0, if is_thinking { Kind::Reasoning } else { Kind::Text }, piece);
            });
        }
        "tool-plan-delta" => {
            let plan = message.and_then(|message| text(message, "tool_plan"));
            sections.add(0, Kind::Reasoning, plan.unwrap_or_default());
        }
        "tool-call-start" | "tool-call-delta" => {
            let Some(function) = function() else { return Told::Unknown };
            if let Some(name) = text(function, "name") {
                sections.name(0, tool, name);
            }
            sections.add(0, tool, text(function, "arguments").unwrap_or_default());
        }
        _ => return Told::Unknown,
    }
    Told::Understood
}
