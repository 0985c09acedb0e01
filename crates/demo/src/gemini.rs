//! The Gemini dialect, on its own paths and on Vertex's: endpoints, models, and what they share.

mod embed;
pub(crate) mod generate;
mod predict;

use http::Method;
use serde_json::{Value, json};

use crate::call::Call;
use crate::catalog::MODELS;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::route::{Dialect, Route};

pub(crate) fn answer(call: &Call<'_>, route: &Route<'_>) -> Result<Reply, Refusal> {
    let no_route = || Refusal::no_route(call.method.as_str(), call.path, Dialect::Gemini);
    if (call.method, route.tail) == (&Method::GET, "models") {
        return Ok(models(route.dialect));
    }
    let model = route.model.as_deref().filter(|model| !model.is_empty()).ok_or_else(no_route)?;
    let verb = route.tail.rsplit_once(':').map(|(_, verb)| verb);
    match (call.method, verb) {
        (&Method::POST, Some("generateContent")) => generate::whole(call, model),
        (&Method::POST, Some("streamGenerateContent")) => generate::stream(call, model),
        (&Method::POST, Some("countTokens")) => generate::count(call),
        (&Method::POST, Some("embedContent")) => embed::one(call),
        (&Method::POST, Some("batchEmbedContents")) => embed::batch(call),
        (&Method::POST, Some("predict")) => predict::answer(call),
        (&Method::GET, None) => Ok(Reply::ok(&self::model(model, route.dialect))),
        _ => Err(no_route()),
    }
}

fn models(dialect: Dialect) -> Reply {
    match dialect {
        Dialect::Vertex => Reply::ok(&json!({"publisherModels": MODELS.map(|name| model(name, dialect))})),
        _ => Reply::ok(&json!({"models": MODELS.map(|name| model(name, dialect))})),
    }
}

fn model(name: &str, dialect: Dialect) -> Value {
    if dialect == Dialect::Vertex {
        return json!({"name": format!("publishers/google/models/{name}"), "versionId": "default", "launchStage": "GA"});
    }
    let methods = match name.contains("embedding") {
        true => json!(["embedContent", "batchEmbedContents", "countTokens"]),
        false => json!(["generateContent", "countTokens"]),
    };
    json!({"name": format!("models/{name}"), "version": "001", "displayName": name,
        "description": "A model of the AIProxy demo upstream", "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": methods})
}

/// A member in either of the spellings that Google accepts.
pub(crate) fn member<'a>(object: &'a Value, camel: &str, snake: &str) -> &'a Value {
    object.get(camel).unwrap_or(&object[snake])
}

#[cfg(test)]
mod tests {
    use crate::testing::get;

    #[test]
    fn models_are_listed_and_described() {
        let key = [("x-goog-api-key", "sk-test")];
        for version in ["v1", "v1beta", "v1alpha"] {
            assert_eq!(get(&format!("/{version}/models"), &key).json()["models"][0]["name"], "models/demo-chat");
        }
        assert_eq!(get("/v1beta/models/gemini-x", &key).json()["name"], "models/gemini-x");
        let vertex = get("/v1beta1/publishers/google/models", &[("authorization", "Bearer sk-test")]);
        assert_eq!(vertex.json()["publisherModels"][0]["name"], "publishers/google/models/demo-chat");
    }

    #[test]
    fn unknown_things_answer_in_the_envelope() {
        let key = [("x-goog-api-key", "sk-test")];
        for path in ["/v1beta/models/demo-missing", "/v1beta/nothing", "/v1beta/models/m:fly"] {
            let answer = get(path, &key);
            assert_eq!((answer.status, answer.json()["error"]["status"].as_str()), (404, Some("NOT_FOUND")), "{path}");
        }
    }
}
