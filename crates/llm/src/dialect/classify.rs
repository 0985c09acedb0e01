//! From method and path to dialect and operation. Prefixes vary by client and base URL (`/v1`, `/compatible-mode/v1`,
//! `/api/paas/v4`, none at all), the ends of the paths do not: so the decision starts from the last segment. No
//! allocation, no regular expressions. The path is only read, never rewritten; the query is not looked at.

use super::Operation as Op;
use super::{Dialect, ModelPlace, Operation};

/// More segments than any known path has; a longer path is `other`.
const MOST_SEGMENTS: usize = 16;

/// What a call is, told from its method and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// Whose envelope the caller reads.
    pub dialect: Dialect,
    /// What is asked for.
    pub operation: Operation,
    /// The normalised path for records and labels, out of a closed list.
    pub endpoint: &'static str,
    /// The model (or Azure deployment) as the path names it, still percent-encoded.
    pub model_in_path: Option<&'a str>,
    /// The path itself asks for a streamed answer.
    pub stream_in_path: bool,
}

impl Route<'_> {
    /// Where this call names its model.
    #[must_use]
    pub const fn model_place(&self) -> ModelPlace {
        match self.model_in_path {
            Some(_) => ModelPlace::Path,
            None => self.operation.model_place(),
        }
    }

    /// Corrects the dialect where paths are shared (`/v1/models`, `/v1/files`), for a caller who sent
    /// `anthropic-version`.
    #[must_use]
    pub const fn for_anthropic_caller(mut self) -> Self {
        if matches!(self.operation, Op::Models | Op::Files) {
            self.dialect = Dialect::Anthropic;
        }
        self
    }
}

/// Classifies a call. `path` comes without its query; repeated slashes do not matter here.
#[must_use]
pub fn classify<'a>(method: &str, path: &'a str) -> Route<'a> {
    let mut segments = [""; MOST_SEGMENTS];
    let mut count = 0;
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let Some(slot) = segments.get_mut(count) else { return openai(Op::Other, "other") };
        *slot = segment;
        count += 1;
    }
    classify_segments(method, &segments[..count])
}

fn classify_segments<'a>(method: &str, path: &[&'a str]) -> Route<'a> {
    let [before @ .., last] = path else { return openai(Op::Other, "other") };
    let parent = before.last().copied().unwrap_or("");
    if last.contains(':')
        && let Some(route) = google_verb(path, parent, last)
    {
        return route;
    }
    if let Some(at) = path.iter().position(|segment| *segment == "services")
        && let [service, name, ..] = &path[at + 1..]
    {
        return dashscope_service(service, name);
    }
    let route = match (parent, *last) {
        ("chat", "completions") => openai(Op::ChatCompletions, "/v1/chat/completions"),
        ("fim", "completions") => openai(Op::Completions, "/v1/fim/completions"),
        (_, "completions") => openai(Op::Completions, "/v1/completions"),
        (_, "responses") => openai(Op::Responses, "/v1/responses"),
        ("responses", "compact") => openai(Op::Responses, "/v1/responses/compact"),
        ("responses", "input_tokens") => openai(Op::ResponsesInputTokens, "/v1/responses/input_tokens"),
        ("responses", _) => openai(Op::ResponsesRetrieve, "/v1/responses/{id}"),
        (_, "embeddings") => openai(Op::Embeddings, "/v1/embeddings"),
        ("images", "generations") => openai(Op::Images, "/v1/images/generations"),
        ("images", "edits") => openai(Op::ImageEdits, "/v1/images/edits"),
        ("images", "variations") => openai(Op::ImageEdits, "/v1/images/variations"),
        ("audio", "speech") => openai(Op::Speech, "/v1/audio/speech"),
        ("audio", "transcriptions") => openai(Op::Transcription, "/v1/audio/transcriptions"),
        ("audio", "translations") => openai(Op::Translation, "/v1/audio/translations"),
        (_, "moderations") => openai(Op::Moderations, "/v1/moderations"),
        (_, "rerank") => openai(Op::Rerank, "/v1/rerank"),
        ("messages", "count_tokens") => anthropic(Op::CountTokens, "/v1/messages/count_tokens"),
        (_, "messages") if !before.contains(&"threads") => anthropic(Op::Messages, "/v1/messages"),
        ("v2", "chat") => openai(Op::CohereChat, "/v2/chat"),
        ("v1", "chat") => openai(Op::CohereChat, "/v1/chat"),
        ("v1" | "v2", "embed") => openai(Op::CohereEmbed, "/v2/embed"),
        _ => classify_rest(method, path),
    };
    with_deployment(route, path)
}

