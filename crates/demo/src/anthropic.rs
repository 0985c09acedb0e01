//! The Anthropic dialect: endpoints, versions, and reading a Messages body. Also Claude on Vertex (`:rawPredict`).

mod messages;
mod messages_stream;

use http::Method;
use serde_json::{Value, json};

use crate::call::Call;
use crate::catalog::MODELS;
use crate::prompt::{Prompt, Role, Tool, ToolChoice, text_of};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::route::{Dialect, Route};

/// The version that dropped the sampling parameters (`protocols.md` §0.9).
const WITHOUT_SAMPLING: &str = "2026-10-21";
const VERSIONS: [&str; 4] = ["2023-01-01", "2023-06-01", "vertex-2023-10-16", WITHOUT_SAMPLING];

pub(crate) fn answer(call: &Call<'_>, route: &Route<'_>) -> Result<Reply, Refusal> {
    let model = || {
        let model = route.model.as_deref().or(call.body_model());
        model.ok_or_else(|| Refusal::new(400, "model: Field required"))
    };
    match (call.method, route.tail) {
        (&Method::POST, "messages") => {
            let version = version(call.header("anthropic-version"), "anthropic-version: header is required")?;
            messages::answer(call, call.json().and(model())?, version)
        }
        (&Method::POST, "messages/count_tokens") => {
            version(call.header("anthropic-version"), "anthropic-version: header is required")?;
            count_tokens(call)
        }
        (&Method::POST, "models/count-tokens:rawPredict") => count_tokens(call),
        (&Method::POST, tail) if tail.ends_with(":rawPredict") || tail.ends_with(":streamRawPredict") => {
            let version = version(call.json()?["anthropic_version"].as_str(), "anthropic_version: Field required")?;
            messages::answer(call, model()?, version)
        }
        (&Method::GET, "models") => Ok(models()),
        (&Method::GET, tail) if tail.starts_with("models/") => Ok(Reply::ok(&self::model(model()?))),
        _ => Err(Refusal::no_route(call.method.as_str(), call.path, Dialect::Anthropic)),
    }
}

fn version<'a>(version: Option<&'a str>, missing: &str) -> Result<&'a str, Refusal> {
    let version = version.ok_or_else(|| Refusal::new(400, missing))?;
    match VERSIONS.contains(&version) {
        true => Ok(version),
        false => Err(Refusal::new(400, format!("anthropic-version: \"{version}\" is not a valid version"))),
    }
}

fn count_tokens(call: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::ok(&json!({"input_tokens": prompt(call.json()?)?.answer("").usage.input})))
}

fn models() -> Reply {
    let (first, last) = (MODELS.first(), MODELS.last());
    Reply::ok(&json!({"data": MODELS.map(model), "has_more": false, "first_id": first, "last_id": last}))
}

fn model(name: &str) -> Value {
    json!({"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"})
}

/// Reads a Messages body. Texts up to the last `cache_control` mark count as read from a warm cache.
fn prompt(body: &Value) -> Result<Prompt, Refusal> {
    let messages = body["messages"].as_array().ok_or_else(|| Refusal::new(400, "messages: Field required"))?;
    if messages.is_empty() {
        return Err(Refusal::new(400, "messages: at least one message is required"));
    }
    let tool = |tool: &Value| Tool {
        name: tool["name"].as_str().unwrap_or_default().to_owned(),
        schema: tool["input_schema"].clone(),
    };
    let mut prompt = Prompt {
        tools: body["tools"].as_array().into_iter().flatten().map(tool).collect(),
        choice: match body["tool_choice"]["type"].as_str() {
            Some("any" | "tool") => ToolChoice::Always,
            Some("none") => ToolChoice::Never,
            _ => ToolChoice::Auto,
        },
        schema: body.pointer("/output_config/format/schema").cloned(),
        limit: body["max_tokens"].as_u64(),
        thinks: matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive")),
        ..Prompt::default()
    };
    add(&mut prompt, Role::System, &body["system"]);
    for message in messages {
        let role = if message["role"] == "assistant" { Role::Assistant } else { Role::User };
        add(&mut prompt, role, &message["content"]);
    }
    Ok(prompt)
}

/// Adds a content: a text, or blocks. The texts of one message are one text to the demo; tool results come apart.
fn add(prompt: &mut Prompt, role: Role, content: &Value) {
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let (results, texts): (Vec<&Value>, Vec<&Value>) = blocks.iter().partition(|block| block["type"] == "tool_result");
    let text = match content {
        Value::String(text) => text.clone(),
        _ => texts.iter().map(|block| text_of(block)).collect(),
    };
    if !text.is_empty() {
        prompt.add(role, &text);
    }
    results.iter().for_each(|result| prompt.add(Role::Tool, &text_of(&result["content"])));
    if blocks.iter().any(|block| block["cache_control"].is_object()) {
        prompt.cached_characters = prompt.characters;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{get, post, post_with};

    const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

    #[test]
    fn tokens_are_counted() {
        let body = json!({"model": "m", "system": "Be kind", "messages": [{"role": "user", "content": "hello"}]});
        let answer = post_with("/v1/messages/count_tokens", &[VERSION], &body);
        assert_eq!(answer.json(), json!({"input_tokens": 3}));
        assert_eq!(post("/v1/messages/count_tokens", &body).status, 400);
    }

    #[test]
    fn models_are_listed() {
        let headers = [VERSION, ("x-api-key", "sk-test")];
        assert_eq!(get("/v1/models", &headers).json()["first_id"], "demo-chat");
        assert_eq!(get("/v1/models/claude-x", &headers).json()["id"], "claude-x");
        let missing = get("/v1/models/demo-missing", &headers);
        assert_eq!(missing.json()["error"], json!({"type": "not_found_error", "message": "model: demo-missing"}));
        assert_eq!(get("/v1/messages/batches", &headers).json()["error"]["type"], "not_found_error");
    }

    #[test]
    fn claude_on_vertex_takes_version_and_model_elsewhere() {
        let path = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:rawPredict";
        let mut body = json!({"max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]});
        assert_eq!(post(path, &body).status, 400);
        body["anthropic_version"] = json!("vertex-2023-10-16");
        assert_eq!(post(path, &body).json()["model"], "claude-x@1");
    }
}
