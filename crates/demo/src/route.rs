//! Which dialect lives at a path, and what the path says below that dialect's root.

use crate::call::{Call, decoded};

/// Whose API a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
    Vertex,
    DashScope,
}

/// A path, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    pub(crate) dialect: Dialect,
    /// The path below the dialect's root, without a leading slash; the whole path if it has no known root.
    pub(crate) tail: &'a str,
    /// The model, where the path names it.
    pub(crate) model: Option<String>,
}

impl<'a> Route<'a> {
    pub(crate) fn of(call: &Call<'a>) -> Self {
        let path = call.path;
        if let Some(route) = azure(path).or_else(|| vertex(path)) {
            return route;
        }
        let roots = [
            ("/compatible-mode/v1/", Dialect::OpenAi),
            ("/v1beta/openai/", Dialect::OpenAi),
            ("/apps/anthropic/v1/", Dialect::Anthropic),
            ("/api/v1/", Dialect::DashScope),
            ("/v1beta/", Dialect::Gemini),
            ("/v1alpha/", Dialect::Gemini),
            ("/v1beta1/", Dialect::Gemini),
        ];
        for (root, dialect) in roots {
            if let Some(tail) = path.strip_prefix(root) {
                return Self::new(dialect, tail);
            }
        }
        match path.strip_prefix("/v1/") {
            Some(tail) => Self::new(first_version(call, tail), tail),
            None => Self { dialect: Dialect::OpenAi, tail: path, model: None },
        }
    }

    fn new(dialect: Dialect, tail: &'a str) -> Self {
        let model = match dialect {
            Dialect::Gemini => tail.strip_prefix("models/").map(without_verb),
            _ => tail.strip_prefix("models/").map(decoded),
        };
        Self { dialect, tail, model }
    }
}

/// `/v1/` is OpenAI's, Anthropic's and (google-genai's default since 3.0) Gemini's.
fn first_version(call: &Call<'_>, tail: &str) -> Dialect {
    let is_google = call.headers.contains_key("x-goog-api-key") || call.headers.contains_key("x-goog-api-client");
    match tail.split('/').next() {
        Some("messages") => Dialect::Anthropic,
        Some("models") if is_google || tail.contains(':') => Dialect::Gemini,
        Some("models") if call.headers.contains_key("anthropic-version") => Dialect::Anthropic,
        _ => Dialect::OpenAi,
    }
}

/// `/openai/deployments/{model}/…`, `/openai/v1/…` and `/openai/…`.
fn azure(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix("/openai/")?;
    if let Some((model, tail)) = rest.strip_prefix("deployments/").and_then(|rest| rest.split_once('/')) {
        return Some(Route { dialect: Dialect::Azure, tail, model: Some(decoded(model)) });
    }
    Some(Route::new(Dialect::Azure, rest.strip_prefix("v1/").unwrap_or(rest)))
}

/// `…/publishers/{google|anthropic}/models/{model}:{verb}` and `…/endpoints/openapi/…`.
fn vertex(path: &str) -> Option<Route<'_>> {
    if let Some((_, tail)) = path.split_once("/endpoints/openapi/") {
        return Some(Route { dialect: Dialect::OpenAi, tail, model: None });
    }
    let (_, rest) = path.split_once("/publishers/")?;
    let (publisher, tail) = rest.split_once('/')?;
    let dialect = if publisher == "anthropic" { Dialect::Anthropic } else { Dialect::Vertex };
    Some(Route { dialect, tail, model: tail.strip_prefix("models/").map(without_verb) })
}

/// The model of `{model}:{verb}`.
fn without_verb(text: &str) -> String {
    decoded(text.rsplit_once(':').map_or(text, |(model, _)| model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::Request;

    fn route(path: &str, header: Option<&'static str>) -> (Dialect, String, Option<String>) {
        let mut request = Request::get(path);
        if let Some(name) = header {
            request = request.header(name, "x");
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let route = Route::of(&Call::new(&parts, &Bytes::new()));
        (route.dialect, route.tail.to_owned(), route.model)
    }

    #[test]
    fn every_root_leads_to_its_dialect() {
        let expect = |path, dialect, tail: &str, model: Option<&str>| {
            assert_eq!(route(path, None), (dialect, tail.to_owned(), model.map(str::to_owned)), "{path}");
        };
        expect("/v1/chat/completions", Dialect::OpenAi, "chat/completions", None);
        expect("/compatible-mode/v1/embeddings", Dialect::OpenAi, "embeddings", None);
        expect("/v1beta/openai/chat/completions", Dialect::OpenAi, "chat/completions", None);
        expect("/openai/deployments/d/chat/completions", Dialect::Azure, "chat/completions", Some("d"));
        expect("/openai/v1/responses", Dialect::Azure, "responses", None);
        expect("/openai/responses", Dialect::Azure, "responses", None);
        expect("/apps/anthropic/v1/messages", Dialect::Anthropic, "messages", None);
        expect("/api/v1/tasks/t", Dialect::DashScope, "tasks/t", None);
        expect("/v1alpha/models/m:countTokens", Dialect::Gemini, "models/m:countTokens", Some("m"));
        expect("/v1/models/m:generateContent", Dialect::Gemini, "models/m:generateContent", Some("m"));
        expect(
            "/v1/projects/p/locations/l/publishers/google/models/m:predict",
            Dialect::Vertex,
            "models/m:predict",
            Some("m"),
        );
        expect(
            "/v1/projects/p/locations/l/publishers/anthropic/models/c@1:rawPredict",
            Dialect::Anthropic,
            "models/c@1:rawPredict",
            Some("c@1"),
        );
        expect("/nowhere", Dialect::OpenAi, "/nowhere", None);
    }

    #[test]
    fn the_model_list_belongs_to_whoever_asks() {
        assert_eq!(route("/v1/models", None).0, Dialect::OpenAi);
        assert_eq!(route("/v1/models", Some("anthropic-version")).0, Dialect::Anthropic);
        assert_eq!(route("/v1/models", Some("x-goog-api-key")).0, Dialect::Gemini);
    }
}
