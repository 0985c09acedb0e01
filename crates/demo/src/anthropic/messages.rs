//! `POST /v1/messages` (`protocols.md` §2.6).

use serde_json::{Value, json};

use super::{WITHOUT_SAMPLING, messages_stream, prompt};
use crate::answer::{Answer, Content, Usage};
use crate::call::Call;
use crate::refusal::Refusal;
use crate::reply::Reply;

pub(super) fn answer(call: &Call<'_>, model: &str, version: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    if !body["max_tokens"].is_u64() {
        return Err(Refusal::new(400, "max_tokens: Field required"));
    }
    if version == WITHOUT_SAMPLING {
        let sampling = ["temperature", "top_p", "top_k"].into_iter().find(|name| !body[*name].is_null());
        if let Some(name) = sampling {
            return Err(Refusal::new(400, format!("{name}: this parameter is not supported in version {version}")));
        }
    }
    let answer = prompt(body)?.answer(model);
    if body["stream"] == true {
        return Ok(Reply::stream(messages_stream::stream(call, model, &answer)));
    }
    let mut message = started(call, model);
    message["content"] = blocks(call, &answer).into();
    message["stop_reason"] = json!(stop_reason(&answer));
    message["usage"] = usage(&answer.usage, answer.usage.output);
    Ok(Reply::ok(&message))
}

/// The message before it has content.
pub(super) fn started(call: &Call<'_>, model: &str) -> Value {
    json!({"id": call.id("msg_"), "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null})
}

pub(super) fn stop_reason(answer: &Answer) -> &'static str {
    answer.ending("end_turn", "max_tokens", "tool_use")
}

/// The usage with `output` tokens so far. Anthropic counts cached input apart.
pub(super) fn usage(usage: &Usage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": usage.thought.min(output)},
        "service_tier": "standard",
    })
}

/// The content blocks of an answer.
fn blocks(call: &Call<'_>, answer: &Answer) -> Vec<Value> {
    let thought = answer.thought.as_ref();
    let thought = thought.map(|thought| json!({"type": "thinking", "thinking": thought, "signature": signature(call)}));
    let content = match &answer.content {
        Content::Text(text) => json!({"type": "text", "text": text}),
        Content::Call { name, arguments } => {
            json!({"type": "tool_use", "id": call.id("toolu_"), "name": name, "input": arguments})
        }
    };
    thought.into_iter().chain([content]).collect()
}

/// What a thinking block is signed with.
pub(super) fn signature(call: &Call<'_>) -> String {
    crate::base64::encode(call.request.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answered, post, post_with};
    use crate::tokens;

    const TEXT: &str = "You said: hello. This answer comes from the AIProxy demo upstream.";

    fn messages(version: &str, more: Value) -> Answered {
        let mut body =
            json!({"model": "demo-chat", "max_tokens": 256, "messages": [{"role": "user", "content": "hello"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post_with("/v1/messages", &[("anthropic-version", version)], &body)
    }

    #[test]
    fn json_echoes_and_counts() {
        let answer = messages("2023-06-01", json!({"system": [{"type": "text", "text": "Be kind"}]}));
        let json = answer.json();
        assert_eq!(json["content"], json!([{"type": "text", "text": TEXT}]));
        assert_eq!((&json["stop_reason"], &json["usage"]["input_tokens"]), (&json!("end_turn"), &json!(3)));
        assert_eq!(json["usage"]["output_tokens"], tokens::count(TEXT));
        assert!(answer.header("request-id").starts_with("req_"));
    }

    #[test]
    fn the_version_and_the_required_fields_are_demanded() {
        let message = |answer: Answered| {
            assert_eq!((answer.status, answer.json()["error"]["type"].as_str()), (400, Some("invalid_request_error")));
            answer.json()["error"]["message"].as_str().unwrap().to_owned()
        };
        assert_eq!(message(post("/v1/messages", &json!({}))), "anthropic-version: header is required");
        assert!(message(messages("2020-01-01", json!({}))).contains("not a valid version"));
        assert_eq!(message(messages("2023-06-01", json!({"max_tokens": null}))), "max_tokens: Field required");
        assert_eq!(message(messages("2023-06-01", json!({"messages": null}))), "messages: Field required");
        assert_eq!(message(messages("2023-06-01", json!({"model": null}))), "model: Field required");
        assert!(message(messages("2026-10-21", json!({"top_k": 1}))).starts_with("top_k: "));
        assert_eq!(messages("2023-06-01", json!({"temperature": 1})).status, 200);
        assert_eq!(messages("2026-10-21", json!({})).status, 200);
    }

    #[test]
    fn tools_are_called_and_their_results_used() {
        let tools = json!([{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]);
        let asked = json!({"role": "user", "content": "use a tool"});
        let json = messages("2023-06-01", json!({"tools": tools, "messages": [asked]})).json();
        let block = &json["content"][0];
        assert_eq!((&block["input"], &json["stop_reason"]), (&json!({"city": "Paris"}), &json!("tool_use")));
        let result = json!({"type": "tool_result", "tool_use_id": block["id"], "content": "sunny"});
        let turns = json!([asked, {"role": "assistant", "content": [block]}, {"role": "user", "content": [result]}]);
        let json = messages("2023-06-01", json!({"tools": tools, "messages": turns})).json();
        assert!(json["content"][0]["text"].as_str().unwrap().contains("sunny"));
    }

    #[test]
    fn thoughts_and_caches_are_counted_apart() {
        let system = json!([{"type": "text", "text": "Be kind!", "cache_control": {"type": "ephemeral"}}]);
        let json =
            messages("2023-06-01", json!({"system": system, "thinking": {"type": "enabled", "budget_tokens": 1024}}))
                .json();
        assert_eq!(json["content"][0]["type"], "thinking");
        let usage = &json["usage"];
        assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(2), &json!(2)));
        assert_eq!(usage["output_tokens_details"]["thinking_tokens"], 13);
    }

    #[test]
    fn magic_names_speak_the_dialect() {
        for (model, status, kind) in [
            ("demo-error-401", 401, "authentication_error"),
            ("demo-error-429", 429, "rate_limit_error"),
            ("demo-error-500", 500, "api_error"),
            ("demo-error-529", 529, "overloaded_error"),
            ("demo-missing", 404, "not_found_error"),
        ] {
            let answer = messages("2023-06-01", json!({"model": model}));
            assert_eq!((answer.status, answer.json()["error"]["type"].as_str()), (status, Some(kind)), "{model}");
            assert_eq!(answer.header("request-id"), answer.json()["request_id"]);
        }
    }
}
