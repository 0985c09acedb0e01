//! The list of models in the forms of OpenAI, Anthropic and Gemini: read as a provider answers it, written as an SDK of
//! any of them expects it. Does not know which models a caller may see, and asks for no second page.

mod date;

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;

/// More models of one provider are left out.
pub const MOST_MODELS: usize = 10_000;

/// Longer ids, in bytes, are left out.
const LONGEST_ID: usize = 512;

/// What a model is owned by where nobody says it; OpenAI's SDKs want a string.
const UNKNOWN_OWNER: &str = "system";

/// One model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelEntry {
    /// What a caller names it, without Gemini's `models/`. May differ from the id in `raw`: this one is written.
    pub id: String,
    /// When it was created, in seconds since 1970; unknown is written as 0.
    pub created: Option<u64>,
    /// Who owns it; unknown is written as `system`.
    pub owned_by: Option<String>,
    /// Its name for people; the id stands in for it.
    pub display_name: Option<String>,
    /// The dialect of the list it came from.
    pub dialect: Dialect,
    /// The provider's own object. Its members are passed on in an answer of the same dialect, and only there.
    pub raw: Option<Map<String, Value>>,
}

impl ModelEntry {
    /// A model of which nothing but its id is known.
    #[must_use]
    pub fn named(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    fn parse(value: Value, has_gemini_names: bool) -> Option<Self> {
        let raw = match value {
            Value::Object(raw) => raw,
            Value::String(id) => return is_id(&id).then(|| Self::named(id)),
            _ => return None,
        };
        let text = |key: &str| raw.get(key).and_then(Value::as_str);
        let id = ["id", "name", "model"].into_iter().find_map(text).map(bare_id).filter(|id| is_id(id))?.to_owned();
        let dialect = match text("type") {
            _ if has_gemini_names && raw.contains_key("name") => Dialect::Gemini,
            Some("model") => Dialect::Anthropic,
            _ => Dialect::Openai,
        };
        let created = raw.get("created").and_then(Value::as_u64).or_else(|| text("created_at").and_then(date::parse));
        let owned_by = text("owned_by").map(str::to_owned);
        let display_name = ["display_name", "displayName"].into_iter().find_map(text).map(str::to_owned);
        Some(Self { id, created, owned_by, display_name, dialect, raw: Some(raw) })
    }

    fn write(&self, dialect: Dialect) -> Value {
        // DashScope's own API has no list; its users ask at the compatible one.
        let dialect = if dialect == Dialect::Dashscope { Dialect::Openai } else { dialect };
        let mut model = match &self.raw {
            Some(raw) if self.dialect == dialect => raw.clone(),
            _ => Map::new(),
        };
        let (key, id) = match dialect {
            Dialect::Gemini => ("name", gemini_name(&self.id)),
            Dialect::Openai | Dialect::Anthropic | Dialect::Dashscope => ("id", self.id.clone()),
        };
        model.insert(key.to_owned(), id.into());
        let display_name = self.display_name.as_deref().unwrap_or(&self.id);
        let mut default = |key: &str, value: Value| {
            let slot = model.entry(key).or_insert(Value::Null);
            if slot.is_null() {
                *slot = value;
            }
        };
        match dialect {
            Dialect::Anthropic => {
                default("type", "model".into());
                default("display_name", display_name.into());
                default("created_at", date::write(self.created.unwrap_or(0)).into());
            }
            Dialect::Gemini => {
                default("version", "001".into());
                default("displayName", display_name.into());
                default("supportedGenerationMethods", json!(["generateContent", "countTokens"]));
            }
            Dialect::Openai | Dialect::Dashscope => {
                default("object", "model".into());
                default("created", self.created.unwrap_or(0).into());
                default("owned_by", self.owned_by.as_deref().unwrap_or(UNKNOWN_OWNER).into());
            }
        }
        Value::Object(model)
    }
}

/// Reads a provider's list: OpenAI's and Anthropic's `data`, Gemini's `models`, Vertex's `publisherModels`, or a bare
/// array as some compatible providers answer. Nothing if it is none of these; a member that names no model is left
/// out, as are those beyond [`MOST_MODELS`].
#[must_use]
pub fn parse_list(body: &[u8]) -> Option<Vec<ModelEntry>> {
    let (list, has_gemini_names) = match serde_json::from_slice(body).ok()? {
        Value::Array(list) => (list, false),
        // Protocol buffers as JSON leave out what is empty: Gemini's empty list is `{}`.
        Value::Object(answer) if answer.is_empty() => (Vec::new(), true),
        Value::Object(mut answer) => {
            ["data", "models", "publisherModels"].into_iter().find_map(|key| match answer.remove(key)? {
                Value::Array(list) => Some((list, key != "data")),
                // Servers written in Go have it for an empty list; but some have it beside an error, too.
                Value::Null if !answer.contains_key("error") => Some((Vec::new(), false)),
                _ => None,
            })?
        }
        _ => return None,
    };
    let entries = list.into_iter().filter_map(|value| ModelEntry::parse(value, has_gemini_names));
    Some(entries.take(MOST_MODELS).collect())
}

/// Writes a whole list, in one page.
#[must_use]
pub fn write_list(dialect: Dialect, entries: &[ModelEntry]) -> Vec<u8> {
    let models: Vec<Value> = entries.iter().map(|entry| entry.write(dialect)).collect();
    let id = |entry: Option<&ModelEntry>| entry.map(|entry| entry.id.clone());
    let list = match dialect {
        Dialect::Anthropic => json!({
            "data": models, "has_more": false, "first_id": id(entries.first()), "last_id": id(entries.last()),
        }),
        Dialect::Gemini => json!({ "models": models }),
        Dialect::Openai | Dialect::Dashscope => json!({ "object": "list", "data": models }),
    };
    list.to_string().into_bytes()
}

/// Writes the description of one model.
#[must_use]
pub fn write_one(dialect: Dialect, entry: &ModelEntry) -> Vec<u8> {
    entry.write(dialect).to_string().into_bytes()
}

/// The id in `/v1/models/{id}`, still percent-encoded; it may contain slashes, but as in [`ModelEntry::id`] no
/// `models/` in front. Nothing for the list itself.
#[must_use]
pub fn asked_one(path: &str) -> Option<&str> {
    let mut rest = path.split_once('?').map_or(path, |(path, _)| path);
    loop {
        let (segment, after) = rest.split_once('/')?;
        if segment == "models" {
            let id = bare_id(after.trim_matches('/'));
            return (!id.is_empty()).then_some(id);
        }
        rest = after;
    }
}

fn is_id(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len())
}

/// `gemini-x` of `models/gemini-x` and of Vertex's `publishers/google/models/gemini-x`.
fn bare_id(name: &str) -> &str {
    match name.split_once("/models/") {
        Some((publisher, id)) if publisher.starts_with("publishers/") || publisher.starts_with("projects/") => id,
        _ => name.strip_prefix("models/").unwrap_or(name),
    }
}

fn gemini_name(id: &str) -> String {
    if id.starts_with("tunedModels/") { id.to_owned() } else { format!("models/{id}") }
}

#[cfg(test)]
mod tests;