/// Paths whose telling segment is not the last one, and rare ones.
fn classify_rest<'a>(method: &str, path: &[&'a str]) -> Route<'a> {
    let path = match path {
        ["compatible-mode", "v1", rest @ ..] | ["openai", "v1", rest @ ..] => rest,
        ["v1beta", "openai", rest @ ..] => rest,
        ["openai", rest @ ..] | ["anthropic", "v1", rest @ ..] => rest,
        _ => path,
    };
    match path {
        ["v1" | "v1beta" | "v1alpha" | "v1beta1", "interactions", ..] => {
            gemini(Op::Interactions, "/v1beta/interactions")
        }
        ["v1alpha" | "v1beta", "auth_tokens", ..] => gemini(Op::Other, "/v1alpha/auth_tokens"),
        ["v1beta" | "v1alpha" | "v1beta1", "models", ..] => gemini(Op::Models, "/v1beta/models"),
        ["upload", _, "files", ..] | ["v1beta" | "v1alpha", "files", ..] => gemini(Op::Files, "/v1beta/files"),
        ["v1beta" | "v1alpha" | "v1beta1", ..] => gemini(Op::Other, "other"),
        ["v1", "projects", ..] => gemini(Op::Other, "other"),
        ["ws", service, ..] if service.starts_with("google.") => gemini(Op::GeminiLive, "/ws/{service}"),
        ["model", model, verb] => bedrock(model, verb),
        ["api-ws", "v1", "inference"] => dashscope(Op::DashscopeInference, "/api-ws/v1/inference"),
        ["api-ws", "v1", "realtime"] => dashscope(Op::DashscopeRealtime, "/api-ws/v1/realtime"),
        ["api", "v1", "tasks", ..] => dashscope(Op::DashscopeTask, "/api/v1/tasks/{id}"),
        ["api", "v1", "uploads"] => dashscope(Op::DashscopeUpload, "/api/v1/uploads"),
        ["api", "v1", "apps", _, "completion"] => dashscope(Op::DashscopeApplication, "/api/v1/apps/{id}/completion"),
        ["api", "v1", "public-keys", ..] => dashscope(Op::Other, "/api/v1/public-keys"),
        ["api", "v1", "models", ..] => openai(Op::Models, "/v1/models"),
        ["api", "v1", "files", ..] => dashscope(Op::Files, "/api/v1/files"),
        ["api", "v1", ..] => dashscope(Op::Other, "other"),
        ["v1", rest @ ..] => openai_resource(method, rest),
        _ => openai_resource(method, path),
    }
}

/// OpenAI's and Anthropic's resources, after `/v1` (or without it).
fn openai_resource<'a>(method: &str, path: &[&str]) -> Route<'a> {
    match path {
        ["models", ..] | [.., "models"] => openai(Op::Models, "/v1/models"),
        ["messages", "batches", ..] => anthropic(Op::Batches, "/v1/messages/batches"),
        ["realtime"] => openai(Op::Realtime, "/v1/realtime"),
        ["realtime", "client_secrets" | "sessions" | "transcription_sessions"] => {
            openai(Op::RealtimeClientSecrets, "/v1/realtime/client_secrets")
        }
        ["realtime", "calls"] => openai(Op::RealtimeCalls, "/v1/realtime/calls"),
        ["realtime", "calls", ..] => openai(Op::RealtimeCallControl, "/v1/realtime/calls/{id}/{action}"),
        ["realtime", "translations"] => openai(Op::RealtimeTranslations, "/v1/realtime/translations"),
        ["realtime", "translations", "calls"] => openai(Op::RealtimeCalls, "/v1/realtime/translations/calls"),
        ["realtime", "translations", "calls", ..] => {
            openai(Op::RealtimeCallControl, "/v1/realtime/calls/{id}/{action}")
        }
        ["realtime", "translations", "client_secrets"] => {
            openai(Op::RealtimeClientSecrets, "/v1/realtime/translations/client_secrets")
        }
        ["live", "sessions"] => openai(Op::Live, "/v1/live/sessions"),
        ["live", "sessions", _, "attach" | "fork"] if method == "GET" => {
            openai(Op::Live, "/v1/live/sessions/{id}/attach")
        }
        ["live", "sessions", ..] => openai(Op::RealtimeCallControl, "/v1/live/sessions/{id}/{action}"),
        ["files" | "uploads" | "vector_stores" | "containers", ..] => openai(Op::Files, "/v1/files"),
        ["batches", ..] => openai(Op::Batches, "/v1/batches"),
        ["videos"] if method == "POST" => openai(Op::Videos, "/v1/videos"),
        ["videos", _, "remix"] => openai(Op::Videos, "/v1/videos"),
        ["videos", ..] => openai(Op::Files, "/v1/videos/{id}"),
        ["chat", "completions", ..] => openai(Op::Other, "/v1/chat/completions/{id}"),
        ["responses", ..] => openai(Op::ResponsesRetrieve, "/v1/responses/{id}"),
        ["decisions", ..] => openai(Op::Other, "/v1/decisions"),
        _ => openai(Op::Other, "other"),
    }
}

