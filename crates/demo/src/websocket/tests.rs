//! Dialogues as data: these messages in, those steps out. `sockets.rs` says the same over real ones.

mod sockets;

use bytes::Bytes;
use serde_json::{Value, json};

use super::gemini::Gemini;
use super::inference::Inference;
use super::live::Live;
use super::qwen::Qwen;
use super::realtime::Realtime;
use super::responses::Responses;
use super::translation::Translation;
use super::{Dialogue, Outbox, Step};
use crate::{base64, sound, tokens};

const ANSWER: &str = "You said: hello. This answer comes from the AIProxy demo upstream.";

/// All that waits to be sent, as it is sent.
fn drain(dialogue: &dyn Dialogue, outbox: &mut Outbox) -> Vec<Step> {
    let steps = std::iter::from_fn(|| outbox.pop());
    let worded = |step| match step {
        Step::Event(event) => dialogue.worded(event).map(Step::Event),
        step => Some(step),
    };
    steps.filter_map(worded).collect()
}

fn say(dialogue: &mut dyn Dialogue, message: &Value) -> Vec<Step> {
    let mut outbox = Outbox::default();
    dialogue.text(&message.to_string(), &mut outbox);
    drain(dialogue, &mut outbox)
}

fn open(dialogue: &mut dyn Dialogue) -> Vec<Value> {
    let mut outbox = Outbox::default();
    dialogue.opening(&mut outbox);
    events(&drain(dialogue, &mut outbox))
}

