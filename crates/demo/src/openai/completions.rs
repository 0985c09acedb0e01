//! `POST /completions`, the legacy endpoint.

use serde_json::{Value, json};

use crate::call::Call;
use crate::framing::{EventStream, Framing};
use crate::prompt::{Prompt, Role, text_of};
use crate::refusal::Refusal;
use crate::reply::Reply;

pub(super) fn answer(call: &Call<'_>, model: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let mut prompt = Prompt { limit: body["max_tokens"].as_u64(), ..Prompt::default() };
    prompt.add(Role::User, &text_of(body.get("prompt").ok_or(Refusal::missing("prompt"))?));
    let answer = prompt.answer(model);
    let completion = |text: &str, finish_reason: Option<&str>| {
        json!({"id": call.id("cmpl-"), "object": "text_completion", "created": call.now, "model": model,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish_reason}]})
    };
    let finish_reason = answer.ending("stop", "length", "stop");
    let pieces = answer.pieces();
    if body["stream"] != true {
        let mut whole = completion(pieces.last().map_or("", |piece| &piece.text_so_far), Some(finish_reason));
        whole["usage"] = super::usage(&answer.usage);
        return Ok(Reply::ok(&whole));
    }
    let with_usage = body["stream_options"]["include_usage"] == true;
    let mut stream = EventStream::new(Framing::Data);
    let mut push = |mut chunk: Value| {
        if with_usage && chunk.get("usage").is_none() {
            chunk["usage"] = Value::Null;
        }
        stream.push("", &chunk);
    };
    pieces.iter().for_each(|piece| push(completion(&piece.text, None)));
    push(completion("", Some(finish_reason)));
    if with_usage {
        let mut last = completion("", None);
        last["choices"] = json!([]);
        last["usage"] = super::usage(&answer.usage);
        push(last);
    }
    stream.push_bytes("data: [DONE]\n\n");
    Ok(Reply::stream(stream))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::post;

    #[test]
    fn json_and_stream_agree() {
        let mut body = json!({"model": "demo-chat", "prompt": ["one", "two"]});
        let whole = post("/v1/completions", &body).json();
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let events = post("/v1/completions", &body).events();
        let text = |event: &Value| event["choices"][0]["text"].as_str().unwrap_or_default().to_owned();
        assert_eq!(events.iter().map(text).collect::<String>(), whole["choices"][0]["text"]);
        assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
        assert_eq!(whole["usage"]["prompt_tokens"], 2);
        assert_eq!(events[0]["usage"], Value::Null);
    }

    #[test]
    fn a_prompt_is_needed() {
        assert_eq!(post("/v1/completions", &json!({"model": "m"})).json()["error"]["param"], "prompt");
    }
}
