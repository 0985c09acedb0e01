//! Where each family writes what the meter looks for. Data only.

use crate::dialect::{Dialect, Operation};
use crate::json_scan::Path;
use crate::usage::UsageForm;

use super::MeterKind;

/// What stands at which number of [`Form::paths`].
pub(super) const USAGE: usize = 0;
/// A usage that replaces fields of the first (Anthropic), or another place where it may be.
pub(super) const LATER_USAGE: usize = 1;
pub(super) const MODEL: usize = 2;
pub(super) const ERROR: usize = 3;
pub(super) const INNER_ERROR: usize = 4;
pub(super) const KIND: usize = 5;
pub(super) const CODE: usize = 6;
pub(super) const MESSAGE: usize = 7;

const NOWHERE: Path = &[];

/// A family of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenAI except Responses, whole or streamed.
    Openai,
    /// Responses, streamed: everything is inside `response`.
    ResponsesStream,
    /// Anthropic, whole.
    Anthropic,
    /// Anthropic, streamed: the first usage is inside `message`.
    AnthropicStream,
    Gemini,
    Dashscope,
    Cohere,
    /// Cohere, streamed: the usage is inside `delta`.
    CohereStream,
    Bedrock,
}

impl Form {
    pub(super) fn of(dialect: Dialect, operation: Operation, kind: MeterKind) -> Self {
        let streamed = kind == MeterKind::Sse;
        match (operation, dialect) {
            (Operation::BedrockConverse | Operation::BedrockConverseStream, _) => Self::Bedrock,
            (Operation::CohereChat | Operation::CohereEmbed, _) if streamed => Self::CohereStream,
            (Operation::CohereChat | Operation::CohereEmbed, _) => Self::Cohere,
            (Operation::Responses | Operation::ResponsesRetrieve, _) if streamed => Self::ResponsesStream,
            (_, Dialect::Openai) => Self::Openai,
            (_, Dialect::Anthropic) if streamed => Self::AnthropicStream,
            (_, Dialect::Anthropic) => Self::Anthropic,
            (_, Dialect::Gemini) => Self::Gemini,
            (_, Dialect::Dashscope) => Self::Dashscope,
        }
    }

    pub(super) const fn usage_form(self) -> UsageForm {
        match self {
            Self::Openai | Self::ResponsesStream => UsageForm::Openai,
            Self::Anthropic | Self::AnthropicStream => UsageForm::Anthropic,
            Self::Gemini => UsageForm::Gemini,
            Self::Dashscope => UsageForm::Dashscope,
            Self::Cohere | Self::CohereStream => UsageForm::Cohere,
            Self::Bedrock => UsageForm::Bedrock,
        }
    }

    pub(super) const fn paths(self) -> &'static [Path] {
        match self {
            Self::Openai => &[&["usage"], &["meta"], &["model"], &["error"], NOWHERE, &["type"], NOWHERE, NOWHERE],
            Self::ResponsesStream => &[
                &["response", "usage"],
                NOWHERE,
                &["response", "model"],
                &["error"],
                &["response", "error"],
                &["type"],
                &["code"],
                &["message"],
            ],
            Self::Anthropic => &[&["usage"], NOWHERE, &["model"], &["error"], NOWHERE, &["type"], NOWHERE, NOWHERE],
            Self::AnthropicStream => &[
                &["message", "usage"],
                &["usage"],
                &["message", "model"],
                &["error"],
                NOWHERE,
                &["type"],
                NOWHERE,
                NOWHERE,
            ],
            Self::Gemini => {
                &[&["usageMetadata"], NOWHERE, &["modelVersion"], &["error"], NOWHERE, NOWHERE, NOWHERE, NOWHERE]
            }
            Self::Dashscope => {
                &[&["usage"], NOWHERE, &["model"], &["error"], NOWHERE, NOWHERE, &["code"], &["message"]]
            }
            Self::Cohere => &[&["usage"], &["meta"], &["model"], &["error"], NOWHERE, &["type"], NOWHERE, NOWHERE],
            Self::CohereStream => {
                &[&["delta", "usage"], NOWHERE, &["model"], &["error"], NOWHERE, &["type"], NOWHERE, NOWHERE]
            }
            Self::Bedrock => &[&["usage"], NOWHERE, &["model"], &["error"], NOWHERE, NOWHERE, NOWHERE, NOWHERE],
        }
    }
}
