//! The OpenAI dialect: which endpoint answers which path below its root. Azure shares all but the envelope.

mod calls;
mod chat;
mod completions;
mod embeddings;
mod images;
mod models;
mod moderations;
pub(crate) mod responses;
mod responses_stream;
mod speech;
mod transcriptions;

use http::Method;
use serde_json::{Value, json};

use crate::answer::Usage;
use crate::call::Call;
use crate::prompt::{Tool, ToolChoice};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::route::Route;
use crate::webrtc::Calls;

pub(crate) use calls::no_call;

pub(crate) fn answer(call: &Call<'_>, route: &Route<'_>, calls: &Calls) -> Result<Reply, Refusal> {
    let no_route = || Refusal::no_route(call.method.as_str(), call.path, route.dialect);
    if call.path.starts_with("/openai/deployments/") && call.parameter("api-version").is_none() {
        return Err(no_route());
    }
    let model = || {
        let model = route.model.as_deref().or(call.body_model());
        model.ok_or_else(|| Refusal::new(400, "you must provide a model parameter").param("model"))
    };
    match (call.method, route.tail) {
        (&Method::POST, "chat/completions") => chat::answer(call, route.dialect, call.json().and(model())?),
        (&Method::POST, "completions") => completions::answer(call, call.json().and(model())?),
        (&Method::POST, "responses") => responses::answer(call, call.json().and(model())?),
        (&Method::POST, "responses/input_tokens") => responses::input_tokens(call),
        (&Method::POST, "embeddings") => embeddings::answer(call, call.json().and(model())?),
        (&Method::POST, "images/generations") => images::generations(call, call.json().and(model())?),
        (&Method::POST, "images/edits") => images::edits(call, call.form().and(model())?),
        (&Method::POST, "audio/speech") => speech::answer(call, call.json().and(model())?),
        (&Method::POST, "audio/transcriptions") => transcriptions::transcribe(call, call.form().and(model())?),
        (&Method::POST, "audio/translations") => transcriptions::translate(call, call.form().and(model())?),
        (&Method::POST, "moderations") => moderations::answer(call),
        (&Method::GET, "models") => Ok(models::list()),
        (_, tail) if tail.starts_with("responses/") => Err(responses::not_found(tail)),
        (&Method::GET, tail) if tail.starts_with("models/") => Ok(models::one(model()?)),
        (&Method::POST, tail) if tail.starts_with("realtime/") => {
            calls::answer(call, route, calls).unwrap_or_else(|| Err(no_route()))
        }
        _ => Err(no_route()),
    }
}

/// The usage of chat and legacy completions.
fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.thought, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

/// Function tools, declared under `function` (chat) or flat (responses).
pub(crate) fn tools(declared: &Value) -> Vec<Tool> {
    let functions = declared.as_array().into_iter().flatten().filter(|tool| tool["type"] == "function");
    let tool = |tool: &Value| {
        let function = tool.get("function").unwrap_or(tool);
        Tool { name: function["name"].as_str().unwrap_or_default().to_owned(), schema: function["parameters"].clone() }
    };
    functions.map(tool).collect()
}

/// `tool_choice`: a word, or an object that names a function.
pub(crate) fn tool_choice(choice: &Value) -> ToolChoice {
    match choice.as_str() {
        Some("none") => ToolChoice::Never,
        Some("required") => ToolChoice::Always,
        None if choice["type"] == "function" => ToolChoice::Always,
        _ => ToolChoice::Auto,
    }
}

/// The demanded shape of the answer in `response_format` (`format["json_schema"]["schema"]`) or `text.format`.
pub(crate) fn schema(format: &Value) -> Option<Value> {
    match format["type"].as_str()? {
        "json_schema" => Some(format.pointer("/json_schema/schema").unwrap_or(&format["schema"]).clone()),
        "json_object" => Some(json!({"type": "object", "properties": {"answer": {"type": "string"}}})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{get, post};
    use serde_json::json;

    #[test]
    fn chat_answers_below_every_compatible_root() {
        let body = json!({"model": "demo-chat", "messages": [{"role": "user", "content": "hi"}]});
        for path in [
            "/v1/chat/completions",
            "/compatible-mode/v1/chat/completions",
            "/v1beta/openai/chat/completions",
            "/openai/deployments/demo-chat/chat/completions?api-version=2024-10-21",
            "/openai/v1/chat/completions",
            "/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
        ] {
            assert_eq!(post(path, &body).json()["object"], "chat.completion", "{path}");
        }
        assert_eq!(post("/openai/deployments/demo-chat/chat/completions", &body).status, 404);
    }

    #[test]
    fn unknown_paths_and_missing_models_answer_in_the_envelope() {
        let answer = get("/v1/nothing", &[("authorization", "Bearer sk-test")]);
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("unknown_url")));
        let answer = post("/v1/embeddings", &json!({"input": "x"}));
        assert_eq!((answer.status, answer.json()["error"]["param"].as_str()), (400, Some("model")));
        let answer = post("/v1/embeddings", &json!([]));
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| message.contains("JSON")));
    }

    #[test]
    fn headers_are_like_the_providers() {
        let answer = get("/v1/models", &[("authorization", "Bearer sk-test")]);
        assert_eq!((answer.header("openai-organization"), answer.header("server")), ("org-demo", "demo-upstream"));
        assert_eq!(answer.header("set-cookie"), "__cf_bm=demo; HttpOnly");
        assert!(answer.header("x-request-id").starts_with("req_"));
    }
}
