//! `POST /chat/completions` (`protocols.md` §2.1).

use serde_json::{Value, json};

use crate::answer::{Answer, Content};
use crate::call::Call;
use crate::framing::{EventStream, Framing};
use crate::prompt::{Prompt, Role, text_of};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::route::Dialect;
use crate::words;

pub(super) fn answer(call: &Call<'_>, dialect: Dialect, model: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let answer = prompt(body)?.answer(model);
    let shows_thought = body["enable_thinking"] == true;
    let id = call.id("chatcmpl-");
    if body["stream"] != true {
        return Ok(Reply::ok(&json!({
            "id": id,
            "object": "chat.completion",
            "created": call.now,
            "model": model,
            "choices": [{"index": 0, "message": message(call, &answer, shows_thought), "logprobs": null,
                "finish_reason": finish_reason(&answer)}],
            "usage": super::usage(&answer.usage),
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
        })));
    }
    let with_usage = body["stream_options"]["include_usage"] == true;
    let chunk = |choices: Value| {
        let mut chunk = json!({"id": id, "object": "chat.completion.chunk", "created": call.now, "model": model,
            "service_tier": "default", "system_fingerprint": "fp_demo", "choices": choices});
        if with_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let mut stream = EventStream::new(Framing::Data);
    if dialect == Dialect::Azure {
        let mut first = chunk(json!([]));
        first["prompt_filter_results"] = json!([{"prompt_index": 0, "content_filter_results": {}}]);
        stream.push("", &first);
    }
    for delta in deltas(call, &answer, shows_thought) {
        stream.push("", &chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}])));
    }
    let reason = finish_reason(&answer);
    stream.push("", &chunk(json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": reason}])));
    if with_usage {
        let mut last = chunk(json!([]));
        last["usage"] = super::usage(&answer.usage);
        stream.push("", &last);
    }
    stream.push_bytes("data: [DONE]\n\n");
    Ok(Reply::stream(stream))
}

/// Reads a chat body.
fn prompt(body: &Value) -> Result<Prompt, Refusal> {
    let messages = body["messages"].as_array().ok_or(Refusal::missing("messages"))?;
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1.";
        return Err(Refusal::new(400, message).code("empty_array").param("messages"));
    }
    let mut prompt = Prompt {
        tools: super::tools(&body["tools"]),
        choice: super::tool_choice(&body["tool_choice"]),
        schema: super::schema(&body["response_format"]),
        limit: body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()),
        thinks: body["enable_thinking"] == true || body["reasoning_effort"].as_str().is_some_and(|word| word != "none"),
        ..Prompt::default()
    };
    for message in messages {
        let role = match message["role"].as_str() {
            Some("system" | "developer") => Role::System,
            Some("assistant") => Role::Assistant,
            Some("tool" | "function") => Role::Tool,
            _ => Role::User,
        };
        let text = text_of(&message["content"]);
        prompt.add(role, &text);
        // A caller who names a cache finds its system messages there.
        if role == Role::System && body["prompt_cache_key"].is_string() {
            prompt.cached_characters += text.chars().count();
        }
    }
    Ok(prompt)
}

fn finish_reason(answer: &Answer) -> &'static str {
    answer.ending("stop", "length", "tool_calls")
}

fn message(call: &Call<'_>, answer: &Answer, shows_thought: bool) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
    match &answer.content {
        Content::Text(text) => message["content"] = json!(text),
        Content::Call { name, arguments } => {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            message["tool_calls"] = json!([{"id": call.id("call_"), "type": "function", "function": function}]);
        }
    }
    if let (true, Some(thought)) = (shows_thought, &answer.thought) {
        message["reasoning_content"] = json!(thought);
    }
    message
}