/// `{model}:{verb}` of Gemini and Vertex.
fn google_verb<'a>(path: &[&str], parent: &str, last: &'a str) -> Option<Route<'a>> {
    let (model, verb) = last.rsplit_once(':')?;
    if !matches!(parent, "models" | "tunedModels" | "endpoints" | "dynamic") {
        return None;
    }
    let vertex = path.contains(&"publishers") || path.contains(&"projects");
    let label = |plain, publisher| if vertex { publisher } else { plain };
    let mut route = match verb {
        "generateContent" => gemini(
            Op::GenerateContent,
            label("/v1beta/models/{model}:generateContent", "/v1/publishers/google/models/{model}:generateContent"),
        ),
        "streamGenerateContent" => gemini(
            Op::StreamGenerateContent,
            label(
                "/v1beta/models/{model}:streamGenerateContent",
                "/v1/publishers/google/models/{model}:streamGenerateContent",
            ),
        ),
        "countTokens" => gemini(
            Op::CountTokens,
            label("/v1beta/models/{model}:countTokens", "/v1/publishers/google/models/{model}:countTokens"),
        ),
        "embedContent" | "batchEmbedContents" | "asyncBatchEmbedContent" => gemini(
            Op::EmbedContent,
            label("/v1beta/models/{model}:embedContent", "/v1/publishers/google/models/{model}:embedContent"),
        ),
        "predict" | "predictLongRunning" => {
            gemini(Op::Predict, label("/v1beta/models/{model}:predict", "/v1/publishers/google/models/{model}:predict"))
        }
        "rawPredict" | "streamRawPredict" if model == "count-tokens" => {
            let route = anthropic(Op::CountTokens, "/v1/publishers/anthropic/models/count-tokens:rawPredict");
            return Some(route);
        }
        "rawPredict" => anthropic(Op::Messages, "/v1/publishers/anthropic/models/{model}:rawPredict"),
        "streamRawPredict" => anthropic(Op::Messages, "/v1/publishers/anthropic/models/{model}:streamRawPredict"),
        _ => gemini(Op::Other, "/v1beta/models/{model}:{verb}"),
    };
    route.model_in_path = Some(model);
    route.stream_in_path = matches!(verb, "streamGenerateContent" | "streamRawPredict");
    Some(route)
}

/// What stands behind `/services/` of DashScope.
fn dashscope_service<'a>(service: &str, name: &str) -> Route<'a> {
    match (service, name) {
        ("aigc", "text-generation") => dashscope(Op::DashscopeGeneration, "/api/v1/services/aigc/text-generation"),
        ("aigc", "multimodal-generation") => {
            dashscope(Op::DashscopeMultimodal, "/api/v1/services/aigc/multimodal-generation")
        }
        ("aigc", name) if name.contains("video") => {
            dashscope(Op::DashscopeVideo, "/api/v1/services/aigc/video-generation")
        }
        ("aigc", name) if name.contains("image") => dashscope(Op::DashscopeImage, "/api/v1/services/aigc/text2image"),
        ("embeddings", _) => dashscope(Op::DashscopeEmbedding, "/api/v1/services/embeddings"),
        ("rerank", _) => dashscope(Op::DashscopeRerank, "/api/v1/services/rerank"),
        ("audio", _) => dashscope(Op::DashscopeAudio, "/api/v1/services/audio"),
        _ => dashscope(Op::DashscopeService, "/api/v1/services/{service}"),
    }
}

/// Bedrock's runtime; its Claude callers use the Anthropic SDK.
fn bedrock<'a>(model: &'a str, verb: &str) -> Route<'a> {
    let mut route = match verb {
        "invoke" => anthropic(Op::BedrockInvoke, "/model/{model}/invoke"),
        "invoke-with-response-stream" => {
            anthropic(Op::BedrockInvokeStream, "/model/{model}/invoke-with-response-stream")
        }
        "converse" => anthropic(Op::BedrockConverse, "/model/{model}/converse"),
        "converse-stream" => anthropic(Op::BedrockConverseStream, "/model/{model}/converse-stream"),
        _ => return openai(Op::Other, "other"),
    };
    route.model_in_path = Some(model);
    route.stream_in_path = matches!(verb, "invoke-with-response-stream" | "converse-stream");
    route
}

/// Azure's `/openai/deployments/{deployment}/…`: the deployment is the model.
fn with_deployment<'a>(mut route: Route<'a>, path: &[&'a str]) -> Route<'a> {
    if let Some(at) = path.iter().position(|segment| *segment == "deployments")
        && at + 2 < path.len()
        && route.operation != Op::Other
    {
        route.model_in_path = path.get(at + 1).copied();
    }
    route
}

const fn route<'a>(dialect: Dialect, operation: Operation, endpoint: &'static str) -> Route<'a> {
    Route { dialect, operation, endpoint, model_in_path: None, stream_in_path: false }
}

const fn openai<'a>(operation: Operation, endpoint: &'static str) -> Route<'a> {
    route(Dialect::Openai, operation, endpoint)
}

const fn anthropic<'a>(operation: Operation, endpoint: &'static str) -> Route<'a> {
    route(Dialect::Anthropic, operation, endpoint)
}

const fn gemini<'a>(operation: Operation, endpoint: &'static str) -> Route<'a> {
    route(Dialect::Gemini, operation, endpoint)
}

const fn dashscope<'a>(operation: Operation, endpoint: &'static str) -> Route<'a> {
    route(Dialect::Dashscope, operation, endpoint)
}
