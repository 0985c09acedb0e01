//! Text and multimodal generation (`protocols.md` §2.8). A stream is asked for by header.

use serde_json::{Value, json};

use super::missing;
use crate::answer::{Answer, Content, Usage};
use crate::call::Call;
use crate::framing::{EventStream, Framing};
use crate::openai;
use crate::prompt::{Prompt, Role, text_of};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::words;

/// The shape of the output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `output.text`, the default of the oldest models.
    Text,
    /// `output.choices` with a text.
    Message,
    /// `output.choices` with a list of parts.
    Parts,
}

/// The state of a message while it grows.
#[derive(Default)]
struct Growth<'a> {
    text: &'a str,
    thought: &'a str,
    /// Name and arguments of a tool call.
    call: Option<(&'a str, &'a str)>,
}

pub(super) fn answer(call: &Call<'_>, model: &str, is_multimodal: bool) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let parameters = &body["parameters"];
    let answer = prompt(body)?.answer(model);
    let shape = match (is_multimodal, parameters["result_format"].as_str()) {
        (true, _) => Shape::Parts,
        (false, Some("message")) => Shape::Message,
        (false, _) if !answer.pieces().is_empty() && body["input"]["messages"].is_null() => Shape::Text,
        (false, Some("text")) => Shape::Text,
        (false, _) => Shape::Message,
    };
    let arguments;
    let (text, tool_call) = match &answer.content {
        Content::Text(text) => (text.as_str(), None),
        Content::Call { name, arguments: value } => {
            arguments = value.to_string();
            ("", Some((name.as_str(), arguments.as_str())))
        }
    };
    let full = Growth { text, thought: answer.thought.as_deref().unwrap_or_default(), call: tool_call };
    let event = |growth: &Growth<'_>, finish: &str, usage: &Usage| {
        json!({"output": output(call, shape, growth, finish), "usage": self::usage(usage, is_multimodal),
            "request_id": call.request.to_string()})
    };
    let finish = answer.ending("stop", "length", "tool_calls");
    let is_stream =
        call.header("x-dashscope-sse") == Some("enable") || call.header("accept") == Some("text/event-stream");
    if !is_stream {
        return Ok(Reply::ok(&event(&full, finish, &answer.usage)));
    }
    let mut stream = EventStream::new(Framing::DashScope);
    let is_incremental = parameters["incremental_output"] == true;
    grow(&answer, &full, is_incremental, &mut |growth, usage| stream.push("", &event(growth, "null", usage)));
    let last = if is_incremental { Growth::default() } else { full };
    stream.push("", &event(&last, finish, &answer.usage));
    Ok(Reply::stream(stream))
}

/// Shows every state of the growing message: only what is new, or all so far.
fn grow(answer: &Answer, full: &Growth<'_>, is_incremental: bool, show: &mut dyn FnMut(&Growth<'_>, &Usage)) {
    let thinking = Usage { output: answer.usage.thought, ..answer.usage };
    let mut end = 0;
    for piece in words::pieces(full.thought) {
        let start = if is_incremental { end } else { 0 };
        end += piece.len();
        show(&Growth { thought: &full.thought[start..end], ..Growth::default() }, &thinking);
    }
    let thought = if is_incremental { "" } else { full.thought };
    for piece in answer.pieces() {
        let text = if is_incremental { &piece.text } else { &piece.text_so_far };
        show(&Growth { text, thought, call: None }, &piece.usage);
    }
    let Some((name, arguments)) = full.call else { return };
    let mut end = 0;
    for fragment in words::fragments(arguments) {
        let start = if is_incremental { end } else { 0 };
        let name = if is_incremental && end > 0 { "" } else { name };
        end += fragment.len();
        show(&Growth { text: "", thought, call: Some((name, &arguments[start..end])) }, &answer.usage);
    }
}

fn output(call: &Call<'_>, shape: Shape, growth: &Growth<'_>, finish: &str) -> Value {
    if shape == Shape::Text {
        return json!({"text": growth.text, "finish_reason": finish});
    }
    let content = match (shape, growth.text) {
        (Shape::Parts, "") => json!([]),
        (Shape::Parts, text) => json!([{"text": text}]),
        (_, text) => json!(text),
    };
    let mut message = json!({"role": "assistant", "content": content});
    if !growth.thought.is_empty() {
        message["reasoning_content"] = json!(growth.thought);
    }
    if let Some((name, arguments)) = growth.call {
        let function = json!({"name": name, "arguments": arguments});
        message["tool_calls"] = json!([{"index": 0, "id": call.id("call_"), "type": "function", "function": function}]);
    }
    json!({"choices": [{"finish_reason": finish, "message": message}]})
}

