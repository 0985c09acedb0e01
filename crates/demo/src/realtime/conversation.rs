//! The items of a conversation and what they weigh as the input of the next response.

use serde_json::{Value, json};

use super::Fault;
use super::settings::Format;
use crate::base64;
use crate::prompt::Role;

/// The oldest items are forgotten beyond this many, or beyond this much text in bytes.
const MOST_ITEMS: usize = 1000;
const MOST_TEXT: usize = 8 * 1024 * 1024;

/// One item.
#[derive(Clone, Debug)]
pub(super) struct Item {
    id: String,
    shown: Value,
    pub(super) role: Role,
    pub(super) text: String,
    /// Milliseconds of sound.
    pub(super) sound: u64,
}

impl Item {
    /// A user's committed sound.
    pub(super) fn sound(id: String, milliseconds: u64) -> Self {
        let shown = json!({"id": id, "object": "realtime.item", "type": "message", "status": "completed",
            "role": "user", "content": [{"type": "input_audio", "transcript": null}]});
        Self { id, shown, role: Role::User, text: String::new(), sound: milliseconds }
    }

    /// What the model said: `text`, also if it was spoken, and the sound of it.
    pub(super) fn of_model(shown: Value, text: String, sound: u64) -> Self {
        let id = shown["id"].as_str().unwrap_or_default().to_owned();
        Self { id, shown, role: Role::Assistant, text, sound }
    }

    /// An item as a client describes it, and the sound that it carries.
    pub(super) fn of_client(id: String, asked: &Value, format: Format) -> Result<(Self, Vec<u8>), Fault> {
        let role = match (asked["type"].as_str(), asked["role"].as_str()) {
            (Some("message"), Some("user")) => Role::User,
            (Some("message"), Some("assistant")) => Role::Assistant,
            (Some("message"), Some("system")) => Role::System,
            (Some("message"), _) => return Err(Fault::missing("item.role")),
            (Some("function_call_output"), _) => Role::Tool,
            (Some("function_call"), _) => Role::Assistant,
            (Some(_), _) => return Err(Fault::new("invalid_value", "Invalid value: 'item.type'.").param("item.type")),
            (None, _) => return Err(Fault::missing("item.type")),
        };
        let mut shown = json!({"id": id, "object": "realtime.item"});
        super::extend(&mut shown, asked.clone());
        super::extend(&mut shown, json!({"id": id, "object": "realtime.item", "status": "completed"}));
        let (mut text, mut sound) = (String::new(), Vec::new());
        for part in shown["content"].as_array_mut().into_iter().flatten() {
            if let Some(words) = part["text"].as_str().or(part["transcript"].as_str()) {
                text.push_str(words);
            }
            let Some(part) = part.as_object_mut() else { continue };
            // Neither sound nor pictures are shown again.
            if let Some(Value::String(audio)) = part.remove("audio") {
                let invalid = || Fault::new("invalid_value", "Invalid 'item.content.audio'.").param("item.content");
                sound.extend(base64::decode(&audio).ok_or_else(invalid)?);
            }
            part.remove("image_url");
        }
        for name in ["output", "name", "arguments"] {
            text.push_str(asked[name].as_str().unwrap_or_default());
        }
        let milliseconds = format.milliseconds(sound.len());
        Ok((Self { id, shown, role, text, sound: milliseconds }, sound))
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The item as the client sees it.
    pub(super) fn shown(&self) -> &Value {
        &self.shown
    }
}

/// The input of a response: characters of text and milliseconds of sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) characters: usize,
    pub(super) sound: u64,
}

/// The items in order.
#[derive(Debug)]
pub(super) struct Conversation {
    id: String,
    items: Vec<Item>,
    /// The input of the response before, which a provider has in its cache.
    pub(super) cached: Context,
}

impl Conversation {
    pub(super) fn new(id: String) -> Self {
        Self { id, items: Vec::new(), cached: Context::default() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    pub(super) fn last_id(&self) -> Option<&str> {
        self.items.last().map(|item| item.id.as_str())
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.items.iter().any(|item| item.id == id)
    }

    pub(super) fn find(&self, id: &Value) -> Result<&Item, Fault> {
        let id = id.as_str().ok_or_else(|| Fault::missing("item_id"))?;
        self.items.iter().find(|item| item.id == id).ok_or_else(|| {
            Fault::new("item_not_found", format!("The item with id '{id}' does not exist.")).param("item_id")
        })
    }

    /// Puts `item` behind `after` (`root`: first), else at the end; the id of the item before it.
    pub(super) fn add(&mut self, item: Item, after: Option<&str>) -> Option<String> {
        let position = match after {
            Some("root") => 0,
            Some(after) => self.items.iter().position(|item| item.id == after).map_or(self.items.len(), |at| at + 1),
            None => self.items.len(),
        };
        let previous = position.checked_sub(1).and_then(|at| self.items.get(at)).map(|item| item.id.clone());
        self.items.insert(position, item);
        let mut text: usize = self.items.iter().map(|item| item.text.len()).sum();
        while self.items.len() > MOST_ITEMS || self.items.len() > 1 && text > MOST_TEXT {
            text -= self.items.remove(0).text.len();
        }
        previous
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.items.retain(|item| item.id != id);
    }

    /// Puts an item in the place of the one with its id, if that is still there.
    pub(super) fn replace(&mut self, item: Item) {
        if let Some(place) = self.items.iter_mut().find(|place| place.id == item.id) {
            *place = item;
        }
    }
}
