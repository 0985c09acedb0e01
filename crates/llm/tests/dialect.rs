//! Given a method and a path, then this dialect, operation, label and model. The paths are those the SDKs send.

use aiproxy_llm::dialect::Dialect::{self, Anthropic, Dashscope, Gemini, Openai};
use aiproxy_llm::dialect::Operation::{self, *};
use aiproxy_llm::dialect::{ModelPlace, classify};

fn check(cases: &[(&str, Dialect, Operation, &str)]) {
    for (path, dialect, operation, endpoint) in cases {
        let route = classify("POST", path);
        assert_eq!((route.dialect, route.operation, route.endpoint), (*dialect, *operation, *endpoint), "{path}");
    }
}

#[test]
fn openai_paths_with_any_prefix() {
    for prefix in [
        "",
        "/v1",
        "/compatible-mode/v1",
        "/v1beta/openai",
        "/openai/v1",
        "/api/paas/v4",
        "/api/v3",
        "/api/v1",
        "/v2",
        "/inference/v1",
        "/v1/projects/p/locations/global/endpoints/openapi",
        "//v1/",
        "/openai/deployments/gpt-4o",
    ] {
        let path = format!("{prefix}/chat/completions");
        let route = classify("POST", &path);
        assert_eq!((route.dialect, route.operation), (Openai, ChatCompletions), "{path}");
        assert_eq!(route.endpoint, "/v1/chat/completions");
        assert_eq!(route.model_in_path, prefix.contains("deployments").then_some("gpt-4o"));
        assert!(!route.stream_in_path);
    }
    check(&[
        ("/v1/responses", Openai, Responses, "/v1/responses"),
        ("/responses?x=1", Openai, Responses, "/v1/responses"),
        ("/openai/responses", Openai, Responses, "/v1/responses"),
        ("/v1/responses/compact", Openai, Responses, "/v1/responses/compact"),
        ("/v1/responses/input_tokens", Openai, ResponsesInputTokens, "/v1/responses/input_tokens"),
        ("/v1/responses/resp_1", Openai, ResponsesRetrieve, "/v1/responses/{id}"),
        ("/v1/responses/resp_1/cancel", Openai, ResponsesRetrieve, "/v1/responses/{id}"),
        ("/v1/embeddings", Openai, Embeddings, "/v1/embeddings"),
        ("/embeddings", Openai, Embeddings, "/v1/embeddings"),
        ("/v1/completions", Openai, Completions, "/v1/completions"),
        ("/v1/fim/completions", Openai, Completions, "/v1/fim/completions"),
        ("/v1/images/generations", Openai, Images, "/v1/images/generations"),
        ("/v1/images/edits", Openai, ImageEdits, "/v1/images/edits"),
        ("/v1/audio/speech", Openai, Speech, "/v1/audio/speech"),
        ("/v1/audio/transcriptions", Openai, Transcription, "/v1/audio/transcriptions"),
        ("/v1/audio/translations", Openai, Translation, "/v1/audio/translations"),
        ("/v1/moderations", Openai, Moderations, "/v1/moderations"),
        ("/v1/models", Openai, Models, "/v1/models"),
        ("/models", Openai, Models, "/v1/models"),
        ("/openai/models", Openai, Models, "/v1/models"),
        ("/v1/models/gpt-4o", Openai, Models, "/v1/models"),
        ("/v1/files/f/content", Openai, Files, "/v1/files"),
        ("/v1/uploads", Openai, Files, "/v1/files"),
        ("/v1/batches", Openai, Batches, "/v1/batches"),
        ("/v1/videos", Openai, Videos, "/v1/videos"),
        ("/v1/rerank", Openai, Rerank, "/v1/rerank"),
        ("/v1/realtime", Openai, Realtime, "/v1/realtime"),
        ("/openai/realtime", Openai, Realtime, "/v1/realtime"),
        ("/openai/v1/realtime", Openai, Realtime, "/v1/realtime"),
        ("/v1/realtime/calls", Openai, RealtimeCalls, "/v1/realtime/calls"),
        ("/v1/realtime/calls/rtc_1/hangup", Openai, RealtimeCallControl, "/v1/realtime/calls/{id}/{action}"),
        ("/v1/realtime/client_secrets", Openai, RealtimeClientSecrets, "/v1/realtime/client_secrets"),
        ("/v1/realtime/translations", Openai, RealtimeTranslations, "/v1/realtime/translations"),
        ("/v1/live/sessions", Openai, Live, "/v1/live/sessions"),
        ("/v1/live/sessions/s/hangup", Openai, RealtimeCallControl, "/v1/live/sessions/{id}/{action}"),
        ("/v1/threads/t/messages", Openai, Other, "other"),
        ("/v2/chat", Openai, CohereChat, "/v2/chat"),
        ("/v2/embed", Openai, CohereEmbed, "/v2/embed"),
        ("/v2/rerank", Openai, Rerank, "/v1/rerank"),
        ("/", Openai, Other, "other"),
        ("", Openai, Other, "other"),
        ("/favicon.ico", Openai, Other, "other"),
        ("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/chat/completions", Openai, Other, "other"),
    ]);
    assert_eq!(classify("GET", "/v1/live/sessions/s/attach").operation, Live);
}

