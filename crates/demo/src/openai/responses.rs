//! `POST /responses` (`protocols.md` §2.2): reading the body and the response object. Nothing is stored.

use serde_json::{Value, json};

use super::responses_stream;
use crate::answer::{Answer, Content};
use crate::call::Call;
use crate::prompt::{Prompt, Role, text_of};
use crate::refusal::Refusal;
use crate::reply::Reply;

pub(super) fn answer(call: &Call<'_>, model: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    refuse_unknown(&body["previous_response_id"])?;
    let answer = prompt(body)?.answer(model);
    Ok(match body["stream"] == true {
        true => Reply::stream(responses_stream::stream(call, model, body, &answer)),
        false => Reply::ok(&finished(call, model, body, &answer)),
    })
}

/// The events of one response, for a socket that carries them without a stream around them.
pub(crate) fn events(call: &Call<'_>, model: &str) -> Result<Vec<Value>, Refusal> {
    let body = call.json()?;
    refuse_unknown(&body["previous_response_id"])?;
    let answer = prompt(body)?.answer(model);
    Ok(responses_stream::events(call, model, body, &answer))
}

fn refuse_unknown(previous: &Value) -> Result<(), Refusal> {
    let Some(previous) = previous.as_str() else { return Ok(()) };
    let message = format!("Previous response with id '{previous}' not found.");
    Err(Refusal::new(400, message).code("previous_response_not_found").param("previous_response_id"))
}

/// `POST /responses/input_tokens`.
pub(super) fn input_tokens(call: &Call<'_>) -> Result<Reply, Refusal> {
    let usage = prompt(call.json()?)?.answer("").usage;
    Ok(Reply::ok(&json!({"object": "response.input_tokens", "input_tokens": usage.input})))
}

/// No response is ever found again.
pub(super) fn not_found(tail: &str) -> Refusal {
    let id = tail.split('/').nth(1).unwrap_or_default();
    Refusal::new(404, format!("Response with id '{id}' not found."))
}

fn prompt(body: &Value) -> Result<Prompt, Refusal> {
    let mut prompt = Prompt {
        tools: super::tools(&body["tools"]),
        choice: super::tool_choice(&body["tool_choice"]),
        schema: super::schema(&body["text"]["format"]),
        limit: body["max_output_tokens"].as_u64(),
        thinks: body["reasoning"].is_object() && body["reasoning"]["effort"] != "none",
        ..Prompt::default()
    };
    let instructions = text_of(&body["instructions"]);
    prompt.add(Role::System, &instructions);
    if body["prompt_cache_key"].is_string() {
        prompt.cached_characters = instructions.chars().count();
    }
    match &body["input"] {
        Value::String(text) => prompt.add(Role::User, text),
        Value::Array(items) => items.iter().for_each(|item| add_item(&mut prompt, item)),
        _ => return Err(Refusal::missing("input")),
    }
    Ok(prompt)
}

fn add_item(prompt: &mut Prompt, item: &Value) {
    match (item["type"].as_str().unwrap_or("message"), item["role"].as_str()) {
        ("function_call_output", _) => prompt.add(Role::Tool, &text_of(&item["output"])),
        ("message", Some("system" | "developer")) => prompt.add(Role::System, &text_of(&item["content"])),
        ("message", Some("assistant")) => prompt.add(Role::Assistant, &text_of(&item["content"])),
        ("message", _) => prompt.add(Role::User, &text_of(&item["content"])),
        _ => {}
    }
}

/// The response object before it has output: what `response.created` shows.
pub(super) fn started(call: &Call<'_>, model: &str, body: &Value) -> Value {
    let asked = |name: &str, default: Value| body.get(name).cloned().unwrap_or(default);
    json!({
        "id": call.id("resp_"),
        "object": "response",
        "created_at": call.now,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": body["instructions"],
        "max_output_tokens": body["max_output_tokens"],
        "model": model,
        "output": [],
        "parallel_tool_calls": asked("parallel_tool_calls", json!(true)),
        "previous_response_id": null,
        "reasoning": asked("reasoning", json!({"effort": null, "summary": null})),
        "service_tier": "default",
        "store": false,
        "temperature": asked("temperature", json!(1.0)),
        "text": asked("text", json!({"format": {"type": "text"}})),
        "tool_choice": asked("tool_choice", json!("auto")),
        "tools": asked("tools", json!([])),
        "top_p": asked("top_p", json!(1.0)),
        "truncation": "disabled",
        "usage": null,
        "user": null,
        "metadata": asked("metadata", json!({})),
    })
}

