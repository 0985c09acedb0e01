use std::collections::VecDeque;

use serde_json::{Value, json};

use super::RealtimeSession;
use crate::{base64, tokens};

const ANSWER: &str = "You said: hello. This answer comes from the AIProxy demo upstream.";

fn session(settings: Value) -> RealtimeSession {
    RealtimeSession::new("demo-realtime", Some(&settings))
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

fn deltas(events: &[Value], kind: &str) -> Vec<String> {
    let deltas = events.iter().filter(|event| event["type"] == format!("{kind}.delta"));
    deltas.map(|event| event["delta"].as_str().unwrap().to_owned()).collect()
}

fn say(session: &mut RealtimeSession, text: &str) -> Vec<Value> {
    let item = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]});
    session.client_event(&json!({"type": "conversation.item.create", "item": item}))
}

fn append(session: &mut RealtimeSession, milliseconds: usize) -> Vec<Value> {
    let sound: Vec<u8> = (0..milliseconds * 48).map(|at| at as u8).collect();
    session.client_event(&json!({"type": "input_audio_buffer.append", "audio": base64::encode(&sound)}))
}

fn respond(session: &mut RealtimeSession) -> Vec<Value> {
    session.client_event(&json!({"type": "response.create"}))
}

#[test]
fn a_session_begins_with_what_was_asked_for() {
    let mut session = session(json!({"type": "realtime", "model": "other", "instructions": "Be kind"}));
    let created = &session.opening()[0];
    assert_eq!((&created["type"], &created["session"]["type"]), (&json!("session.created"), &json!("realtime")));
    assert_eq!(created["session"]["instructions"], "Be kind");
    assert_eq!(created["session"]["audio"]["input"]["format"], json!({"type": "audio/pcm", "rate": 24000}));
    let update =
        json!({"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}});
    let updated = &session.client_event(&update)[0];
    assert_eq!(updated["type"], "session.updated");
    assert_eq!(updated["session"]["id"], created["session"]["id"]);
    let output = json!({"format": {"type": "audio/pcm", "rate": 24000}, "voice": "cedar", "speed": 1.0});
    assert_eq!(updated["session"]["audio"]["output"], output);
}

#[test]
fn a_text_is_answered_as_text_with_the_usage_of_the_documents() {
    let mut session = session(json!({"output_modalities": ["text"], "instructions": "Be kind"}));
    let added = say(&mut session, "hello");
    assert_eq!(kinds(&added), ["conversation.item.added", "conversation.item.done"]);
    let events = respond(&mut session);
    let expected = [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ];
    assert_eq!(kinds(&events), expected);
    assert_eq!(deltas(&events, "response.output_text").concat(), ANSWER);
    assert_eq!(events[2]["previous_item_id"], added[0]["item"]["id"]);
    let response = &events.last().unwrap()["response"];
    assert_eq!(
        (&response["status"], &response["output"][0]["content"][0]["text"]),
        (&json!("completed"), &json!(ANSWER))
    );
    let usage = json!({"total_tokens": 20, "input_tokens": 3, "output_tokens": 17,
        "input_token_details": {"text_tokens": 3, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}},
        "output_token_details": {"text_tokens": 17, "audio_tokens": 0}});
    assert_eq!(response["usage"], usage);
    let mut ids: Vec<_> = added.iter().chain(&events).map(|event| event["event_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), added.len() + events.len());
}

#[test]
fn the_second_response_pays_for_the_context_again_and_finds_it_cached() {
    let mut session = session(json!({"output_modalities": ["text"]}));
    say(&mut session, "hello");
    respond(&mut session);
    say(&mut session, "again");
    let usage = respond(&mut session).pop().unwrap()["response"]["usage"].take();
    let input = tokens::for_characters("hello".len() + ANSWER.len() + "again".len());
    assert_eq!((&usage["input_tokens"], &usage["input_token_details"]["cached_tokens"]), (&json!(input), &json!(2)));
    let aside = json!({"type": "response.create", "response": {"conversation": "none", "input": []}});
    let events = session.client_event(&aside);
    assert_eq!(events.last().unwrap()["response"]["usage"]["input_tokens"], 0);
    assert!(!kinds(&events).contains(&"conversation.item.added"));
}

#[test]
fn committed_sound_is_echoed_and_billed_by_its_length() {
    let mut session = session(json!({}));
    assert_eq!(append(&mut session, 500), [] as [Value; 0]);
    let committed = session.client_event(&json!({"type": "input_audio_buffer.commit"}));
    let expected = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"];
    assert_eq!(kinds(&committed), expected);
    assert_eq!(committed[0]["item_id"], committed[1]["item"]["id"]);
    let events = respond(&mut session);
    let sound: Vec<u8> =
        deltas(&events, "response.output_audio").iter().flat_map(|delta| base64::decode(delta).unwrap()).collect();
    assert_eq!(sound, (0..500 * 48).map(|at| at as u8).collect::<Vec<u8>>());
    let transcript = deltas(&events, "response.output_audio_transcript").concat();
    let usage = &events.last().unwrap()["response"]["usage"];
    let details = json!({"text_tokens": tokens::count(&transcript), "audio_tokens": 10});
    assert_eq!(usage["output_token_details"], details);
    assert_eq!(
        (&usage["input_token_details"]["audio_tokens"], &usage["input_token_details"]["text_tokens"]),
        (&json!(5), &json!(0))
    );
    // Nothing is left to echo: the demo speaks with its own voice.
    say(&mut session, "hello");
    let next = respond(&mut session);
    let milliseconds = crate::sound::milliseconds(ANSWER);
    assert_eq!(
        next.last().unwrap()["response"]["usage"]["output_token_details"]["audio_tokens"],
        milliseconds.div_ceil(50)
    );
}

#[test]
fn speech_and_its_transcription_have_events_when_the_session_wants_them() {
    let input = json!({"transcription": {"model": "demo-transcribe", "prompt": "names"}, "turn_detection": {"type": "server_vad"}});
    let mut session = session(json!({"type": "transcription", "audio": {"input": input}}));
    let started = append(&mut session, 250);
    assert_eq!(
        (kinds(&started), &started[0]["audio_start_ms"]),
        (vec!["input_audio_buffer.speech_started"], &json!(0))
    );
    assert_eq!(append(&mut session, 250), [] as [Value; 0]);
    let events = session.client_event(&json!({"type": "input_audio_buffer.commit"}));
    assert_eq!(
        (&events[0]["type"], &events[0]["audio_end_ms"]),
        (&json!("input_audio_buffer.speech_stopped"), &json!(500))
    );
    assert_eq!(events[0]["item_id"], started[0]["item_id"]);
    let completed = events.last().unwrap();
    assert_eq!(completed["type"], "conversation.item.input_audio_transcription.completed");
    assert_eq!(
        deltas(&events, "conversation.item.input_audio_transcription").concat(),
        completed["transcript"].as_str().unwrap()
    );
    let usage = json!({"type": "tokens", "input_tokens": 7, "input_token_details": {"text_tokens": 2, "audio_tokens": 5},
        "output_tokens": 12, "total_tokens": 19});
    assert_eq!(completed["usage"], usage);
    assert_eq!(kinds(&respond(&mut session)), ["error"]);
    let whisper =
        json!({"session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}, "type": "session.update"});
    session.client_event(&whisper);
    append(&mut session, 1500);
    let usage = session.client_event(&json!({"type": "input_audio_buffer.commit"})).pop().unwrap()["usage"].take();
    assert_eq!(usage, json!({"type": "duration", "seconds": 2}));
}

#[test]
fn a_cancelled_response_costs_what_was_sent() {
    let mut session = session(json!({"output_modalities": ["text"]}));
    say(&mut session, "hello");
    let mut unsent = VecDeque::new();
    session.client_event_over(&json!({"type": "response.create"}), &mut unsent);
    let sent: Vec<Value> = unsent.drain(..7).collect();
    let said = deltas(&sent, "response.output_text").concat();
    assert_eq!(said, "You said: hello. ");
    session.client_event_over(&json!({"type": "response.create"}), &mut unsent);
    assert_eq!(unsent.pop_back().unwrap()["error"]["code"], "conversation_already_has_active_response");
    session.client_event_over(&json!({"type": "response.cancel"}), &mut unsent);
    let rest: Vec<Value> = unsent.drain(..).collect();
    let expected = [
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ];
    assert_eq!(kinds(&rest), expected);
    let response = &rest.last().unwrap()["response"];
    assert_eq!(
        (&response["status"], &response["status_details"]["reason"]),
        (&json!("cancelled"), &json!("client_cancelled"))
    );
    assert_eq!(
        (&response["usage"]["output_tokens"], &response["usage"]["input_tokens"]),
        (&json!(tokens::count(&said)), &json!(2))
    );
    assert_eq!(kinds(&session.client_event(&json!({"type": "response.cancel"}))), ["error"]);
    // The next response reads what was really said.
    let usage = respond(&mut session).pop().unwrap()["response"]["usage"].take();
    assert_eq!(usage["input_tokens"], tokens::for_characters("hello".len() + said.len()));
}

#[test]
fn a_response_that_nobody_saw_leaves_nothing_when_it_is_cancelled() {
    let mut session = session(json!({}));
    let mut unsent = VecDeque::new();
    session.client_event_over(&json!({"type": "response.create"}), &mut unsent);
    session.client_event_over(&json!({"type": "response.cancel"}), &mut unsent);
    let events: Vec<Value> = unsent.into();
    assert_eq!(kinds(&events), ["response.created", "response.done"]);
    assert_eq!(events[1]["response"]["usage"]["output_tokens"], 0);
    assert_eq!(events[1]["response"]["output"], json!([]));
}

#[test]
fn tools_are_called_and_their_result_is_used() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let tools = json!([{"type": "function", "name": "weather", "parameters": schema}]);
    let mut session = session(json!({"output_modalities": ["text"], "tools": tools}));
    say(&mut session, "use the tool");
    let events = respond(&mut session);
    assert_eq!(deltas(&events, "response.function_call_arguments").concat(), "{\"city\":\"Paris\"}");
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["usage"]["output_tokens"], tokens::count("weather{\"city\":\"Paris\"}"));
    let output =
        json!({"type": "function_call_output", "call_id": response["output"][0]["call_id"], "output": "sunny"});
    session.client_event(&json!({"type": "conversation.item.create", "item": output}));
    assert!(deltas(&respond(&mut session), "response.output_text").concat().contains("sunny"));
}

#[test]
fn limits_failures_and_long_answers_show_in_the_end() {
    let mut limited = session(json!({"output_modalities": ["text"]}));
    say(&mut limited, "hello");
    let events = limited.client_event(&json!({"type": "response.create", "response": {"max_output_tokens": 2}}));
    let response = &events.last().unwrap()["response"];
    assert_eq!((&response["status"], &response["usage"]["output_tokens"]), (&json!("incomplete"), &json!(2)));
    let text = json!({"output_modalities": ["text"]});
    let failed = respond(&mut RealtimeSession::new("demo-error-in-stream", Some(&text)));
    let response = &failed.last().unwrap()["response"];
    assert_eq!((&response["status"], deltas(&failed, "response.output_text").len()), (&json!("failed"), 2));
    assert_eq!(response["usage"]["output_tokens"], tokens::count(&deltas(&failed, "response.output_text").concat()));
    let long = respond(&mut RealtimeSession::new("demo-long", Some(&text)));
    assert_eq!(deltas(&long, "response.output_text").len(), 200);
}

#[test]
fn mistakes_are_told_and_the_session_goes_on() {
    let mut session = session(json!({}));
    let user = json!({"type": "message", "role": "user", "content": []});
    for (event, code, param) in [
        (json!({"type": "fly"}), "invalid_value", json!("type")),
        (json!({}), "missing_required_parameter", json!("type")),
        (json!([1]), "missing_required_parameter", json!("type")),
        (json!({"type": "session.update"}), "missing_required_parameter", json!("session")),
        (json!({"type": "session.update", "session": {"model": "other"}}), "invalid_value", json!("session.model")),
        (json!({"type": "input_audio_buffer.append", "audio": "%"}), "invalid_value", json!("audio")),
        (json!({"type": "input_audio_buffer.commit"}), "input_audio_buffer_commit_empty", Value::Null),
        (json!({"type": "conversation.item.create"}), "missing_required_parameter", json!("item.type")),
        (json!({"type": "conversation.item.delete", "item_id": "x"}), "item_not_found", json!("item_id")),
        (
            json!({"type": "conversation.item.create", "item": user, "previous_item_id": "x"}),
            "item_create_invalid_previous_item_id",
            json!("previous_item_id"),
        ),
        (json!({"type": "response.cancel"}), "response_cancel_not_active", Value::Null),
    ] {
        let mut event = event;
        if event.is_object() {
            event["event_id"] = json!("mine");
        }
        let answers = session.client_event(&event);
        let error = &answers[0]["error"];
        assert_eq!((answers.len(), &error["code"], &error["param"]), (1, &json!(code), &param), "{event}");
        assert!(!event.is_object() || error["event_id"] == "mine");
    }
    let named = json!({"type": "session.update", "session": {"model": "demo-realtime"}});
    assert_eq!(kinds(&session.client_event(&named)), ["session.updated"]);
}

#[test]
fn items_are_placed_retrieved_and_deleted() {
    let mut session = session(json!({}));
    let create = |id: &str, after: &str| {
        let item =
            json!({"id": id, "type": "message", "role": "user", "content": [{"type": "input_text", "text": id}]});
        json!({"type": "conversation.item.create", "previous_item_id": after, "item": item})
    };
    session.client_event(&create("one", "root"));
    assert_eq!(session.client_event(&create("three", "one"))[0]["previous_item_id"], "one");
    assert_eq!(session.client_event(&create("two", "one"))[0]["previous_item_id"], "one");
    let duplicate = session.client_event(&create("two", "one"));
    assert_eq!(duplicate[0]["error"]["code"], "item_create_duplicate_item_id");
    let about = |kind: &str| json!({"type": format!("conversation.item.{kind}"), "item_id": "two"});
    assert_eq!(session.client_event(&about("retrieve"))[0]["item"]["content"][0]["text"], "two");
    assert_eq!(kinds(&session.client_event(&about("delete"))), ["conversation.item.deleted"]);
    assert_eq!(session.client_event(&about("retrieve"))[0]["error"]["code"], "item_not_found");
}

#[test]
fn whatever_a_client_sends_every_response_that_began_ends() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut session = session(json!({"output_modalities": ["text"]}));
        let (mut sent, mut unsent) = (Vec::new(), VecDeque::new());
        for _ in 0..random.usize(1..30) {
            let size = random.usize(0..400);
            let text = "x".repeat(size);
            let aside = json!({"conversation": "none", "output_modalities": ["audio"]});
            let event = match random.u8(0..9) {
                0 => json!({"type": "input_audio_buffer.append", "audio": base64::encode(&vec![0; size * 48])}),
                1 => json!({"type": "input_audio_buffer.commit"}),
                2 => json!({"type": "response.create"}),
                3 => json!({"type": "response.cancel"}),
                4 => json!({"type": "response.create", "response": aside}),
                5 => json!({"type": "session.update", "session": {"audio": size}}),
                6 => {
                    json!({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [{"text": text}]}})
                }
                7 => {
                    json!({"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}})
                }
                _ => json!({"type": size}),
            };
            session.client_event_over(&event, &mut unsent);
            let now = random.usize(0..40).min(unsent.len());
            sent.extend(unsent.drain(..now));
        }
        sent.extend(unsent);
        let ids = |kind: &str| {
            let events = sent.iter().filter(|event| event["type"] == kind);
            let mut ids: Vec<_> = events.map(|event| event["response"]["id"].as_str().unwrap()).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids("response.created"), ids("response.done"), "seed {seed}");
        assert!(sent.iter().all(|event| event["event_id"].is_string()));
    }
}