fn events(steps: &[Step]) -> Vec<Value> {
    let event = |step: &Step| match step {
        Step::Event(event) | Step::BinaryEvent(event) => Some(event.clone()),
        _ => None,
    };
    steps.iter().filter_map(event).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

fn seconds_of_sound(bytes_per_second: usize, seconds: f64) -> String {
    base64::encode(&vec![7; (bytes_per_second as f64 * seconds) as usize])
}

#[test]
fn a_realtime_session_of_a_model_that_breaks_breaks_within_a_response() {
    let mut realtime = Realtime::new("demo-break");
    assert_eq!(kinds(&open(&mut realtime)), ["session.created"]);
    let steps = say(&mut realtime, &json!({"type": "response.create"}));
    assert_eq!(steps.last(), Some(&Step::Break));
    assert!(!kinds(&events(&steps)).contains(&"response.done") && steps.len() > 3);
    let mut outbox = Outbox::default();
    realtime.text("{", &mut outbox);
    realtime.binary(&Bytes::new(), &mut outbox);
    assert!(
        drain(&realtime, &mut outbox).iter().all(|step| matches!(step, Step::Event(event) if event["type"] == "error"))
    );
}

#[test]
fn a_realtime_response_is_cancelled_while_it_waits() {
    let mut realtime = Realtime::new("demo-realtime");
    let mut outbox = Outbox::default();
    realtime.text(&json!({"type": "response.create"}).to_string(), &mut outbox);
    let sent = [outbox.pop(), outbox.pop(), outbox.pop()];
    realtime.text(&json!({"type": "response.cancel"}).to_string(), &mut outbox);
    assert_eq!(sent.iter().flatten().count(), 3);
    let rest = events(&drain(&realtime, &mut outbox));
    assert_eq!(rest.last().unwrap()["response"]["status"], "cancelled");
}

#[test]
fn responses_on_a_socket_have_the_events_of_the_http_stream() {
    let create = json!({"type": "response.create", "model": "demo-chat", "input": "hello", "stream_id": "s1"});
    let said = events(&say(&mut Responses::default(), &create));
    let streamed =
        crate::testing::post("/v1/responses", &json!({"model": "demo-chat", "input": "hello", "stream": true}));
    let streamed = streamed.events();
    assert_eq!(kinds(&said), kinds(&streamed));
    let response = |events: &[Value]| events.last().unwrap()["response"]["usage"].clone();
    assert_eq!(response(&said), response(&streamed));
    assert!(said.iter().all(|event| event["stream_id"] == "s1"));
}

#[test]
fn a_responses_socket_continues_its_own_responses_and_no_others() {
    let mut socket = Responses::default();
    let mut create = json!({"type": "response.create", "model": "demo-chat", "input": "hello"});
    let first = events(&say(&mut socket, &create)).pop().unwrap()["response"].take();
    create["previous_response_id"] = first["id"].clone();
    create["input"] = json!("again");
    let second = events(&say(&mut socket, &create)).pop().unwrap()["response"].take();
    let context = tokens::for_characters("hello".len() + ANSWER.len() + "again".len());
    assert_eq!((&first["usage"]["input_tokens"], &second["usage"]["input_tokens"]), (&json!(2), &json!(context)));
    let error = &events(&say(&mut Responses::default(), &create))[0];
    assert_eq!((&error["status"], &error["error"]["code"]), (&json!(400), &json!("previous_response_not_found")));
}

#[test]
fn responses_of_two_streams_alternate_and_failures_are_told() {
    let mut socket = Responses::default();
    let mut outbox = Outbox::default();
    for stream in ["a", "b"] {
        let create = json!({"type": "response.create", "model": "demo-chat", "input": "hello", "stream_id": stream});
        socket.text(&create.to_string(), &mut outbox);
    }
    let both = events(&drain(&socket, &mut outbox));
    assert!(both.chunks(2).all(|pair| pair[0]["stream_id"] == "a" && pair[1]["stream_id"] == "b"));
    let mut create = |model: &str| say(&mut socket, &json!({"type": "response.create", "model": model, "input": "x"}));
    let limited = events(&create("demo-error-429"));
    assert_eq!((&limited[0]["type"], &limited[0]["status"]), (&json!("error"), &json!(429)));
    assert_eq!(events(&create("demo-error-in-stream")).last().unwrap()["code"], "server_error");
    assert_eq!(create("demo-hang"), []);
    assert_eq!(create("demo-break").last(), Some(&Step::Break));
    assert!(matches!(create("demo-slow")[0], Step::Pause(_)));
    assert!(matches!(create("demo-close-4001")[0], Step::Close(4001, _)));
    assert_eq!(events(&say(&mut socket, &json!({"type": "response.create"})))[0]["error"]["param"], "model");
    assert_eq!(events(&say(&mut socket, &json!({"type": "fly"})))[0]["error"]["param"], "type");
}

#[test]
fn a_live_session_counts_seconds_from_its_start_to_its_close() {
    let mut live = Live::default();
    let append = json!({"type": "session.input_audio.append", "audio": seconds_of_sound(48_000, 0.75)});
    assert_eq!(events(&say(&mut live, &append))[0]["error"]["code"], "session_not_started");
    let limited = json!({"type": "session.start", "session": {"model": "demo-error-429"}});
    assert_eq!(events(&say(&mut live, &limited))[0]["error"]["code"], "rate_limit_exceeded");
    let start = json!({"type": "session.start", "session": {"model": "demo-live"}});
    let started = events(&say(&mut live, &start));
    assert_eq!((kinds(&started), &started[0]["session"]["model"]), (vec!["session.started"], &json!("demo-live")));
    assert_eq!(kinds(&events(&say(&mut live, &append))), ["session.output_audio.delta"]);
    let told = events(&say(&mut live, &append));
    assert_eq!(told[1]["usage"], json!({"seconds": 1.5}));
    let delegated = events(&say(&mut live, &json!({"type": "response.create"})));
    let last = &delegated.last().unwrap()["event"];
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["usage"]["input_tokens"], tokens::count("delegated work"));
    let closed = say(&mut live, &json!({"type": "session.close"}));
    assert_eq!(events(&closed)[0]["usage"], json!({"seconds": 1.5}));
    assert_eq!(closed.last(), Some(&Step::Close(1000, String::new())));
}