fn usage(usage: &Usage, is_multimodal: bool) -> Value {
    let mut value = json!({"input_tokens": usage.input, "output_tokens": usage.output, "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cached}});
    if usage.thought > 0 {
        value["output_tokens_details"] = json!({"reasoning_tokens": usage.thought});
    }
    if is_multimodal {
        value["input_tokens_details"] = json!({"text_tokens": usage.input});
        value["image_tokens"] = json!(0);
    }
    value
}

fn prompt(body: &Value) -> Result<Prompt, Refusal> {
    let (input, parameters) = (&body["input"], &body["parameters"]);
    let mut prompt = Prompt {
        tools: openai::tools(&parameters["tools"]),
        choice: openai::tool_choice(&parameters["tool_choice"]),
        schema: openai::schema(&parameters["response_format"]),
        limit: parameters["max_tokens"].as_u64(),
        thinks: parameters["enable_thinking"] == true,
        ..Prompt::default()
    };
    match (input["messages"].as_array(), input["prompt"].as_str()) {
        (Some(messages), _) if !messages.is_empty() => {
            for message in messages {
                let role = match message["role"].as_str() {
                    Some("system") => Role::System,
                    Some("assistant") => Role::Assistant,
                    Some("tool") => Role::Tool,
                    _ => Role::User,
                };
                prompt.add(role, &text_of(&message["content"]));
            }
        }
        (_, Some(text)) => prompt.add(Role::User, text),
        _ => return Err(missing("prompt\" or \"messages")),
    }
    Ok(prompt)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answered, post_with};

    const TEXT: &str = "You said: hello. This answer comes from the AIProxy demo upstream.";

    fn generate(service: &str, is_stream: bool, content: Value, parameters: Value) -> Answered {
        generate_as("demo-chat", service, is_stream, content, parameters)
    }

    fn generate_as(model: &str, service: &str, is_stream: bool, content: Value, parameters: Value) -> Answered {
        let path = format!("/api/v1/services/aigc/{service}/generation");
        let sse = [("x-dashscope-sse", "enable"), ("accept", "text/event-stream")];
        let messages = json!([{"role": "user", "content": content}]);
        let body = json!({"model": model, "input": {"messages": messages}, "parameters": parameters});
        post_with(&path, if is_stream { &sse } else { &[] }, &body)
    }

    fn message(event: &Value) -> &Value {
        &event["output"]["choices"][0]["message"]
    }

    #[test]
    fn json_comes_in_three_shapes() {
        let json = generate("text-generation", false, json!("hello"), json!({"result_format": "message"})).json();
        assert_eq!(message(&json)["content"], TEXT);
        assert_eq!(json["usage"]["input_tokens"], 2);
        assert_eq!(json["usage"]["total_tokens"], 19);
        let json = generate("text-generation", false, json!("hello"), json!({"result_format": "text"})).json();
        assert_eq!(json["output"], json!({"text": TEXT, "finish_reason": "stop"}));
        let json =
            generate("multimodal-generation", false, json!([{"image": "x"}, {"text": "hello"}]), json!({})).json();
        assert_eq!(message(&json)["content"], json!([{"text": TEXT}]));
        let body = json!({"model": "m", "input": {"prompt": "hello"}});
        let json = post_with("/api/v1/services/aigc/text-generation/generation", &[], &body).json();
        assert_eq!(json["output"]["text"], TEXT);
    }

    #[test]
    fn streams_are_incremental_or_cumulative() {
        let parameters = json!({"result_format": "message", "incremental_output": true});
        let answer = generate("text-generation", true, json!("hello"), parameters);
        assert!(answer.text.starts_with("id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\""));
        let events = answer.events();
        let content = |event: &Value| message(event)["content"].as_str().unwrap().to_owned();
        assert_eq!(events.iter().map(content).collect::<String>(), TEXT);
        assert_eq!(events[0]["output"]["choices"][0]["finish_reason"], "null");
        let events = generate("text-generation", true, json!("hello"), json!({"result_format": "message"})).events();
        let last = events.last().unwrap();
        assert_eq!((content(&events[1]).as_str(), content(last).as_str()), ("You said: ", TEXT));
        assert_eq!(last["output"]["choices"][0]["finish_reason"], "stop");
        assert_eq!(last["usage"]["total_tokens"], 19);
    }

    #[test]
    fn tools_and_thoughts_stream() {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]);
        let parameters =
            json!({"result_format": "message", "incremental_output": true, "tools": tools, "enable_thinking": true});
        let events = generate("text-generation", true, json!("use the tool"), parameters).events();
        let arguments = |event: &Value| {
            message(event)["tool_calls"][0]["function"]["arguments"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(events.iter().map(arguments).collect::<String>(), "{\"city\":\"Paris\"}");
        assert_eq!(message(&events[0])["reasoning_content"], "The ");
        assert_eq!(events.last().unwrap()["usage"]["output_tokens_details"]["reasoning_tokens"], 13);
    }

    #[test]
    fn failures_keep_the_form() {
        let failed = generate_as("demo-error-in-stream", "text-generation", true, json!("hello"), json!({}));
        assert_eq!(failed.names(), ["result", "result", "error"]);
        assert_eq!(failed.events()[2]["code"], "InternalError");
        let limited = generate_as("demo-error-429", "text-generation", true, json!("hello"), json!({}));
        assert_eq!((limited.status, limited.json()["code"].as_str()), (429, Some("Throttling.RateQuota")));
    }
}
