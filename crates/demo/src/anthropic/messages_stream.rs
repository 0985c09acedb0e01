//! The events of a streamed message (`protocols.md` §8): usage is split between the first and the last but one.

use serde_json::{Value, json};

use super::messages::{signature, started, stop_reason, usage};
use crate::answer::{Answer, Content};
use crate::call::Call;
use crate::framing::{EventStream, Framing};
use crate::words;

pub(super) fn stream(call: &Call<'_>, model: &str, answer: &Answer) -> EventStream {
    let mut stream = EventStream::new(Framing::Named);
    let mut message = started(call, model);
    // The output count in here is a stub; the real one comes at the end.
    message["usage"] = usage(&answer.usage, 1);
    stream.push_typed(&json!({"type": "message_start", "message": message}));
    if let Some(thought) = &answer.thought {
        let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
        let pieces =
            words::pieces(thought).into_iter().map(|piece| json!({"type": "thinking_delta", "thinking": piece}));
        let signed = json!({"type": "signature_delta", "signature": signature(call)});
        block(&mut stream, 0, thinking, pieces.chain([signed]));
    }
    let index = usize::from(answer.thought.is_some());
    match &answer.content {
        Content::Text(_) => {
            let pieces = answer.pieces().into_iter().map(|piece| json!({"type": "text_delta", "text": piece.text}));
            block(&mut stream, index, json!({"type": "text", "text": ""}), pieces);
        }
        Content::Call { name, arguments } => {
            let tool = json!({"type": "tool_use", "id": call.id("toolu_"), "name": name, "input": {}});
            let fragments = words::fragments(&arguments.to_string()).into_iter();
            let deltas = fragments.map(|fragment| json!({"type": "input_json_delta", "partial_json": fragment}));
            block(&mut stream, index, tool, deltas);
        }
    }
    let delta = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});
    let usage = json!({"output_tokens": answer.usage.output});
    stream.push_typed(&json!({"type": "message_delta", "delta": delta, "usage": usage}));
    stream.push_typed(&json!({"type": "message_stop"}));
    stream
}

/// One content block from start to stop, with a ping after the first start.
fn block(stream: &mut EventStream, index: usize, start: Value, deltas: impl Iterator<Item = Value>) {
    stream.push_typed(&json!({"type": "content_block_start", "index": index, "content_block": start}));
    if index == 0 {
        stream.push_typed(&json!({"type": "ping"}));
    }
    for delta in deltas {
        stream.push_typed(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
    }
    stream.push_typed(&json!({"type": "content_block_stop", "index": index}));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answered, post_with};

    fn stream(more: Value) -> Answered {
        let mut body = json!({"model": "demo-chat", "max_tokens": 256, "stream": true,
            "messages": [{"role": "user", "content": "hello"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post_with("/apps/anthropic/v1/messages", &[("anthropic-version", "2023-06-01")], &body)
    }

    fn joined(events: &[Value], name: &str) -> String {
        events.iter().filter_map(|event| event["delta"][name].as_str()).collect()
    }

    #[test]
    fn a_text_streams_in_the_documented_order_with_split_usage() {
        let answer = stream(json!({}));
        let mut names = answer.names();
        names.dedup();
        let expected = [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ];
        assert_eq!(names, expected);
        let events = answer.events();
        let started = &events[0]["message"]["usage"];
        assert_eq!((&started["input_tokens"], &started["output_tokens"]), (&json!(2), &json!(1)));
        assert_eq!(events[events.len() - 2]["usage"], json!({"output_tokens": 17}));
        assert_eq!(joined(&events, "text"), "You said: hello. This answer comes from the AIProxy demo upstream.");
    }

    #[test]
    fn tools_and_thoughts_stream_as_blocks() {
        let tools = json!([{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]);
        let events =
            stream(json!({"tools": tools, "tool_choice": {"type": "any"}, "thinking": {"type": "adaptive"}})).events();
        assert_eq!(joined(&events, "partial_json"), "{\"city\":\"Paris\"}");
        assert!(joined(&events, "thinking").starts_with("The user") && !joined(&events, "signature").is_empty());
        assert_eq!(events.iter().find(|event| event["content_block"]["type"] == "tool_use").unwrap()["index"], 1);
        assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
    }

    #[test]
    fn failures_within_a_stream() {
        let failed = stream(json!({"model": "demo-error-in-stream"}));
        assert_eq!(failed.names(), ["message_start", "content_block_start", "error"]);
        assert_eq!(failed.events()[2]["error"]["type"], "api_error");
        assert!(stream(json!({"model": "demo-break"})).is_cut);
    }
}
