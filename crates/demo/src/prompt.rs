//! What was asked, free of any dialect: each dialect turns its body into a [`Prompt`], and a prompt into an answer.

use serde_json::Value;

use crate::answer::{Answer, Content, Usage};
use crate::magic::Magic;
use crate::{sample, tokens, words};

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

/// Whether the model calls a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// If the last user text contains "tool" (or "工具").
    #[default]
    Auto,
    Never,
    Always,
}

/// One request to a language model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompt {
    /// The characters of all texts.
    pub(crate) characters: usize,
    /// Those of them that count as read from a warm cache.
    pub(crate) cached_characters: usize,
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: ToolChoice,
    /// The shape of a JSON answer.
    pub(crate) schema: Option<Value>,
    /// The most output tokens.
    pub(crate) limit: Option<u64>,
    /// Whether the model thinks before it answers.
    pub(crate) thinks: bool,
    /// The last user text.
    pub(crate) asked: String,
    /// The result of a tool that ran after it.
    pub(crate) tool_result: Option<String>,
}

impl Prompt {
    /// Adds a message.
    pub(crate) fn add(&mut self, role: Role, text: &str) {
        self.characters += text.chars().count();
        match role {
            Role::User => {
                self.asked = text.to_owned();
                self.tool_result = None;
            }
            Role::Tool => self.tool_result = Some(text.to_owned()),
            Role::System | Role::Assistant => {}
        }
    }

    /// Answers as `model`.
    pub(crate) fn answer(&self, model: &str) -> Answer {
        let thought = self.thinks.then(|| words::thought_about(&self.asked));
        let thought_tokens = thought.as_deref().map_or(0, tokens::count);
        let (content, is_cut) = match self.called_tool() {
            Some(tool) => (Content::Call { name: tool.name.clone(), arguments: sample::sample(&tool.schema) }, false),
            None if Magic::of(model) == Magic::Long => (Content::Text(words::long()), false),
            None => self.text(thought_tokens),
        };
        let input = tokens::for_characters(self.characters);
        let cached = tokens::for_characters(self.cached_characters).min(input);
        let output = thought_tokens + content.tokens();
        Answer { thought, content, is_cut, usage: Usage { input, cached, output, thought: thought_tokens } }
    }

    fn called_tool(&self) -> Option<&Tool> {
        let asked = self.asked.to_lowercase();
        let wanted = match self.choice {
            ToolChoice::Never => false,
            ToolChoice::Always => true,
            ToolChoice::Auto => asked.contains("tool") || asked.contains("工具"),
        };
        self.tools.first().filter(|_| wanted && self.tool_result.is_none())
    }

    /// The text of the answer, and whether the limit cut it.
    fn text(&self, thought_tokens: u64) -> (Content, bool) {
        let full = match (&self.schema, &self.tool_result) {
            (Some(schema), _) => sample::sample(schema).to_string(),
            (None, Some(result)) => words::reply_to_tool(result, &self.asked),
            (None, None) => words::reply_to(&self.asked),
        };
        let characters = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(thought_tokens).saturating_mul(4));
        match full.char_indices().nth(usize::try_from(characters).unwrap_or(usize::MAX)) {
            Some((end, _)) => (Content::Text(full[..end].to_owned()), true),
            None => (Content::Text(full), false),
        }
    }
}

/// The text of a message's content: a string, or parts that have a `text` (also within tool results), joined.
pub(crate) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text_of).collect(),
        Value::Object(part) => {
            let inner = ["text", "content", "output"].iter().find_map(|key| part.get(*key));
            inner.map(text_of).unwrap_or_default()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn prompt(text: &str) -> Prompt {
        let mut prompt = Prompt { tools: vec![Tool { name: "look".into(), schema: Value::Null }], ..Prompt::default() };
        prompt.add(Role::System, "Be kind");
        prompt.add(Role::User, text);
        prompt
    }

    #[test]
    fn usage_follows_from_the_texts() {
        let answer = prompt("hello").answer("demo-chat");
        let text = "You said: hello. This answer comes from the AIProxy demo upstream.";
        assert_eq!(answer.content, Content::Text(text.to_owned()));
        assert_eq!((answer.usage.input, answer.usage.output), (3, tokens::count(text)));
    }

    #[test]
    fn a_tool_is_called_once() {
        let mut prompt = prompt("use the tool");
        assert!(matches!(prompt.answer("m").content, Content::Call { .. }));
        prompt.add(Role::Tool, "sunny");
        let Content::Text(text) = prompt.answer("m").content else { panic!("called twice") };
        assert!(text.starts_with("The tool returned: sunny. "));
    }

    #[test]
    fn the_limit_cuts_the_text_and_covers_the_thought() {
        let answer = Prompt { limit: Some(15), thinks: true, ..prompt("hello") }.answer("m");
        assert_eq!((answer.is_cut, answer.usage.output, answer.usage.thought), (true, 15, 13));
        assert_eq!(answer.content, Content::Text("You said".to_owned()));
    }

    #[test]
    fn text_is_found_in_every_form_of_content() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "tool_result", "content": [{"text": "b"}]}]);
        assert_eq!(
            (text_of(&parts), text_of(&json!("c")), text_of(&json!(null))),
            ("ab".into(), "c".into(), String::new())
        );
    }
}
