//! The models that the demo lists. Any other name works as well; `magic.rs` tells which ones misbehave.

/// Names for the model lists.
pub(crate) const MODELS: [&str; 19] = [
    "demo-chat",
    "demo-embedding",
    "demo-image",
    "demo-speech",
    "demo-transcribe",
    "demo-rerank",
    "demo-realtime",
    "demo-live",
    "demo-gemini-live",
    "demo-omni-realtime",
    "demo-cosyvoice",
    "demo-paraformer",
    "demo-long",
    "demo-slow",
    "demo-break",
    "demo-error-401",
    "demo-error-429",
    "demo-error-500",
    "demo-error-in-stream",
];

/// When the models were made, in Unix seconds: 2026-01-01.
pub(crate) const CREATED: u64 = 1_767_225_600;
