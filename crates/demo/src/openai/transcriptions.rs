//! `POST /audio/transcriptions` and `/audio/translations` (`protocols.md` §2.5).
//!
//! `whisper-1` is billed by seconds (rounded up); every other model by tokens: ten for a second of sound, plus the prompt.

use http::StatusCode;
use serde_json::{Value, json};

use crate::call::Call;
use crate::form::{Field, Form};
use crate::framing::{EventStream, Framing};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{sound, tokens, words};

const TOKENS_PER_SECOND: f64 = 10.0;

pub(super) fn transcribe(call: &Call<'_>, model: &str) -> Result<Reply, Refusal> {
    let form = call.form()?;
    let (text, seconds) = heard(form)?;
    let usage = usage(form, model, &text, seconds);
    if form.text("stream") == Some("true") && model != "whisper-1" {
        let mut stream = EventStream::new(Framing::Data);
        for piece in words::pieces(&text) {
            stream.push_typed(&json!({"type": "transcript.text.delta", "delta": piece}));
        }
        stream.push_typed(&json!({"type": "transcript.text.done", "text": text, "usage": usage}));
        stream.push_bytes("data: [DONE]\n\n");
        return Ok(Reply::stream(stream));
    }
    Ok(formatted(form, "transcribe", &text, seconds, Some(usage)))
}

pub(super) fn translate(call: &Call<'_>, _model: &str) -> Result<Reply, Refusal> {
    let form = call.form()?;
    let (text, seconds) = heard(form)?;
    Ok(formatted(form, "translate", &text, seconds, None))
}

/// What the demo hears, and for how long.
fn heard(form: &Form) -> Result<(String, f64), Refusal> {
    let file: &Field = form.files("file").next().ok_or(Refusal::missing("file"))?;
    let name = file.file_name.as_deref().unwrap_or("the file");
    Ok((format!("This is what the AIProxy demo upstream heard in {name}."), sound::seconds(&file.value)))
}

fn usage(form: &Form, model: &str, text: &str, seconds: f64) -> Value {
    if model == "whisper-1" {
        return json!({"type": "duration", "seconds": seconds.ceil() as u64});
    }
    let prompt = form.text("prompt").map_or(0, tokens::count);
    let (audio, output) = ((seconds * TOKENS_PER_SECOND).ceil() as u64, tokens::count(text));
    let details = json!({"text_tokens": prompt, "audio_tokens": audio});
    json!({"type": "tokens", "input_tokens": prompt + audio, "input_token_details": details, "output_tokens": output,
        "total_tokens": prompt + audio + output})
}

fn formatted(form: &Form, task: &str, text: &str, seconds: f64, usage: Option<Value>) -> Reply {
    let plain = |text: String| Reply::whole(StatusCode::OK, "text/plain; charset=utf-8", text);
    let (whole, rest) = (seconds as u64, (seconds.fract() * 1000.0) as u64);
    let clock = |separator| format!("{:02}:{:02}:{:02}{separator}{rest:03}", whole / 3600, whole / 60 % 60, whole % 60);
    let mut json = match form.text("response_format") {
        Some("text") => return plain(format!("{text}\n")),
        Some("srt") => return plain(format!("1\n00:00:00,000 --> {}\n{text}\n\n", clock(','))),
        Some("vtt") => return plain(format!("WEBVTT\n\n00:00:00.000 --> {}\n{text}\n\n", clock('.'))),
        Some("verbose_json") => {
            let segment = json!({"id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": text, "tokens": [],
                "temperature": 0.0, "avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.0});
            json!({"task": task, "language": "english", "duration": seconds, "text": text, "segments": [segment]})
        }
        _ => json!({"text": text}),
    };
    if let Some(usage) = usage {
        json["usage"] = usage;
    }
    Reply::ok(&json)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::sound;
    use crate::testing::{Answered, post_form};

    fn transcribe(model: &str, more: &[(&str, &str)]) -> Answered {
        let fields = [&[("model", model), ("file", "@a.wav")], more].concat();
        post_form("/v1/audio/transcriptions", &fields, &sound::wav(1500))
    }

    #[test]
    fn usage_is_tokens_or_seconds() {
        let json = transcribe("demo-transcribe", &[("prompt", "names")]).json();
        assert_eq!(json["text"], "This is what the AIProxy demo upstream heard in a.wav.");
        let details = json!({"text_tokens": 2, "audio_tokens": 15});
        let expected = json!({"type": "tokens", "input_tokens": 17, "input_token_details": details, "output_tokens": 14,
            "total_tokens": 31});
        assert_eq!(json["usage"], expected);
        let json = transcribe("whisper-1", &[("response_format", "verbose_json")]).json();
        assert_eq!(json["usage"], json!({"type": "duration", "seconds": 2}));
        assert_eq!((&json["duration"], &json["segments"][0]["end"]), (&json!(1.5), &json!(1.5)));
    }

    #[test]
    fn plain_formats_carry_no_usage() {
        assert!(transcribe("whisper-1", &[("response_format", "text")]).text.ends_with("a.wav.\n"));
        let vtt = transcribe("whisper-1", &[("response_format", "vtt")]);
        assert!(vtt.text.starts_with("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n"));
        assert!(vtt.header("content-type").starts_with("text/plain"));
    }

    #[test]
    fn a_stream_ends_with_the_text_and_usage() {
        let events = transcribe("demo-transcribe", &[("stream", "true")]).events();
        assert_eq!(events[0]["delta"], "This ");
        let done = events.last().unwrap();
        assert_eq!((&done["type"], &done["usage"]["input_tokens"]), (&json!("transcript.text.done"), &json!(15)));
    }

    #[test]
    fn translations_are_text_and_a_file_is_needed() {
        let fields = [("model", "whisper-1"), ("file", "@b.mp3")];
        let json = post_form("/v1/audio/translations", &fields, b"").json();
        assert_eq!(json, json!({"text": "This is what the AIProxy demo upstream heard in b.mp3."}));
        let answer = post_form("/v1/audio/transcriptions", &fields[..1], b"");
        assert_eq!(answer.json()["error"]["param"], "file");
    }
}