#[test]
fn a_translation_gives_back_every_frame_of_200_ms() {
    let mut translation = Translation::new("demo-realtime");
    assert_eq!(open(&mut translation)[0]["session"]["type"], "translation");
    let update = json!({"type": "session.update", "session": {"audio": {"output": {"language": "es"}}}});
    assert_eq!(events(&say(&mut translation, &update))[0]["session"]["audio"]["output"]["language"], "es");
    let append = json!({"type": "session.input_audio_buffer.append", "audio": seconds_of_sound(48_000, 0.5)});
    let said = events(&say(&mut translation, &append));
    assert_eq!((said.len(), &said[3]["elapsed_ms"]), (4, &json!(200)));
    let closed = say(&mut translation, &json!({"type": "session.close"}));
    assert_eq!(
        kinds(&events(&closed)),
        ["session.output_transcript.delta", "session.output_audio.delta", "session.closed"]
    );
}

fn run(id: &str, task: &str, model: &str, more: Value) -> Value {
    let mut header = json!({"action": "run-task", "task_id": id, "streaming": "duplex"});
    let mut payload =
        json!({"task_group": "audio", "task": task, "function": "f", "model": model, "parameters": {}, "input": {}});
    for (name, value) in more.as_object().unwrap() {
        let place = if name == "streaming" { &mut header } else { &mut payload };
        place[name] = value.clone();
    }
    json!({"header": header, "payload": payload})
}

fn act(id: &str, action: &str, input: Value) -> Value {
    json!({"header": {"action": action, "task_id": id, "streaming": "duplex"}, "payload": {"input": input}})
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["header"]["event"].as_str().unwrap()).collect()
}

