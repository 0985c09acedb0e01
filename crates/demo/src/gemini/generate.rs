//! `:generateContent`, `:streamGenerateContent` and `:countTokens` (`protocols.md` §2.7).
//!
//! The model thinks unless `thinkingConfig.thinkingBudget` is 0; thoughts are counted apart from candidates.

use serde_json::{Value, json};

use super::member;
use crate::answer::{Answer, Content, Usage};
use crate::call::Call;
use crate::framing::{EventStream, Framing};
use crate::prompt::{Prompt, Role, Tool, ToolChoice, text_of};
use crate::refusal::Refusal;
use crate::reply::Reply;

pub(super) fn whole(call: &Call<'_>, model: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let answer = prompt(body)?.answer(model);
    let content = match &answer.content {
        Content::Text(text) => json!({"text": text}),
        Content::Call { name, arguments } => function_call(name, arguments),
    };
    let parts: Vec<Value> = thought(body, &answer).into_iter().chain([content]).collect();
    Ok(Reply::ok(&response(call, model, parts, Some(&answer), &answer.usage)))
}

pub(super) fn stream(call: &Call<'_>, model: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let answer = prompt(body)?.answer(model);
    let is_array = call.parameter("alt") != Some("sse");
    let mut stream = EventStream::new(if is_array { Framing::GeminiArray } else { Framing::GeminiEvents });
    if let Some(thought) = thought(body, &answer) {
        let usage = Usage { output: answer.usage.thought, ..answer.usage };
        stream.push("", &response(call, model, vec![thought], None, &usage));
    }
    match &answer.content {
        Content::Text(_) => {
            for piece in answer.pieces() {
                stream.push("", &response(call, model, vec![json!({"text": piece.text})], None, &piece.usage));
            }
            stream.push("", &response(call, model, vec![json!({"text": ""})], Some(&answer), &answer.usage));
        }
        // A function call always arrives whole.
        Content::Call { name, arguments } => {
            let parts = vec![function_call(name, arguments)];
            stream.push("", &response(call, model, parts, Some(&answer), &answer.usage));
        }
    }
    if is_array {
        stream.push_bytes("]");
    }
    Ok(Reply::stream(stream))
}

pub(super) fn count(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let usage = prompt(body.get("generateContentRequest").unwrap_or(body))?.answer("").usage;
    let details = json!([{"modality": "TEXT", "tokenCount": usage.input}]);
    Ok(Reply::ok(&json!({"totalTokens": usage.input, "promptTokensDetails": details})))
}

fn response(call: &Call<'_>, model: &str, parts: Vec<Value>, end: Option<&Answer>, usage: &Usage) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}});
    if let Some(answer) = end {
        candidate["finishReason"] = json!(answer.ending("STOP", "MAX_TOKENS", "STOP"));
    }
    candidate["index"] = json!(0);
    let mut metadata = json!({
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - usage.thought,
        "totalTokenCount": usage.total(),
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
    });
    if usage.thought > 0 {
        metadata["thoughtsTokenCount"] = json!(usage.thought);
    }
    json!({"candidates": [candidate], "usageMetadata": metadata, "modelVersion": model,
        "responseId": call.request.simple().to_string()})
}

fn function_call(name: &str, arguments: &Value) -> Value {
    json!({"functionCall": {"name": name, "args": arguments}, "thoughtSignature": "ZGVtbw=="})
}

/// The thought as a part, if the caller wants to see it.
fn thought(body: &Value, answer: &Answer) -> Option<Value> {
    let config = member(config(body), "thinkingConfig", "thinking_config");
    let is_shown = member(config, "includeThoughts", "include_thoughts") == true;
    answer.thought.as_ref().filter(|_| is_shown).map(|thought| json!({"text": thought, "thought": true}))
}

fn config(body: &Value) -> &Value {
    member(body, "generationConfig", "generation_config")
}

