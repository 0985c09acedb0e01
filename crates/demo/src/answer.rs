//! An answer, free of any dialect: text or a tool call, what it cost, and how it arrives piece by piece.

use serde_json::Value;

use crate::{tokens, words};

/// What the model says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Text(String),
    Call { name: String, arguments: Value },
}

impl Content {
    pub(crate) fn tokens(&self) -> u64 {
        match self {
            Self::Text(text) => tokens::count(text),
            Self::Call { name, arguments } => tokens::count(&format!("{name}{arguments}")),
        }
    }
}

/// What an answer cost, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// All input, cached or not.
    pub(crate) input: u64,
    /// The part of the input that came from a cache.
    pub(crate) cached: u64,
    /// All output, thoughts included.
    pub(crate) output: u64,
    /// The part of the output that is thought.
    pub(crate) thought: u64,
}

impl Usage {
    pub(crate) fn total(&self) -> u64 {
        self.input + self.output
    }
}

/// The answer to a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) thought: Option<String>,
    pub(crate) content: Content,
    /// Whether the output limit cut the text.
    pub(crate) is_cut: bool,
    pub(crate) usage: Usage,
}

/// A piece of text as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The new text.
    pub(crate) text: String,
    /// All text up to here.
    pub(crate) text_so_far: String,
    /// What has been spent up to here.
    pub(crate) usage: Usage,
}

impl Answer {
    /// The text in pieces, each with the usage up to it; the last one carries the final usage. None for a tool call.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let Content::Text(text) = &self.content else { return Vec::new() };
        let mut text_so_far = String::new();
        let piece = |text: String| {
            text_so_far.push_str(&text);
            let output = self.usage.thought + tokens::count(&text_so_far);
            Piece { text, text_so_far: text_so_far.clone(), usage: Usage { output, ..self.usage } }
        };
        words::pieces(text).into_iter().map(piece).collect()
    }

    /// Why the answer ended, in the words of a dialect: for a full text, a cut one, a tool call.
    pub(crate) fn ending<'a>(&self, full: &'a str, cut: &'a str, call: &'a str) -> &'a str {
        match self.content {
            Content::Call { .. } => call,
            Content::Text(_) if self.is_cut => cut,
            Content::Text(_) => full,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::prompt::{Prompt, Role};

    #[test]
    fn the_last_piece_carries_the_final_usage() {
        let mut prompt = Prompt { thinks: true, ..Prompt::default() };
        prompt.add(Role::User, "hello");
        let answer = prompt.answer("demo-chat");
        let pieces = answer.pieces();
        assert!(pieces.len() > 5 && pieces[0].usage.output < answer.usage.output);
        assert_eq!(pieces.last().map(|piece| piece.usage), Some(answer.usage));
    }
}