#[test]
fn a_task_that_speaks_sends_sound_and_counts_characters() {
    let mut socket = Inference::default();
    let started = say(&mut socket, &run("t1", "tts", "demo-cosyvoice", json!({})));
    assert_eq!(
        events(&started),
        [json!({"header": {"task_id": "t1", "event": "task-started", "attributes": {}}, "payload": {}})]
    );
    let spoken = say(&mut socket, &act("t1", "continue-task", json!({"text": "hello"})));
    assert_eq!(events(&spoken)[0]["payload"]["usage"], json!({"characters": 5}));
    let sound: Vec<u8> = spoken[1..]
        .iter()
        .flat_map(|step| match step {
            Step::Binary(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sound, sound::mp3(250));
    let spoken = events(&say(&mut socket, &act("t1", "continue-task", json!({"text": "你好"}))));
    assert_eq!(spoken[0]["payload"]["usage"], json!({"characters": 9}));
    let finished = events(&say(&mut socket, &act("t1", "finish-task", json!({}))));
    assert_eq!(
        (names(&finished), &finished[0]["payload"]["usage"]),
        (vec!["task-finished"], &json!({"characters": 9}))
    );
    let late = events(&say(&mut socket, &act("t1", "continue-task", json!({"text": "x"}))));
    assert_eq!((names(&late), &late[0]["header"]["error_code"]), (vec!["task-failed"], &json!("InvalidParameter")));
}

#[test]
fn a_task_that_says_everything_at_once_finishes_itself() {
    let sambert = run("t1", "tts", "demo-sambert", json!({"streaming": "out", "input": {"text": "hello"}}));
    let said = events(&say(&mut Inference::default(), &sambert));
    assert_eq!(names(&said), ["task-started", "result-generated", "task-finished"]);
    assert_eq!(said[2]["payload"]["usage"], json!({"characters": 5}));
}

#[test]
fn a_task_that_listens_tells_its_seconds_with_each_sentence_and_none_at_the_end() {
    let mut socket = Inference::default();
    say(
        &mut socket,
        &run("t1", "asr", "demo-paraformer", json!({"parameters": {"format": "pcm", "sample_rate": 16000}})),
    );
    let mut outbox = Outbox::default();
    socket.binary(&Bytes::from(vec![0; 32_000 * 6 + 100]), &mut outbox);
    let heard = events(&drain(&socket, &mut outbox));
    let usages: Vec<_> = heard.iter().map(|event| event["payload"]["usage"].clone()).collect();
    let none = Value::Null;
    assert_eq!(usages, [&none, &none, &none, &none, &json!({"duration": 5}), &none].map(Clone::clone));
    let finished = events(&say(&mut socket, &act("t1", "finish-task", json!({}))));
    assert_eq!(names(&finished), ["result-generated", "task-finished"]);
    assert_eq!((&finished[0]["payload"]["usage"], &finished[1]["payload"]["usage"]), (&json!({"duration": 7}), &none));
    socket.binary(&Bytes::from_static(b"late"), &mut outbox);
    assert!(outbox.is_empty());
}

#[test]
fn tasks_run_side_by_side_and_fail_alone() {
    let mut socket = Inference::default();
    for id in ["a", "b"] {
        say(&mut socket, &run(id, "tts", "demo-cosyvoice", json!({})));
    }
    let mut outbox = Outbox::default();
    for id in ["a", "b"] {
        socket.text(&act(id, "continue-task", json!({"text": "hello"})).to_string(), &mut outbox);
    }
    let steps = drain(&socket, &mut outbox);
    let ids: Vec<_> = events(&steps[..2]).iter().map(|event| event["header"]["task_id"].clone()).collect();
    assert_eq!(ids, ["a", "b"]);
    for (message, code) in [
        (run("c", "tts", "demo-error-429", json!({})), "Throttling.RateQuota"),
        (run("c", "tts", "demo-missing", json!({})), "ModelNotFound"),
        (run("c", "fly", "m", json!({})), "InvalidParameter"),
        (run("", "tts", "m", json!({})), "InvalidParameter"),
        (act("c", "fly", json!({})), "InvalidParameter"),
        (act("c", "continue-task", json!({"text": "x"})), "InvalidParameter"),
        (json!([]), "InvalidParameter"),
    ] {
        let failed = events(&say(&mut socket, &message));
        assert_eq!(
            (names(&failed), &failed[0]["header"]["error_code"]),
            (vec!["task-failed"], &json!(code)),
            "{message}"
        );
    }
    for id in ["a", "b"] {
        let finished = events(&say(&mut socket, &act(id, "finish-task", json!({}))));
        assert_eq!(finished[0]["payload"]["usage"], json!({"characters": 5}), "{id}");
    }
    say(&mut socket, &run("d", "tts", "demo-error-in-stream", json!({})));
    let failed = events(&say(&mut socket, &act("d", "continue-task", json!({"text": "hello"}))));
    assert_eq!(names(&failed), ["result-generated", "task-failed"]);
    say(&mut socket, &run("e", "tts", "demo-break", json!({})));
    let broken = say(&mut socket, &act("e", "continue-task", json!({"text": "hello"})));
    assert_eq!(broken.last(), Some(&Step::Break));
}

#[test]
fn qwen_speaks_the_beta_words_with_plural_details() {
    let mut qwen = Qwen::new("demo-omni-realtime");
    assert_eq!(open(&mut qwen)[0]["session"]["modalities"], json!(["text", "audio"]));
    let update = json!({"type": "session.update", "session": {"modalities": ["text"], "instructions": "Be kind"}});
    assert_eq!(events(&say(&mut qwen, &update))[0]["session"]["modalities"], json!(["text"]));
    let append = json!({"type": "input_audio_buffer.append", "audio": seconds_of_sound(32_000, 1.0)});
    assert_eq!(say(&mut qwen, &append), []);
    let committed = events(&say(&mut qwen, &json!({"type": "input_audio_buffer.commit"})));
    assert_eq!(kinds(&committed), ["input_audio_buffer.committed", "conversation.item.created"]);
    let said = events(&say(&mut qwen, &json!({"type": "response.create"})));
    assert!(kinds(&said).contains(&"response.text.delta"));
    let usage = &said.last().unwrap()["response"]["usage"];
    assert_eq!(usage["input_tokens_details"]["audio_tokens"], 10);
    assert_eq!(usage["output_tokens_details"]["text_tokens"], usage["output_tokens"]);
    assert!(usage.get("input_token_details").is_none());
    let spoken = json!({"type": "response.create", "response": {"modalities": ["text", "audio"]}});
    assert!(kinds(&events(&say(&mut qwen, &spoken))).contains(&"response.audio.delta"));
    let finished = say(&mut qwen, &json!({"type": "session.finish"}));
    assert_eq!(
        (kinds(&events(&finished)), finished.last()),
        (vec!["session.finished"], Some(&Step::Close(1000, String::new())))
    );
}

fn set_up(more: Value) -> Gemini {
    let mut setup = json!({"model": "models/demo-gemini-live"});
    setup.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut gemini = Gemini::default();
    assert_eq!(say(&mut gemini, &json!({"setup": setup})), [Step::BinaryEvent(json!({"setupComplete": {}}))]);
    gemini
}

fn turn(text: &str) -> Value {
    json!({"turns": [{"role": "user", "parts": [{"text": text}]}], "turnComplete": true})
}

fn said(events: &[Value]) -> String {
    let text = |event: &Value| event["serverContent"]["modelTurn"]["parts"][0]["text"].as_str().map(str::to_owned);
    events.iter().filter_map(text).collect()
}

#[test]
fn a_gemini_turn_is_answered_as_text_in_both_spellings() {
    let text = json!({"generationConfig": {"responseModalities": ["TEXT"]}, "systemInstruction": {"parts": [{"text": "Be kind"}]}});
    for (name, content) in [
        ("clientContent", turn("hello")),
        ("client_content", json!({"turns": turn("hello")["turns"], "turn_complete": true})),
        ("realtimeInput", json!({"text": "hello"})),
        ("realtime_input", json!({"text": "hello"})),
    ] {
        let events = events(&say(&mut set_up(text.clone()), &json!({name: content})));
        assert_eq!(said(&events), ANSWER, "{name}");
        let usage = json!({"promptTokenCount": 3, "responseTokenCount": 17, "totalTokenCount": 20,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}],
            "responseTokensDetails": [{"modality": "TEXT", "tokenCount": 17}]});
        let last = json!({"serverContent": {"turnComplete": true}, "usageMetadata": usage});
        assert_eq!(events.last(), Some(&last), "{name}");
    }
}

