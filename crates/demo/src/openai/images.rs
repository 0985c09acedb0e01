//! `POST /images/generations` and `/images/edits` (`protocols.md` §2.4).
//!
//! A painted picture costs 64 output tokens and a picture sent for editing 16 input tokens. Models whose name starts
//! with `dall-e` report no usage and answer with a URL unless asked for base64, as the real ones do.

use serde_json::{Value, json};

use crate::call::Call;
use crate::framing::{EventStream, Framing};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{base64, picture, tokens};

const TOKENS_PAINTED: u64 = 64;
const TOKENS_SENT: u64 = 16;
const MOST_PICTURES: u64 = 10;

/// What to paint, from either form of request.
struct Order<'a> {
    event: &'static str,
    model: &'a str,
    prompt: &'a str,
    count: u64,
    partial: u64,
    pictures_sent: u64,
    is_stream: bool,
    as_base64: bool,
}

pub(super) fn generations(call: &Call<'_>, model: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    paint(
        call,
        &Order {
            event: "image_generation",
            model,
            prompt: body["prompt"].as_str().ok_or(Refusal::missing("prompt"))?,
            count: body["n"].as_u64().unwrap_or(1),
            partial: body["partial_images"].as_u64().unwrap_or(0),
            pictures_sent: 0,
            is_stream: body["stream"] == true,
            as_base64: body["response_format"] == "b64_json",
        },
    )
}

pub(super) fn edits(call: &Call<'_>, model: &str) -> Result<Reply, Refusal> {
    let form = call.form()?;
    let number = |name: &str| form.text(name).and_then(|text| text.parse().ok());
    let pictures_sent = (form.files("image").count() + form.files("mask").count()) as u64;
    if pictures_sent == 0 {
        return Err(Refusal::missing("image"));
    }
    paint(
        call,
        &Order {
            event: "image_edit",
            model,
            prompt: form.text("prompt").ok_or(Refusal::missing("prompt"))?,
            count: number("n").unwrap_or(1),
            partial: number("partial_images").unwrap_or(0),
            pictures_sent,
            is_stream: form.text("stream") == Some("true"),
            as_base64: form.text("response_format") == Some("b64_json"),
        },
    )
}

fn paint(call: &Call<'_>, order: &Order<'_>) -> Result<Reply, Refusal> {
    if !(1..=MOST_PICTURES).contains(&order.count) {
        return Err(Refusal::new(400, "Invalid value for 'n': expected an integer from 1 to 10.").param("n"));
    }
    let paint = |number: u64| base64::encode(&picture::paint(order.prompt, number as usize));
    let is_dall_e = order.model.starts_with("dall-e");
    if order.is_stream && !is_dall_e {
        return Ok(Reply::stream(stream(call, order, &paint)));
    }
    let entry = |number| match is_dall_e && !order.as_base64 {
        true => json!({"url": format!("data:image/png;base64,{}", paint(number))}),
        false => json!({"b64_json": paint(number)}),
    };
    let mut reply = json!({"created": call.now, "data": (0..order.count).map(entry).collect::<Vec<_>>()});
    if !is_dall_e {
        reply["usage"] = usage(order);
    }
    Ok(Reply::ok(&reply))
}

fn stream(call: &Call<'_>, order: &Order<'_>, paint: &dyn Fn(u64) -> String) -> EventStream {
    let mut stream = EventStream::new(Framing::Named);
    let event = |kind: &str, picture: String| {
        json!({"type": format!("{}.{kind}", order.event), "b64_json": picture, "created_at": call.now,
            "background": "opaque", "output_format": "png", "quality": "low", "size": "1024x1024"})
    };
    for number in 0..order.partial.min(3) {
        let mut partial = event("partial_image", paint(number + 1));
        partial["partial_image_index"] = json!(number);
        stream.push_typed(&partial);
    }
    let mut completed = event("completed", paint(0));
    completed["usage"] = usage(&Order { count: 1, ..*order });
    stream.push_typed(&completed);
    stream
}

fn usage(order: &Order<'_>) -> Value {
    let (text, pictures) = (tokens::count(order.prompt), order.pictures_sent * TOKENS_SENT);
    let (input, output) = (text + pictures, order.count * TOKENS_PAINTED);
    json!({
        "input_tokens": input,
        "input_tokens_details": {"text_tokens": text, "image_tokens": pictures},
        "output_tokens": output,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": output},
        "total_tokens": input + output,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{post, post_form};

    #[test]
    fn pictures_are_painted_and_counted() {
        let body = json!({"model": "demo-image", "prompt": "a red circle", "n": 2});
        let json = post("/v1/images/generations", &body).json();
        assert!(json["data"][1]["b64_json"].as_str().is_some_and(|picture| picture.starts_with("iVBORw0KGgo")));
        assert_eq!((&json["usage"]["input_tokens"], &json["usage"]["output_tokens"]), (&json!(3), &json!(128)));
    }

    #[test]
    fn a_stream_ends_with_the_usage() {
        let body = json!({"model": "demo-image", "prompt": "cat", "stream": true, "partial_images": 2});
        let answer = post("/v1/images/generations", &body);
        let partial = "image_generation.partial_image";
        assert_eq!(answer.names(), [partial, partial, "image_generation.completed"]);
        assert_eq!(answer.events()[2]["usage"]["total_tokens"], 65);
    }

    #[test]
    fn edits_count_the_pictures_sent() {
        let fields = [("model", "demo-image"), ("prompt", "blue"), ("image[]", "@a.png"), ("image[]", "@b.png")];
        let json = post_form("/v1/images/edits", &fields, b"png").json();
        assert_eq!(json["usage"]["input_tokens_details"], json!({"text_tokens": 1, "image_tokens": 32}));
        let streamed = [fields.as_slice(), &[("stream", "true")]].concat();
        assert_eq!(post_form("/v1/images/edits", &streamed, b"png").names(), ["image_edit.completed"]);
        assert_eq!(post_form("/v1/images/edits", &fields[..2], b"").json()["error"]["param"], "image");
    }

    #[test]
    fn old_models_report_no_usage() {
        let json = post("/v1/images/generations", &json!({"model": "dall-e-3", "prompt": "cat"})).json();
        assert!(json.get("usage").is_none() && json["data"][0]["url"].is_string());
        assert_eq!(post("/v1/images/generations", &json!({"model": "m", "prompt": "cat", "n": 0})).status, 400);
    }
}