/// The response object at the end.
pub(super) fn finished(call: &Call<'_>, model: &str, body: &Value, answer: &Answer) -> Value {
    let mut response = started(call, model, body);
    response["status"] = json!(answer.ending("completed", "incomplete", "completed"));
    if answer.is_cut {
        response["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    let reasoning = answer.thought.is_some().then(|| reasoning(call));
    response["output"] = reasoning.into_iter().chain([item(call, answer)]).collect();
    let usage = &answer.usage;
    response["usage"] = json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.thought},
        "total_tokens": usage.total(),
    });
    response
}

/// The item that stands for hidden thoughts.
pub(super) fn reasoning(call: &Call<'_>) -> Value {
    json!({"id": call.id("rs_"), "type": "reasoning", "summary": []})
}

/// The item that holds the answer.
pub(super) fn item(call: &Call<'_>, answer: &Answer) -> Value {
    match &answer.content {
        Content::Text(text) => json!({"id": call.id("msg_"), "type": "message",
            "status": answer.ending("completed", "incomplete", ""), "role": "assistant", "content": [part(text)]}),
        Content::Call { name, arguments } => json!({"id": call.id("fc_"), "type": "function_call",
            "status": "completed", "call_id": call.id("call_"), "name": name, "arguments": arguments.to_string()}),
    }
}

/// A text within a message item.
pub(super) fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{get, post};

    const PATH: &str = "/v1/responses";

    #[test]
    fn text_and_items_are_answered_and_counted() {
        let json = post(PATH, &json!({"model": "demo-chat", "input": "hello", "instructions": "Be kind"})).json();
        assert_eq!((&json["object"], &json["status"]), (&json!("response"), &json!("completed")));
        assert_eq!(json["usage"]["input_tokens"], 3);
        let items = json!([{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]);
        let other = post(PATH, &json!({"model": "demo-chat", "input": items, "instructions": "Be kind"})).json();
        assert_eq!(other["output"][0]["content"], json["output"][0]["content"]);
        assert_eq!(other["usage"], json["usage"]);
        let counted = post("/v1/responses/input_tokens", &json!({"input": "hello"})).json();
        assert_eq!(counted["input_tokens"], 2);
    }

    #[test]
    fn functions_are_called_and_their_output_is_used() {
        let tools = json!([{"type": "function", "name": "weather", "parameters": {"type": "object"}}]);
        let mut body = json!({"model": "demo-chat", "input": [{"role": "user", "content": "tool"}], "tools": tools});
        let call = post(PATH, &body).json()["output"][0].clone();
        assert_eq!((&call["type"], &call["arguments"]), (&json!("function_call"), &json!("{}")));
        let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"});
        body["input"].as_array_mut().unwrap().extend([call, output]);
        let text = post(PATH, &body).json()["output"][0]["content"][0]["text"].to_string();
        assert!(text.contains("sunny"));
    }

    #[test]
    fn limits_and_reasoning_show() {
        let body = json!({"model": "m", "input": "hello", "max_output_tokens": 16, "reasoning": {"effort": "low"}});
        let json = post(PATH, &body).json();
        assert_eq!((&json["status"], &json["output"][0]["type"]), (&json!("incomplete"), &json!("reasoning")));
        assert_eq!(json["usage"]["output_tokens_details"]["reasoning_tokens"], 13);
    }

    #[test]
    fn nothing_is_remembered() {
        let answer = get("/v1/responses/resp_1", &[("authorization", "Bearer sk-test")]);
        assert_eq!(answer.status, 404);
        assert!(answer.text.contains("Response with id 'resp_1' not found."));
        let answer = post(PATH, &json!({"model": "m", "input": "x", "previous_response_id": "resp_1"}));
        assert_eq!(answer.json()["error"]["code"], "previous_response_not_found");
    }
}
