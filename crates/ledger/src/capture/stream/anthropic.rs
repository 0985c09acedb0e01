//! Anthropic's Messages: blocks that begin, grow and end.

use serde_json::{Map, Value};

use super::{Told, number, object, text};
use crate::capture::section::{Kind, Sections};

pub(super) fn read(kind: &str, event: &Map<String, Value>, sections: &mut Sections) -> Told {
    let block = number(event, "index");
    match kind {
        "message_start" | "message_delta" | "message_stop" | "content_block_stop" | "ping" => Told::Understood,
        "content_block_start" => match object(event, "content_block") {
            Some(begun) => begin(block, begun, sections),
            None => Told::Unknown,
        },
        "content_block_delta" => match object(event, "delta") {
            Some(delta) => grow(block, delta, sections),
            None => Told::Unknown,
        },
        _ => Told::Unknown,
    }
}

fn begin(block: u64, begun: &Map<String, Value>, sections: &mut Sections) -> Told {
    match text(begun, "type") {
        Some("text") => sections.add(0, Kind::Text, text(begun, "text").unwrap_or_default()),
        Some("thinking") => sections.add(0, Kind::Reasoning, text(begun, "thinking").unwrap_or_default()),
        Some("tool_use" | "server_tool_use" | "mcp_tool_use") => {
            sections.name(0, Kind::Tool(block), text(begun, "name").unwrap_or_default());
        }
        // A block that comes whole: the result of a search, thoughts in cipher.
        _ => return Told::Unknown,
    }
    Told::Understood
}

fn grow(block: u64, delta: &Map<String, Value>, sections: &mut Sections) -> Told {
    let (section, member) = match text(delta, "type") {
        Some("text_delta") => (Kind::Text, "text"),
        Some("thinking_delta") => (Kind::Reasoning, "thinking"),
        Some("input_json_delta") => (Kind::Tool(block), "partial_json"),
        // Not for people.
        Some("signature_delta") => return Told::Understood,
        _ => return Told::Unknown,
    };
    sections.add(0, section, text(delta, member).unwrap_or_default());
    Told::Understood
}