#[test]
fn a_gemini_turn_is_spoken_and_pays_for_what_it_heard() {
    let mut gemini = set_up(json!({"outputAudioTranscription": {}}));
    let sound = seconds_of_sound(32_000, 1.0);
    let chunk = json!({"realtime_input": {"media_chunks": [{"mime_type": "audio/pcm", "data": sound}]}});
    assert_eq!(say(&mut gemini, &chunk), []);
    let chunk = json!({"realtimeInput": {"audio": {"mimeType": "audio/pcm;rate=16000", "data": sound}}});
    assert_eq!(say(&mut gemini, &chunk), []);
    let said = events(&say(&mut gemini, &json!({"realtimeInput": {"audioStreamEnd": true}})));
    let part = |event: &Value| {
        let data = &event["serverContent"]["modelTurn"]["parts"][0]["inlineData"]["data"];
        data.as_str().and_then(base64::decode).unwrap_or_default()
    };
    let bytes: usize = said.iter().map(|event| part(event).len()).sum();
    let usage = &said.last().unwrap()["usageMetadata"];
    assert_eq!(usage["promptTokensDetails"][1], json!({"modality": "AUDIO", "tokenCount": 50}));
    assert_eq!(usage["responseTokenCount"], json!((bytes as u64 / 48).div_ceil(40)));
    assert!(said.iter().any(|event| event["serverContent"]["outputTranscription"]["text"].is_string()));
}

#[test]
fn a_gemini_turn_is_interrupted_by_the_next_and_costs_what_was_said() {
    let mut gemini = set_up(json!({"generationConfig": {"responseModalities": ["TEXT"]}}));
    let mut outbox = Outbox::default();
    let message = json!({"clientContent": turn("hello")}).to_string();
    gemini.text(&message, &mut outbox);
    let sent: Vec<Step> = std::iter::from_fn(|| outbox.pop()).take(2).collect();
    gemini.text(&message, &mut outbox);
    let rest = events(&drain(&gemini, &mut outbox));
    assert_eq!(rest[0], json!({"serverContent": {"interrupted": true}}));
    assert_eq!(rest[1]["usageMetadata"]["responseTokenCount"], tokens::count(&said(&events(&sent))));
    assert_eq!(said(&rest), ANSWER);
    let context = "hello".len() * 2 + said(&events(&sent)).len();
    assert_eq!(rest.last().unwrap()["usageMetadata"]["promptTokenCount"], tokens::for_characters(context));
}

