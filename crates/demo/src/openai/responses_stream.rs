//! The named events of a streamed response (`protocols.md` §8).

use serde_json::{Map, Value, json};

use super::responses::{finished, item, part, reasoning, started};
use crate::answer::{Answer, Content};
use crate::call::Call;
use crate::framing::{EventStream, Framing};
use crate::words;

/// Numbers events from 0.
struct Events(Vec<Value>);

impl Events {
    /// Adds the event `kind` with the members of `more`.
    fn push(&mut self, kind: &str, more: Value) {
        let mut event =
            Map::from_iter([("type".to_owned(), json!(kind)), ("sequence_number".to_owned(), json!(self.0.len()))]);
        if let Value::Object(more) = more {
            event.extend(more);
        }
        self.0.push(event.into());
    }

    /// Adds an event about the whole response.
    fn response(&mut self, kind: &str, response: &Value) {
        self.push(kind, json!({"response": response}));
    }
}

/// The events as a stream of the HTTP endpoint.
pub(super) fn stream(call: &Call<'_>, model: &str, body: &Value, answer: &Answer) -> EventStream {
    let mut stream = EventStream::new(Framing::Named);
    events(call, model, body, answer).iter().for_each(|event| stream.push_typed(event));
    stream
}

/// The events themselves, from `response.created` to the one that ends the response.
pub(super) fn events(call: &Call<'_>, model: &str, body: &Value, answer: &Answer) -> Vec<Value> {
    let mut events = Events(Vec::new());
    let started = started(call, model, body);
    events.response("response.created", &started);
    events.response("response.in_progress", &started);
    if answer.thought.is_some() {
        let item = reasoning(call);
        events.push("response.output_item.added", json!({"output_index": 0, "item": item}));
        events.push("response.output_item.done", json!({"output_index": 0, "item": item}));
    }
    let index = usize::from(answer.thought.is_some());
    let item = item(call, answer);
    match &answer.content {
        Content::Text(text) => message(&mut events, index, &item, text, answer),
        Content::Call { arguments, .. } => function_call(&mut events, index, &item, &arguments.to_string()),
    }
    events.push("response.output_item.done", json!({"output_index": index, "item": item}));
    let last = answer.ending("response.completed", "response.incomplete", "response.completed");
    events.response(last, &finished(call, model, body, answer));
    events.0
}

fn message(events: &mut Events, index: usize, item: &Value, text: &str, answer: &Answer) {
    let mut empty = item.clone();
    empty["status"] = json!("in_progress");
    empty["content"] = json!([]);
    events.push("response.output_item.added", json!({"output_index": index, "item": empty}));
    let id = &item["id"];
    let place = |more: Value| {
        let mut place = json!({"item_id": id, "output_index": index, "content_index": 0});
        if let (Value::Object(place), Value::Object(more)) = (&mut place, more) {
            place.extend(more);
        }
        place
    };
    events.push("response.content_part.added", place(json!({"part": part("")})));
    for piece in answer.pieces() {
        events.push("response.output_text.delta", place(json!({"delta": piece.text, "logprobs": []})));
    }
    events.push("response.output_text.done", place(json!({"text": text, "logprobs": []})));
    events.push("response.content_part.done", place(json!({"part": part(text)})));
}

fn function_call(events: &mut Events, index: usize, item: &Value, arguments: &str) {
    let mut empty = item.clone();
    empty["status"] = json!("in_progress");
    empty["arguments"] = json!("");
    events.push("response.output_item.added", json!({"output_index": index, "item": empty}));
    let id = &item["id"];
    for fragment in words::fragments(arguments) {
        let delta = json!({"item_id": id, "output_index": index, "delta": fragment});
        events.push("response.function_call_arguments.delta", delta);
    }
    let done = json!({"item_id": id, "output_index": index, "name": item["name"], "arguments": arguments});
    events.push("response.function_call_arguments.done", done);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answered, post};

    fn stream(more: Value) -> Answered {
        let mut body = json!({"model": "demo-chat", "input": "hello", "stream": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post("/v1/responses", &body)
    }

    fn deltas(events: &[Value], kind: &str) -> String {
        let deltas = events.iter().filter(|event| event["type"] == kind);
        deltas.map(|event| event["delta"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_text_streams_in_the_documented_order() {
        let answer = stream(json!({}));
        let mut names = answer.names();
        names.dedup();
        let expected = [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ];
        assert_eq!(names, expected);
        let events = answer.events();
        assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
        let whole = post("/v1/responses", &json!({"model": "demo-chat", "input": "hello"})).json();
        let response = &events.last().unwrap()["response"];
        assert_eq!(response["usage"], whole["usage"]);
        assert_eq!(deltas(&events, "response.output_text.delta"), whole["output"][0]["content"][0]["text"]);
        assert!(!answer.text.contains("[DONE]"));
    }

    #[test]
    fn a_function_call_streams_its_arguments() {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let tools = json!([{"type": "function", "name": "weather", "parameters": schema}]);
        let events = stream(json!({"tools": tools, "tool_choice": "required"})).events();
        assert_eq!(deltas(&events, "response.function_call_arguments.delta"), "{\"city\":\"Paris\"}");
    }

    #[test]
    fn thoughts_limits_and_errors_have_their_events() {
        let answer = stream(json!({"reasoning": {"effort": "low"}, "max_output_tokens": 15}));
        assert_eq!(answer.names().last(), Some(&"response.incomplete"));
        assert_eq!(answer.events()[2]["item"]["type"], "reasoning");
        let failed = stream(json!({"model": "demo-error-in-stream"}));
        assert_eq!(failed.names(), ["response.created", "response.in_progress", "error"]);
        assert_eq!(failed.events()[2]["code"], "server_error");
    }
}
