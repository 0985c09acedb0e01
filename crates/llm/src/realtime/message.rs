//! What a client message asks for, as far as it concerns policy and the meter.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What a client message asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientMessage {
    /// Every model that it names, in the order in which they stand there.
    pub models: Vec<NamedModel>,
    /// What it sets going; `None` for a message of a kind that is not known.
    pub work: Option<Work>,
}

/// A model that a message names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedModel {
    /// The name as policy knows it: `x` for Gemini's `models/x` and `projects/…/models/x`.
    pub name: String,
    /// Where the JSON string stands in the message, quotes included.
    pub span: Range<usize>,
    /// What stands before the name and stays there when it is replaced: `models/`, or nothing.
    pub prefix: String,
    /// What it is named for.
    pub role: ModelRole,
}

/// What a model does in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelRole {
    /// It does the work that was asked for.
    #[default]
    Main,
    /// It writes down what the user says, beside the conversation, and is billed apart.
    Transcription,
}

/// What a message sets going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Something that costs money begins: a response, a task.
    Begin {
        /// The task's id, as DashScope's clients give it.
        id: Option<String>,
    },
    /// The session is set up or changed: `session.update`, `session.start`, Gemini's `setup`.
    Other,
}

/// Why a held message cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no JSON object, or not a whole one.
    NotJson,
    /// A key that matters comes twice.
    Contradiction,
    /// Something else than a string stands where a model's name belongs.
    NotAName,
    /// The id of a task is longer than 256 bytes.
    TooLong,
}

impl Unreadable {
    /// A sentence for the client.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "The message is not a JSON object.",
            Self::Contradiction => "A key of the message comes twice. Send it once.",
            Self::NotAName => "The model must be a string.",
            Self::TooLong => "The id of the task is longer than 256 bytes.",
        }
    }
}
