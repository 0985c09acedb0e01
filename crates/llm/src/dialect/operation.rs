//! What a call asks for, as a closed list, and where its model is named. Knows no paths.

use serde::{Deserialize, Serialize};

/// What a call asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// OpenAI chat.
    ChatCompletions,
    /// OpenAI legacy completions, and Mistral's fill-in-the-middle.
    Completions,
    /// OpenAI Responses: create, over HTTP or WebSocket; and compact, which is billed alike.
    Responses,
    /// Reading, cancelling or deleting a stored response. Its usage belongs to the call that created it.
    ResponsesRetrieve,
    /// Counting the input tokens of a response; free.
    ResponsesInputTokens,
    /// OpenAI embeddings.
    Embeddings,
    /// OpenAI image generation.
    Images,
    /// OpenAI image edits and variations, as a form.
    ImageEdits,
    /// OpenAI text to speech.
    Speech,
    /// OpenAI speech to text, as a form.
    Transcription,
    /// OpenAI speech to English text, as a form.
    Translation,
    /// OpenAI moderations.
    Moderations,
    /// Listing models or describing one.
    Models,
    /// Files, uploads and vector stores.
    Files,
    /// Batches of either OpenAI or Anthropic.
    Batches,
    /// OpenAI videos.
    Videos,
    /// Rerank as Jina, Cohere v1 and many compatible providers have it.
    Rerank,
    /// OpenAI Realtime over WebSocket.
    Realtime,
    /// The SDP exchange that starts a Realtime call over WebRTC.
    RealtimeCalls,
    /// Hanging up, accepting, rejecting or referring a Realtime call.
    RealtimeCallControl,
    /// Minting an ephemeral Realtime secret.
    RealtimeClientSecrets,
    /// Realtime translation over WebSocket.
    RealtimeTranslations,
    /// OpenAI Live sessions: start (HTTP or WebSocket), attach, control.
    Live,
    /// Anthropic Messages.
    Messages,
    /// Counting tokens, Anthropic's or Gemini's; free.
    CountTokens,
    /// Gemini, whole answer.
    GenerateContent,
    /// Gemini, streamed.
    StreamGenerateContent,
    /// Gemini embeddings.
    EmbedContent,
    /// Vertex `:predict` (Imagen, embeddings, video).
    Predict,
    /// Gemini Live over WebSocket.
    GeminiLive,
    /// Gemini interactions.
    Interactions,
    /// DashScope text generation.
    DashscopeGeneration,
    /// DashScope multimodal generation.
    DashscopeMultimodal,
    /// DashScope embeddings.
    DashscopeEmbedding,
    /// DashScope image synthesis.
    DashscopeImage,
    /// DashScope video synthesis.
    DashscopeVideo,
    /// DashScope rerank.
    DashscopeRerank,
    /// DashScope audio services over HTTP.
    DashscopeAudio,
    /// Any other DashScope service.
    DashscopeService,
    /// A DashScope application.
    DashscopeApplication,
    /// Asking for, listing or cancelling asynchronous DashScope tasks.
    DashscopeTask,
    /// The upload policy of DashScope.
    DashscopeUpload,
    /// DashScope speech over WebSocket.
    DashscopeInference,
    /// Qwen Omni and TTS realtime over WebSocket.
    DashscopeRealtime,
    /// Cohere v2 chat.
    CohereChat,
    /// Cohere embeddings.
    CohereEmbed,
    /// Bedrock invoke, whole answer.
    BedrockInvoke,
    /// Bedrock invoke, streamed as AWS event stream.
    BedrockInvokeStream,
    /// Bedrock converse, whole answer.
    BedrockConverse,
    /// Bedrock converse, streamed as AWS event stream.
    BedrockConverseStream,
    /// Anything else: passed through.
    #[default]
    Other,
}

/// Where a call names its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelPlace {
    /// `model` in a JSON body.
    JsonBody,
    /// The form field `model` of a multipart body.
    Form,
    /// In the path.
    Path,
    /// The parameter `model` of the query.
    Query,
    /// In a message after the WebSocket handshake.
    Message,
    /// Nowhere.
    Nowhere,
}

impl Operation {
    /// Text goes in, and text or embeddings come out: what it used can be estimated from what passed by.
    #[must_use]
    pub const fn is_text(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions
                | Self::Completions
                | Self::Responses
                | Self::Embeddings
                | Self::Messages
                | Self::GenerateContent
                | Self::StreamGenerateContent
                | Self::EmbedContent
                | Self::Interactions
                | Self::DashscopeGeneration
                | Self::DashscopeMultimodal
                | Self::DashscopeEmbedding
                | Self::CohereChat
                | Self::CohereEmbed
                | Self::BedrockInvoke
                | Self::BedrockInvokeStream
                | Self::BedrockConverse
                | Self::BedrockConverseStream
        )
    }

    /// Where this operation names its model, unless the path does (`Route::model_place` knows that).
    #[must_use]
    pub const fn model_place(self) -> ModelPlace {
        match self {
            Self::ImageEdits | Self::Transcription | Self::Translation => ModelPlace::Form,
            Self::GenerateContent
            | Self::StreamGenerateContent
            | Self::EmbedContent
            | Self::Predict
            | Self::BedrockInvoke
            | Self::BedrockInvokeStream
            | Self::BedrockConverse
            | Self::BedrockConverseStream => ModelPlace::Path,
            Self::Realtime | Self::RealtimeTranslations | Self::DashscopeRealtime | Self::DashscopeUpload => {
                ModelPlace::Query
            }
            Self::GeminiLive | Self::DashscopeInference => ModelPlace::Message,
            Self::ResponsesRetrieve
            | Self::Models
            | Self::Files
            | Self::Batches
            | Self::RealtimeCallControl
            | Self::DashscopeApplication
            | Self::DashscopeTask
            | Self::Other => ModelPlace::Nowhere,
            Self::ChatCompletions
            | Self::Completions
            | Self::Responses
            | Self::ResponsesInputTokens
            | Self::Embeddings
            | Self::Images
            | Self::Speech
            | Self::Moderations
            | Self::Videos
            | Self::Rerank
            | Self::RealtimeCalls
            | Self::RealtimeClientSecrets
            | Self::Live
            | Self::Messages
            | Self::CountTokens
            | Self::Interactions
            | Self::DashscopeGeneration
            | Self::DashscopeMultimodal
            | Self::DashscopeEmbedding
            | Self::DashscopeImage
            | Self::DashscopeVideo
            | Self::DashscopeRerank
            | Self::DashscopeAudio
            | Self::DashscopeService
            | Self::CohereChat
            | Self::CohereEmbed => ModelPlace::JsonBody,
        }
    }

    /// A streamed answer lacks usage unless `stream_options.include_usage` asks for it.
    #[must_use]
    pub const fn needs_usage_injection(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }

    /// The upstream may start work that costs money: such a call must not be repeated blindly.
    #[must_use]
    pub const fn is_billable(self) -> bool {
        !matches!(
            self,
            Self::ResponsesRetrieve
                | Self::ResponsesInputTokens
                | Self::Moderations
                | Self::Models
                | Self::Files
                | Self::RealtimeCallControl
                | Self::CountTokens
                | Self::DashscopeTask
                | Self::DashscopeUpload
                | Self::Other
        )
    }
}