#[test]
fn anthropic_paths() {
    check(&[
        ("/v1/messages", Anthropic, Messages, "/v1/messages"),
        ("/messages", Anthropic, Messages, "/v1/messages"),
        ("/anthropic/v1/messages", Anthropic, Messages, "/v1/messages"),
        ("/apps/anthropic/v1/messages", Anthropic, Messages, "/v1/messages"),
        ("/v1/messages/count_tokens", Anthropic, CountTokens, "/v1/messages/count_tokens"),
        ("/v1/messages/batches/b/results", Anthropic, Batches, "/v1/messages/batches"),
    ]);
    let route =
        classify("POST", "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@20250929:streamRawPredict");
    assert_eq!((route.dialect, route.operation), (Anthropic, Messages));
    assert_eq!(route.model_in_path, Some("claude-x@20250929"));
    assert!(route.stream_in_path);
    let route = classify("POST", "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict");
    assert_eq!((route.operation, route.model_in_path), (CountTokens, None));
    assert_eq!(classify("GET", "/v1/models").for_anthropic_caller().dialect, Anthropic);
    assert_eq!(classify("POST", "/v1/embeddings").for_anthropic_caller().dialect, Openai);
}

#[test]
fn bedrock_paths() {
    let route = classify("POST", "/model/us.anthropic.claude-sonnet-4-5-20250929-v1:0/invoke");
    assert_eq!((route.dialect, route.operation, route.stream_in_path), (Anthropic, BedrockInvoke, false));
    assert_eq!(route.model_in_path, Some("us.anthropic.claude-sonnet-4-5-20250929-v1:0"));
    let route = classify("POST", "/model/a%3A0/invoke-with-response-stream");
    assert_eq!((route.operation, route.model_in_path), (BedrockInvokeStream, Some("a%3A0")));
    assert!(route.stream_in_path);
    assert_eq!(classify("POST", "/model/m/converse-stream").operation, BedrockConverseStream);
}