#[test]
fn gemini_calls_tools_and_closes_on_mistakes() {
    let tools = json!([{"functionDeclarations": [{"name": "weather"}]}]);
    let mut gemini = set_up(json!({"generationConfig": {"responseModalities": ["TEXT"]}, "tools": tools}));
    let call = events(&say(&mut gemini, &json!({"clientContent": turn("use the tool")})));
    let called = &call[0]["toolCall"]["functionCalls"][0];
    assert_eq!((&called["name"], &call[0]["usageMetadata"]["responseTokenCount"]), (&json!("weather"), &json!(3)));
    let response = json!({"id": called["id"], "name": "weather", "response": {"sky": "clear"}});
    let answer = events(&say(&mut gemini, &json!({"toolResponse": {"functionResponses": [response]}})));
    assert!(said(&answer).contains("clear"));
    for (message, code) in [
        (json!({"clientContent": turn("hello")}), 1007),
        (json!([]), 1007),
        (json!({"setup": {}}), 1007),
        (json!({"setup": {"model": "models/demo-missing"}}), 1008),
        (json!({"setup": {"model": "projects/p/locations/l/publishers/google/models/demo-error-429"}}), 1011),
        (json!({"setup": {"model": "models/demo-close-4002"}}), 4002),
    ] {
        let steps = say(&mut Gemini::default(), &message);
        let Some(Step::Close(closed, reason)) = steps.last() else { panic!("{message}: {steps:?}") };
        assert!(*closed == code && !reason.is_empty() && reason.len() <= 123, "{message}: {closed} {reason}");
    }
    assert!(matches!(say(&mut set_up(json!({})), &json!({"setup": {}}))[0], Step::Close(1007, _)));
    let failing =
        say(&mut set_up(json!({"model": "models/demo-error-in-stream"})), &json!({"clientContent": turn("x")}));
    assert!(matches!((failing.len(), failing.last()), (3, Some(Step::Close(1011, _)))));
    let broken = say(&mut set_up(json!({"model": "models/demo-break"})), &json!({"clientContent": turn("x")}));
    assert_eq!(broken.last(), Some(&Step::Break));
}

#[test]
fn no_dialogue_panics_at_what_it_hears() {
    let words =
        ["type", "setup", "header", "payload", "session", "audio", "input", "action", "task_id", "model", "turns"];
    let values =
        [json!(null), json!(1), json!("x"), json!([]), json!({}), json!("response.create"), json!("session.update")];
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut dialogues: [Box<dyn Dialogue>; 7] = [
            Box::new(Realtime::new("m")),
            Box::new(Responses::default()),
            Box::new(Live::default()),
            Box::new(Inference::default()),
            Box::new(Qwen::new("m")),
            Box::new(Gemini::default()),
            Box::new(Translation::new("m")),
        ];
        for dialogue in &mut dialogues {
            let mut message = values[random.usize(..values.len())].clone();
            for _ in 0..random.usize(1..4) {
                let word = words[random.usize(..words.len())];
                let value = values[random.usize(..values.len())].clone();
                message = json!({word: message, words[random.usize(..words.len())]: value});
            }
            let mut outbox = Outbox::default();
            dialogue.opening(&mut outbox);
            dialogue.text(&message.to_string(), &mut outbox);
            dialogue.binary(&Bytes::from(message.to_string()), &mut outbox);
            let said = drain(dialogue.as_ref(), &mut outbox);
            assert!(said.iter().all(|step| *step != Step::Break), "seed {seed}: {message}");
        }
    }
}
