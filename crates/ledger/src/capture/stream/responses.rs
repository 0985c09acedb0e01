//! OpenAI's typed events: Responses, transcriptions, speech. Pieces come as `….delta`; what follows repeats them.

use serde_json::{Map, Value};

use super::{Told, number, object, text};
use crate::capture::section::{Kind, Sections};

/// Events that say nothing, or again what deltas have said.
const REPEATS: [&str; 8] =
    [".created", ".in_progress", ".queued", ".added", ".done", ".searching", ".interpreting", ".completed"];

pub(super) fn read(kind: &str, event: &Map<String, Value>, sections: &mut Sections) -> Told {
    if let Some(name) = kind.strip_suffix(".delta") {
        let Some(piece) = text(event, "delta").or_else(|| text(event, "audio")) else { return Told::Unknown };
        let place = number(event, "output_index");
        let section = match name {
            "response.output_text" | "response.text" | "transcript.text" => Kind::Text,
            _ if name.ends_with("audio_transcript") => Kind::Transcript,
            _ if name.ends_with("audio") => {
                sections.leave_out("sound", piece);
                return Told::Understood;
            }
            _ if name.contains("reasoning") => Kind::Reasoning,
            _ if name.ends_with("refusal") => Kind::Refusal,
            _ if name.ends_with("_arguments") || name.ends_with("_input") => Kind::Tool(place),
            _ if name.ends_with("_code") => Kind::Code,
            _ => return Told::Unknown,
        };
        sections.add(0, section, piece);
        return Told::Understood;
    }
    if kind == "response.output_item.added"
        && let Some(item) = object(event, "item")
        && let Some(name) = text(item, "name")
    {
        sections.name(0, Kind::Tool(number(event, "output_index")), name);
        return Told::Understood;
    }
    if matches!(kind, "response.completed" | "response.incomplete" | "response.done") {
        // Where no deltas came, it is all there is.
        return if sections.is_empty() { Told::Unknown } else { Told::Understood };
    }
    let is_ours = ["response.", "transcript.text.", "speech.audio."].iter().any(|family| kind.starts_with(family));
    let is_repeat = is_ours && REPEATS.iter().any(|end| kind.ends_with(end));
    if is_repeat { Told::Understood } else { Told::Unknown }
}