fn prompt(body: &Value) -> Result<Prompt, Refusal> {
    let contents = body["contents"].as_array().filter(|contents| !contents.is_empty());
    let contents =
        contents.ok_or_else(|| Refusal::new(400, "* GenerateContentRequest.contents: contents is not specified\n"))?;
    let config = config(body);
    let wants_json = member(config, "responseMimeType", "response_mime_type") == "application/json";
    let budget = member(member(config, "thinkingConfig", "thinking_config"), "thinkingBudget", "thinking_budget");
    let choice = member(member(body, "toolConfig", "tool_config"), "functionCallingConfig", "function_calling_config");
    let mut prompt = Prompt {
        tools: tools(&body["tools"]),
        choice: match choice["mode"].as_str() {
            Some("ANY") => ToolChoice::Always,
            Some("NONE") => ToolChoice::Never,
            _ => ToolChoice::Auto,
        },
        schema: wants_json.then(|| schema(config).cloned().unwrap_or_default()),
        limit: member(config, "maxOutputTokens", "max_output_tokens").as_u64(),
        thinks: *budget != 0,
        ..Prompt::default()
    };
    prompt.add(Role::System, &text_of(&member(body, "systemInstruction", "system_instruction")["parts"]));
    for content in contents {
        let parts = content["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut result = parts.iter().map(|part| member(part, "functionResponse", "function_response"));
        match result.rfind(|result| result.is_object()) {
            Some(result) => prompt.add(Role::Tool, &result["response"].to_string()),
            None if content["role"] == "model" => prompt.add(Role::Assistant, &text_of(&content["parts"])),
            None => prompt.add(Role::User, &text_of(&content["parts"])),
        }
    }
    Ok(prompt)
}

/// The schema of a function's arguments or of the answer, under any name that Google accepts for either.
fn schema(object: &Value) -> Option<&Value> {
    let names = [
        "parameters",
        "parametersJsonSchema",
        "parameters_json_schema",
        "responseSchema",
        "response_schema",
        "responseJsonSchema",
        "response_json_schema",
    ];
    names.iter().find_map(|name| object.get(*name))
}

/// The functions that `tools` declares.
pub(crate) fn tools(declared: &Value) -> Vec<Tool> {
    let groups = declared.as_array().into_iter().flatten();
    let functions = groups.flat_map(|group| member(group, "functionDeclarations", "function_declarations").as_array());
    let tool = |function: &Value| Tool {
        name: function["name"].as_str().unwrap_or_default().to_owned(),
        schema: schema(function).cloned().unwrap_or_default(),
    };
    functions.flatten().map(tool).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answered, post};

    const MODEL: &str = "/v1beta/models/demo-chat";

    fn generate(verb: &str, more: Value) -> Answered {
        let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&format!("{MODEL}:{verb}"), &body)
    }

    fn text(event: &Value) -> String {
        event["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap_or_default().to_owned()
    }

    #[test]
    fn json_counts_thoughts_apart() {
        let json = generate("generateContent", json!({"system_instruction": {"parts": [{"text": "Be kind"}]}})).json();
        assert_eq!(text(&json), "You said: hello. This answer comes from the AIProxy demo upstream.");
        let usage = &json["usageMetadata"];
        assert_eq!((&usage["promptTokenCount"], &usage["candidatesTokenCount"]), (&json!(3), &json!(17)));
        assert_eq!((&usage["thoughtsTokenCount"], &usage["totalTokenCount"]), (&json!(13), &json!(33)));
        let json =
            generate("generateContent", json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}})).json();
        assert_eq!(
            (json["usageMetadata"].get("thoughtsTokenCount"), &json["usageMetadata"]["totalTokenCount"]),
            (None, &json!(19))
        );
    }

    #[test]
    fn both_stream_forms_carry_cumulative_usage() {
        let whole = generate("generateContent", json!({})).json();
        let answer = generate("streamGenerateContent?alt=sse", json!({}));
        assert!(answer.text.ends_with("\r\n\r\n") && answer.text.starts_with("data: {"));
        let events = answer.events();
        let array = generate("streamGenerateContent", json!({}));
        assert!(array.header("content-type").starts_with("application/json") && array.chunks > 5);
        assert_eq!(array.json().as_array().map(Vec::len), Some(events.len()));
        assert_eq!(events.iter().map(text).collect::<String>(), text(&whole));
        let counts: Vec<u64> =
            events.iter().map(|event| event["usageMetadata"]["totalTokenCount"].as_u64().unwrap()).collect();
        assert!(counts.is_sorted());
        assert_eq!(events.last().unwrap()["usageMetadata"], whole["usageMetadata"]);
        assert_eq!(events.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    }

    #[test]
    fn functions_are_called_and_their_response_used() {
        let tools = json!([{"functionDeclarations": [{"name": "weather", "parameters_json_schema":
            {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}]}]);
        let asked = json!({"role": "user", "parts": [{"text": "use a tool"}]});
        let call = generate("generateContent", json!({"tools": tools, "contents": [asked]})).json()["candidates"][0]["content"].clone();
        assert_eq!(call["parts"][0]["functionCall"], json!({"name": "weather", "args": {"city": "Paris"}}));
        let streamed = generate("streamGenerateContent?alt=sse", json!({"tools": tools, "contents": [asked]})).events();
        assert_eq!(streamed[0]["candidates"][0]["content"], call);
        let result =
            json!({"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "clear"}}}]});
        let json = generate("generateContent", json!({"tools": tools, "contents": [asked, call, result]})).json();
        assert!(text(&json).contains("clear"));
    }

    #[test]
    fn shapes_limits_and_visible_thoughts() {
        let config = json!({"responseMimeType": "application/json", "responseSchema": {"type": "ARRAY", "items": {"type": "INTEGER"}}});
        assert_eq!(text(&generate("generateContent", json!({"generationConfig": config})).json()), "[1]");
        let config = json!({"maxOutputTokens": 15, "thinkingConfig": {"includeThoughts": true}});
        let json = generate("generateContent", json!({"generationConfig": config})).json();
        assert_eq!(json["candidates"][0]["finishReason"], "MAX_TOKENS");
        assert_eq!(json["candidates"][0]["content"]["parts"][0]["thought"], true);
    }

    #[test]
    fn tokens_are_counted_and_bad_requests_refused() {
        assert_eq!(generate("countTokens", json!({})).json()["totalTokens"], 2);
        let refused = generate("generateContent", json!({"contents": []}));
        assert_eq!((refused.status, refused.json()["error"]["status"].as_str()), (400, Some("INVALID_ARGUMENT")));
    }

    #[test]
    fn vertex_paths_answer_too() {
        let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
        for path in [
            "/v1/projects/p/locations/l/publishers/google/models/demo-chat:generateContent",
            "/v1beta1/publishers/google/models/demo-chat:generateContent",
        ] {
            assert_eq!(post(path, &body).json()["modelVersion"], "demo-chat", "{path}");
        }
    }

    #[test]
    fn failures_within_a_stream_keep_its_form() {
        let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
        let path = "/v1beta/models/demo-error-in-stream:streamGenerateContent";
        assert_eq!(post(&format!("{path}?alt=sse"), &body).events()[2]["error"]["status"], "INTERNAL");
        assert_eq!(post(path, &body).json()[2]["error"]["code"], 500);
        let limited = post("/v1beta/models/demo-error-429:generateContent", &body);
        assert_eq!((limited.status, limited.json()["error"]["status"].as_str()), (429, Some("RESOURCE_EXHAUSTED")));
    }
}