#[test]
fn gemini_paths() {
    let cases: &[(&str, Operation, &str, bool)] = &[
        ("/v1beta/models/g:generateContent", GenerateContent, "/v1beta/models/{model}:generateContent", false),
        ("/v1/models/g:generateContent", GenerateContent, "/v1beta/models/{model}:generateContent", false),
        ("/models/g:generateContent", GenerateContent, "/v1beta/models/{model}:generateContent", false),
        (
            "/v1/models/g:streamGenerateContent",
            StreamGenerateContent,
            "/v1beta/models/{model}:streamGenerateContent",
            true,
        ),
        (
            "/v1beta1/projects/p/locations/l/publishers/google/models/g:generateContent",
            GenerateContent,
            "/v1/publishers/google/models/{model}:generateContent",
            false,
        ),
        ("/v1beta1/publishers/google/models/g:predict", Predict, "/v1/publishers/google/models/{model}:predict", false),
        ("/v1beta/models/g:countTokens", CountTokens, "/v1beta/models/{model}:countTokens", false),
        ("/v1beta/models/g:batchEmbedContents", EmbedContent, "/v1beta/models/{model}:embedContent", false),
    ];
    for (path, operation, endpoint, stream) in cases {
        let route = classify("POST", path);
        assert_eq!((route.dialect, route.operation, route.endpoint), (Gemini, *operation, *endpoint), "{path}");
        assert_eq!((route.model_in_path, route.stream_in_path), (Some("g"), *stream), "{path}");
        assert_eq!(route.model_place(), ModelPlace::Path);
    }
    check(&[
        ("/v1beta/models", Gemini, Models, "/v1beta/models"),
        ("/v1/interactions", Gemini, Interactions, "/v1beta/interactions"),
        ("/upload/v1beta/files", Gemini, Files, "/v1beta/files"),
        ("/v1alpha/auth_tokens", Gemini, Other, "/v1alpha/auth_tokens"),
        (
            "//ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
            Gemini,
            GeminiLive,
            "/ws/{service}",
        ),
        ("/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent", Gemini, GeminiLive, "/ws/{service}"),
    ]);
}

#[test]
fn dashscope_paths() {
    const AIGC: &str = "/api/v1/services/aigc";
    check(&[
        (
            &format!("{AIGC}/text-generation/generation"),
            Dashscope,
            DashscopeGeneration,
            "/api/v1/services/aigc/text-generation",
        ),
        (
            &format!("{AIGC}/multimodal-generation/generation"),
            Dashscope,
            DashscopeMultimodal,
            "/api/v1/services/aigc/multimodal-generation",
        ),
        (&format!("{AIGC}/text2image/image-synthesis"), Dashscope, DashscopeImage, "/api/v1/services/aigc/text2image"),
        (
            &format!("{AIGC}/video-generation/video-synthesis"),
            Dashscope,
            DashscopeVideo,
            "/api/v1/services/aigc/video-generation",
        ),
        (
            "/api/v1/services/embeddings/text-embedding/text-embedding",
            Dashscope,
            DashscopeEmbedding,
            "/api/v1/services/embeddings",
        ),
        ("/api/v1/services/rerank/text-rerank/text-rerank", Dashscope, DashscopeRerank, "/api/v1/services/rerank"),
        ("/api/v1/services/audio/asr/transcription", Dashscope, DashscopeAudio, "/api/v1/services/audio"),
        ("/api/v1/tasks/t-1", Dashscope, DashscopeTask, "/api/v1/tasks/{id}"),
        ("/api/v1/apps/a/completion", Dashscope, DashscopeApplication, "/api/v1/apps/{id}/completion"),
        ("/api/v1/uploads", Dashscope, DashscopeUpload, "/api/v1/uploads"),
        ("/api-ws/v1/inference/", Dashscope, DashscopeInference, "/api-ws/v1/inference"),
        ("/api-ws/v1/realtime", Dashscope, DashscopeRealtime, "/api-ws/v1/realtime"),
    ]);
}

#[test]
fn the_model_is_where_the_operation_has_it() {
    let place = |path| classify("POST", path).model_place();
    assert_eq!(place("/v1/chat/completions"), ModelPlace::JsonBody);
    assert_eq!(place("/openai/deployments/d/chat/completions"), ModelPlace::Path);
    assert_eq!(place("/v1/audio/transcriptions"), ModelPlace::Form);
    assert_eq!(place("/v1/realtime"), ModelPlace::Query);
    assert_eq!(place("/api-ws/v1/inference"), ModelPlace::Message);
    assert_eq!(place("/v1/files"), ModelPlace::Nowhere);
}

#[test]
fn names_are_lower_case() {
    for dialect in Dialect::ALL {
        assert_eq!(serde_json::to_string(&dialect).unwrap(), format!("\"{dialect}\""));
    }
    assert_eq!(serde_json::to_string(&ChatCompletions).unwrap(), "\"chat_completions\"");
}
