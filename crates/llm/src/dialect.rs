//! Whose language a call speaks and what it asks for, told from its method and path alone. Knows nothing of channels:
//! the same answer holds whichever provider serves the call in the end.

mod classify;
mod operation;

use serde::{Deserialize, Serialize};

pub use classify::{Route, classify};
pub use operation::{ModelPlace, Operation};

/// The family a client belongs to: which error envelope it can read, and how it streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI, Azure and everything compatible; also what an unknown path is answered in.
    #[default]
    Openai,
    /// Anthropic Messages, wherever it is served (Vertex and Bedrock included).
    Anthropic,
    /// Google Gemini, the developer API and Vertex.
    Gemini,
    /// Alibaba DashScope's native API.
    Dashscope,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Openai, Self::Anthropic, Self::Gemini, Self::Dashscope];

    /// The name used in config, records and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Dashscope => "dashscope",
        }
    }
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