/// The deltas of a stream, without the last, empty one.
fn deltas(call: &Call<'_>, answer: &Answer, shows_thought: bool) -> Vec<Value> {
    let mut deltas = vec![json!({"role": "assistant", "content": "", "refusal": null})];
    if let (true, Some(thought)) = (shows_thought, &answer.thought) {
        deltas.extend(words::pieces(thought).into_iter().map(|piece| json!({"reasoning_content": piece})));
    }
    deltas.extend(answer.pieces().into_iter().map(|piece| json!({"content": piece.text})));
    if let Content::Call { name, arguments } = &answer.content {
        let function = json!({"name": name, "arguments": ""});
        deltas[0] = json!({"role": "assistant", "content": null, "tool_calls":
            [{"index": 0, "id": call.id("call_"), "type": "function", "function": function}]});
        for fragment in words::fragments(&arguments.to_string()) {
            deltas.push(json!({"tool_calls": [{"index": 0, "function": {"arguments": fragment}}]}));
        }
    }
    deltas
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answered, post};
    use crate::tokens;

    const TEXT: &str = "You said: hello. This answer comes from the AIProxy demo upstream.";

    fn chat(model: &str, more: Value) -> Answered {
        let mut body = json!({"model": model, "messages": [
            {"role": "system", "content": "Be kind"}, {"role": "user", "content": [{"type": "text", "text": "hello"}]}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post("/v1/chat/completions", &body)
    }

    fn weather() -> Value {
        json!([{"type": "function", "function": {"name": "weather", "parameters":
            {"type": "object", "properties": {"city": {"type": "string"}}}}}])
    }

    #[test]
    fn json_echoes_and_counts() {
        let json = chat("demo-chat", json!({})).json();
        assert_eq!(json["choices"][0]["message"]["content"], TEXT);
        let output = tokens::count(TEXT);
        let usage = &json["usage"];
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(3), &json!(output)));
        assert_eq!(usage["total_tokens"], 3 + output);
    }

    #[test]
    fn a_stream_has_no_usage_unless_asked() {
        let answer = chat("demo-chat", json!({"stream": true}));
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert!(answer.text.ends_with("\n\ndata: [DONE]\n\n") && !answer.text.contains("usage"));
        let events = answer.events();
        let content = |event: &Value| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
        assert_eq!(events.iter().map(content).collect::<String>(), TEXT);
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn asked_for_usage_comes_in_a_chunk_of_its_own() {
        let events = chat("demo-chat", json!({"stream": true, "stream_options": {"include_usage": true}})).events();
        let (last, others) = events.split_last().unwrap();
        assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &chat("demo-chat", json!({})).json()["usage"]));
        assert!(others.iter().all(|event| event.get("usage") == Some(&Value::Null)));
    }

    #[test]
    fn a_tool_call_comes_whole_or_in_fragments() {
        let asked = json!([{"role": "user", "content": "use the tool"}]);
        let json = chat("demo-chat", json!({"messages": asked, "tools": weather()})).json();
        let function = &json["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(function, &json!({"name": "weather", "arguments": "{\"city\":\"Paris\"}"}));
        assert_eq!(json["choices"][0]["finish_reason"], "tool_calls");
        let events = chat("demo-chat", json!({"messages": asked, "tools": weather(), "stream": true})).events();
        let fragment = |event: &Value| {
            let call = &event["choices"][0]["delta"]["tool_calls"][0];
            call["function"]["arguments"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(events.iter().map(fragment).collect::<String>(), "{\"city\":\"Paris\"}");
        assert!(events.len() > 3);
    }

    #[test]
    fn a_demanded_shape_is_kept_and_chinese_is_answered_in_chinese() {
        let schema = json!({"type": "object", "properties": {"days": {"type": "integer"}}});
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let json = chat("demo-chat", json!({"response_format": format})).json();
        assert_eq!(json["choices"][0]["message"]["content"], "{\"days\":1}");
        let json = chat("demo-chat", json!({"messages": [{"role": "user", "content": "你好"}]})).json();
        assert_eq!(json["choices"][0]["message"]["content"], "你说的是：你好。这条回答来自 AIProxy 演示上游。");
    }

    #[test]
    fn thoughts_are_counted_and_shown_when_enabled() {
        let json = chat("demo-chat", json!({"reasoning_effort": "low"})).json();
        assert_eq!(json["usage"]["completion_tokens_details"]["reasoning_tokens"], 13);
        assert_eq!(json["choices"][0]["message"].get("reasoning_content"), None);
        let events = chat("demo-chat", json!({"enable_thinking": true, "stream": true})).events();
        assert_eq!(events[1]["choices"][0]["delta"]["reasoning_content"], "The ");
    }

    #[test]
    fn limits_and_caches_show_in_the_usage() {
        let json = chat("demo-chat", json!({"max_tokens": 2, "prompt_cache_key": "k"})).json();
        assert_eq!(json["choices"][0]["finish_reason"], "length");
        assert_eq!(json["usage"]["completion_tokens"], 2);
        assert_eq!(json["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    }

    #[test]
    fn requests_without_messages_are_refused() {
        let json = chat("demo-chat", json!({"messages": null})).json();
        assert_eq!(json["error"]["code"], "missing_required_parameter");
        assert_eq!(chat("demo-chat", json!({"messages": []})).status, 400);
    }

    #[test]
    fn an_azure_stream_opens_with_the_prompt_filter() {
        let body = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true, "model": null});
        let events = post("/openai/deployments/demo-chat/chat/completions?api-version=2024-10-21", &body).events();
        assert!(events[0]["prompt_filter_results"].is_array());
        assert_eq!(events[1]["model"], "demo-chat");
    }
}
