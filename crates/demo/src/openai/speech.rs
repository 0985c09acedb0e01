//! `POST /audio/speech` (`protocols.md` §2.5): sound in pieces, or events that end with the usage.
//!
//! Spoken output costs one token for every 50 ms.

use serde_json::json;

use crate::call::Call;
use crate::framing::{EventStream, Framing};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{base64, sound, tokens};

const PIECE_BYTES: usize = 4096;
const MILLISECONDS_PER_TOKEN: u64 = 50;

pub(super) fn answer(call: &Call<'_>, _model: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let input = body["input"].as_str().ok_or(Refusal::missing("input"))?;
    let length = sound::milliseconds(input);
    let (content_type, bytes) = match body["response_format"].as_str().unwrap_or("mp3") {
        "mp3" => ("audio/mpeg", sound::mp3(length)),
        "pcm" => ("audio/pcm", sound::pcm(length)),
        // Opus, AAC and FLAC would need an encoder: those callers get a WAV that says so.
        _ => ("audio/wav", sound::wav(length)),
    };
    if body["stream_format"] != "sse" {
        let mut stream = EventStream::new(Framing::Raw(content_type));
        bytes.chunks(PIECE_BYTES).for_each(|piece| stream.push_bytes(piece.to_vec()));
        return Ok(Reply::stream(stream));
    }
    let mut stream = EventStream::new(Framing::Data);
    for piece in bytes.chunks(PIECE_BYTES) {
        stream.push_typed(&json!({"type": "speech.audio.delta", "audio": base64::encode(piece)}));
    }
    let (input, output) = (tokens::count(input), length.div_ceil(MILLISECONDS_PER_TOKEN));
    let usage = json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output});
    stream.push_typed(&json!({"type": "speech.audio.done", "usage": usage}));
    Ok(Reply::stream(stream))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::post;

    #[test]
    fn sound_comes_in_the_format_asked_for() {
        for (format, content_type, start) in
            [(json!(null), "audio/mpeg", b"\xff\xfb".as_slice()), (json!("wav"), "audio/wav", b"RIFF")]
        {
            let body =
                json!({"model": "demo-speech", "voice": "alloy", "input": "hello there", "response_format": format});
            let answer = post("/v1/audio/speech", &body);
            assert_eq!(answer.header("content-type"), content_type);
            assert!(answer.bytes.starts_with(start) && answer.chunks > 1);
        }
    }

    #[test]
    fn events_end_with_the_usage() {
        let body = json!({"model": "demo-speech", "input": "hello there", "stream_format": "sse"});
        let events = post("/v1/audio/speech", &body).events();
        assert_eq!(events[0]["type"], "speech.audio.delta");
        let usage = json!({"input_tokens": 3, "output_tokens": 11, "total_tokens": 14});
        assert_eq!(events.last(), Some(&json!({"type": "speech.audio.done", "usage": usage})));
        assert_eq!(post("/v1/audio/speech", &json!({"model": "m"})).json()["error"]["param"], "input");
    }
}
