//! Which conversation lives at which path.

use crate::route::Dialect;

/// A path where there is a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Realtime,
    Translations,
    Responses,
    Live,
    Inference,
    QwenRealtime,
    Gemini,
    Vertex,
    Echo,
    Close(u16),
    WrongUpgrade,
}

const GEMINI: &str = "/ws/google.ai.generativelanguage.";
const VERTEX: &str = "/ws/google.cloud.aiplatform.";

impl Place {
    /// Reads a path. Repeated slashes count as one, as Google's clients send them.
    pub(super) fn of(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let path = format!("/{}", segments.join("/"));
        let place = match path.as_str() {
            "/v1/realtime" | "/openai/realtime" | "/openai/v1/realtime" => Self::Realtime,
            "/v1/realtime/translations" | "/openai/v1/realtime/translations" => Self::Translations,
            "/v1/responses" | "/openai/v1/responses" => Self::Responses,
            "/v1/live/sessions" | "/openai/v1/live/sessions" => Self::Live,
            "/api-ws/v1/inference" => Self::Inference,
            "/api-ws/v1/realtime" => Self::QwenRealtime,
            "/v1/echo-websocket" => Self::Echo,
            path if path.contains(GEMINI) => {
                let method = path.rsplit('.').next()?;
                ["BidiGenerateContent", "BidiGenerateContentConstrained"].contains(&method).then_some(Self::Gemini)?
            }
            path if path.contains(VERTEX) => {
                path.ends_with(".LlmBidiService/BidiGenerateContent").then_some(Self::Vertex)?
            }
            _ => match segments.as_slice() {
                [.., "echo"] => Self::Echo,
                [.., "upgrade-wrong"] => Self::WrongUpgrade,
                [.., "close", code] => Self::Close(code.parse().ok().filter(|code| (1000..5000).contains(code))?),
                _ => return None,
            },
        };
        Some(place)
    }

    /// Whose key it takes and whose errors it gives. Azure shares paths with OpenAI but for its root.
    pub(super) fn dialect(self, path: &str) -> Dialect {
        match self {
            Self::Gemini => Dialect::Gemini,
            Self::Vertex => Dialect::Vertex,
            Self::Inference | Self::QwenRealtime => Dialect::DashScope,
            _ if path.starts_with("/openai/") => Dialect::Azure,
            _ => Dialect::OpenAi,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_place() {
        for (path, place, dialect) in [
            ("/v1/realtime", Place::Realtime, Dialect::OpenAi),
            ("/openai/realtime", Place::Realtime, Dialect::Azure),
            ("/openai/v1/realtime", Place::Realtime, Dialect::Azure),
            ("/v1/realtime/translations", Place::Translations, Dialect::OpenAi),
            ("/v1//responses", Place::Responses, Dialect::OpenAi),
            ("/v1/live/sessions", Place::Live, Dialect::OpenAi),
            ("/api-ws/v1/inference", Place::Inference, Dialect::DashScope),
            ("/api-ws/v1/inference/", Place::Inference, Dialect::DashScope),
            ("/api-ws/v1/realtime", Place::QwenRealtime, Dialect::DashScope),
            (
                "//ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
                Place::Gemini,
                Dialect::Gemini,
            ),
            (
                "/prefix//ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained",
                Place::Gemini,
                Dialect::Gemini,
            ),
            ("/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent", Place::Vertex, Dialect::Vertex),
            ("/v1/echo-websocket", Place::Echo, Dialect::OpenAi),
            ("/anything/echo", Place::Echo, Dialect::OpenAi),
            ("/close/4001", Place::Close(4001), Dialect::OpenAi),
            ("/v1/upgrade-wrong", Place::WrongUpgrade, Dialect::OpenAi),
        ] {
            assert_eq!(Place::of(path).map(|place| (place, place.dialect(path))), Some((place, dialect)), "{path}");
        }
        for path in ["/", "/v1/chat/completions", "/close/x", "/close/999", "/v1/realtime/calls", "/ws/google.ai.x"] {
            assert_eq!(Place::of(path), None, "{path}");
        }
    }
}
