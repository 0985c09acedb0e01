//! Every message that names a model is checked against the key, and its alias resolved, however it is cut; the others
//! stream on.

use aiproxy_llm::websocket::Opcode;
use aiproxy_testkit::frame::fragments;
use aiproxy_testkit::{Frame, Socket, Step, TestGateway, Upstream};

use super::*;

/// The key may use `m*`; the channel calls `nice` and `m-nice` otherwise.
const LIMITED: &str = "
users:
  one: {proxy_key: pk-1, channels: [up], models: ['m*', nice]}
channels:
  up: {kind: custom, base_url: 'http://up.test', api_key: real-key, models: {'m*': 'm*', nice: real-name, m-nice: m-real}}
";

fn limited() -> (TestGateway, Upstream) {
    let listed = "models: [m, m-2, mm, 'm-t*', other]";
    let config = LIMITED.replace("models: {'m*': 'm*', nice: real-name, m-nice: m-real}", listed);
    gateway(&config, vec![Step::Upgrade, Step::Listen])
}

fn aliased() -> (TestGateway, Upstream) {
    let config = LIMITED.replace("'m*': 'm*', ", "m: m, ");
    gateway(&config, vec![Step::Upgrade, Step::Listen])
}

/// A task that was begun and never ends is waited for.
async fn record_of_task(gateway: &TestGateway) -> Value {
    tokio::time::sleep(3 * TWO_SECONDS).await;
    only_record(gateway).await
}

/// A message that names `model`, on each kind of socket.
fn naming(model: &str) -> Vec<(&'static str, String)> {
    vec![
        (REALTIME, format!(r#"{{"type":"session.update","session":{{"model":"{model}","voice":"x"}}}}"#)),
        (REALTIME, format!(r#"{{"response":{{"model" : "{model}"}}, "type":"response.create"}}"#)),
        (
            "/v1/realtime?intent=transcription",
            format!(r#"{{"type":"session.update","session":{{"model":"{model}"}}}}"#),
        ),
        (
            REALTIME,
            format!(
                r#"{{"type":"session.update","session":{{"audio":{{"input":{{"transcription":{{"model":"{model}"}}}}}}}}}}"#
            ),
        ),
        ("/v1/responses", format!(r#"{{"type":"response.create","input":"hi","model":"{model}"}}"#)),
        ("/v1/live/sessions", format!(r#"{{"type":"session.start","session":{{"model":"{model}"}}}}"#)),
        (SPEECH, format!(r#"{{"header":{{"action":"run-task","task_id":"t1"}},"payload":{{"model":"{model}"}}}}"#)),
        (LIVE, format!(r#"{{"setup":{{"model":"models/{model}"}}}}"#)),
        (LIVE, format!(r#"{{"setup":{{"model":"projects/p/locations/l/publishers/google/models/{model}"}}}}"#)),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_model_that_the_key_may_use_passes_byte_for_byte() {
    for (path, text) in naming("m") {
        let (gateway, upstream) = limited();
        let mut socket = open(&gateway, path).await;
        let wire = Frame::text(&text).encode(Some([1, 2, 3, 4]));
        socket.send_raw(&wire).await;
        settle().await;
        assert_eq!(upstream.message_bytes(), wire, "{path}: {text}");
        socket.leave().await;
        assert_eq!(record_of_task(&gateway).await["end"], "complete");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_the_key_may_not_use_reaches_no_upstream_and_the_client_is_told() {
    for (path, text) in naming("other") {
        let (gateway, upstream) = limited();
        let mut socket = open(&gateway, path).await;
        socket.send_text(&text).await;
        if path == LIVE {
            // Its SDKs know no error message: the close frame says it.
            let Frame::Close(Some((code, reason))) = socket.part().await else { panic!("no reason") };
            assert_eq!(code, 1008);
            assert!(reason.starts_with("Model not allowed: other."), "{reason}");
            let record = only_record(&gateway).await;
            assert_eq!((&record["error_code"], &record["end"]), (&json!("model_not_allowed"), &json!("complete")));
        } else {
            let told = socket.frame().await.json();
            if path == SPEECH {
                assert_eq!(told["header"]["event"], "task-failed");
                assert_eq!(told["header"]["error_code"], "model_not_allowed");
                assert_eq!(told["header"]["task_id"], "t1", "the SDK waits for its own task");
            } else {
                assert_eq!((&told["type"], &told["error"]["code"]), (&json!("error"), &json!("model_not_allowed")));
                assert!(told["error"]["message"].as_str().unwrap().contains("other"), "{told}");
            }
            // The socket goes on.
            socket.send_text(text.replace("other", "m")).await;
            socket.leave().await;
            record_of_task(&gateway).await;
        }
        assert!(!upstream.texts().iter().any(|text| text.contains("other")), "{path}: {:?}", upstream.messages());
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_the_channel_does_not_serve_reaches_no_upstream() {
    for (path, text) in naming("mine") {
        // The model that only writes down what was said is no matter of the channel's list.
        if text.contains("transcription") {
            continue;
        }
        let (gateway, upstream) = limited();
        let mut socket = open(&gateway, path).await;
        socket.send_text(&text).await;
        assert!(matches!(socket.frame().await, Frame::Text(_) | Frame::Close(Some((1008, _)))), "{path}");
        drop(socket);
        tokio::time::sleep(3 * TWO_SECONDS).await;
        assert!(upstream.texts().is_empty(), "{path}: {:?}", upstream.texts());
        only_record(&gateway).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_alias_is_resolved_in_every_place() {
    for (path, text) in naming("nice") {
        let (gateway, upstream) = aliased();
        let mut socket = open(&gateway, path).await;
        socket.send_text(&text).await;
        socket.leave().await;
        assert_eq!(upstream.texts()[0], text.replace("nice", "real-name"), "{path}");
        let record = record_of_task(&gateway).await;
        let asked = if path == REALTIME { "m" } else { "nice" };
        assert_eq!(record["model_asked"], asked, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_name_that_the_channel_itself_uses_is_what_clients_repeat() {
    // An SDK sends back the session that `session.created` told it, real model and all. The key allows that name, too.
    let config = LIMITED.replace("'m*': 'm*', ", "").replace("['m*', nice]", "['m*', nice, real-name]");
    let (gateway, upstream) = gateway(&config, vec![Step::Upgrade, Step::Listen]);
    let mut socket = open(&gateway, "/v1/realtime?model=nice").await;
    let text = r#"{"type":"session.update","session":{"model":"real-name"}}"#;
    socket.send_text(text).await;
    socket.leave().await;
    assert_eq!(upstream.texts(), [text]);
}

/// `text` sent to a socket in one of many ways.
async fn send_cut(socket: &mut Socket, text: &str, way: usize) {
    let bytes = text.as_bytes();
    let cuts: Vec<usize> = match way {
        0 => Vec::new(),
        1 => (1..bytes.len()).collect(),
        2 => vec![0, 1, bytes.len() / 2],
        _ => vec![bytes.len() - 1],
    };
    for (index, frame) in fragments(Opcode::Text, bytes, &cuts).iter().enumerate() {
        let wire = frame.encode(Some([9, 8, index as u8, 6]));
        match way {
            3 => socket.send_split(&wire, &[1]).await,
            _ => socket.send_raw(&wire).await,
        }
        if way == 2 {
            socket.ping("between").await;
            assert_eq!(socket.frame().await, Frame::Pong(b"between".to_vec()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_checked_however_it_is_cut() {
    for way in 0..4 {
        for (path, text) in naming("nice") {
            let (gateway, upstream) = aliased();
            let mut socket = open(&gateway, path).await;
            send_cut(&mut socket, &text, way).await;
            settle().await;
            assert_eq!(upstream.messages(), [Frame::Text(text.replace("nice", "real-name"))], "{path}, way {way}");
            socket.leave().await;
            record_of_task(&gateway).await;
        }
        for (path, text) in naming("other").into_iter().filter(|(path, _)| *path != LIVE) {
            let (gateway, upstream) = limited();
            let mut socket = open(&gateway, path).await;
            send_cut(&mut socket, &text, way).await;
            assert!(socket.frame().await.as_text().contains("model_not_allowed"), "{path}, way {way}");
            assert_eq!(upstream.messages(), [], "{path}, way {way}");
            socket.send_text(r#"{"type":"x"}"#).await;
            settle().await;
            assert_eq!(upstream.texts(), [r#"{"type":"x"}"#], "what comes next passes");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn gemini_names_its_model_in_binary_frames_as_well() {
    for (model, arrives) in [("nice", Some("real-name")), ("forbidden", None)] {
        let (gateway, upstream) = aliased();
        let mut socket = open(&gateway, LIVE).await;
        let text = |model: &str| format!(r#"{{"setup":{{"model":"models/{model}"}}}}"#).into_bytes();
        socket.send_binary(text(model)).await;
        settle().await;
        let expected: Vec<Frame> = arrives.into_iter().map(|model| Frame::Binary(text(model))).collect();
        assert_eq!(
            upstream.messages().into_iter().filter(|frame| matches!(frame, Frame::Binary(_))).collect::<Vec<_>>(),
            expected
        );
        if arrives.is_none() {
            assert_eq!(socket.part().await.code(), Some(1008));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_checked_passes_or_is_refused_after_those_before_it_and_before_those_behind() {
    let (gateway, upstream) = limited();
    let mut socket = open(&gateway, REALTIME).await;
    let texts = [
        r#"{"type":"a"}"#,
        r#"{"type":"session.update","session":{"model":"m"}}"#,
        r#"{"type":"b"}"#,
        r#"{"type":"session.update","session":{"model":"other"}}"#,
        r#"{"type":"c"}"#,
    ];
    let wire: Vec<u8> = texts.iter().flat_map(|text| Frame::text(*text).encode(Some([1, 2, 3, 4]))).collect();
    socket.send_raw(&wire).await;
    assert_eq!(error_code(&socket.frame().await), "model_not_allowed");
    settle().await;
    assert_eq!(upstream.texts(), [texts[0], texts[1], texts[2], texts[4]]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_names_what_it_is_twice_never_arrives_whole() {
    for (path, text) in [
        (REALTIME, r#"{"type":"session.update","session":{"model":"m"},"type":"x"}"#),
        (REALTIME, r#"{"type":"x","padding":"ppppppppppppppppppppp","\u0074ype":"response.create"}"#),
        ("/v1/responses", r#"{"type":"x","type":"x"}"#),
        (SPEECH, r#"{"header":{"action":"continue-task","action":"run-task"}}"#),
        (SPEECH, r#"{"header":{"action":"continue-task"},"header":{"action":"run-task"}}"#),
        (LIVE, r#"{"clientContent":{},"setup":{"model":"models/other"}}"#),
    ] {
        for split in [1, 5, 11, 500] {
            let (gateway, upstream) = limited();
            let mut socket = open(&gateway, path).await;
            let wire = Frame::text(text).encode(Some([1, 2, 3, 4]));
            socket.send_split(&wire, &[split]).await;
            let close = socket.frame().await;
            assert_eq!(close.code(), Some(1008), "{path} {text}: {close:?}");
            drop(socket);
            tokio::time::sleep(3 * TWO_SECONDS).await;
            assert!(upstream.texts().is_empty(), "{path} {text} {split}: {:?}", upstream.messages());
            assert!(
                upstream.messages().iter().all(|frame| matches!(frame, Frame::Close(_))),
                "{path} {text} {split}: {:?}",
                upstream.messages()
            );
            let record = only_record(&gateway).await;
            assert_eq!((&record["end"], &record["error_code"]), (&json!("client_closed"), &json!("invalid_request")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_models_in_one_message_or_none_that_is_a_name_are_refused() {
    for text in [
        r#"{"type":"session.update","session":{"model":"m","model":"other"}}"#,
        r#"{"type":"session.update","session":{"model":"m"},"session":{"model":"other"}}"#,
        r#"{"type":"session.update","session":{"model":["other"]}}"#,
        r#"{"type":"response.create","response":{"model":{"name":"other"}}}"#,
    ] {
        let (gateway, upstream) = limited();
        let mut socket = open(&gateway, REALTIME).await;
        socket.send_text(text).await;
        assert_eq!(error_code(&socket.frame().await), "invalid_request", "{text}");
        socket.leave().await;
        assert!(upstream.texts().is_empty(), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_too_large_to_be_held_ends_the_socket() {
    for pieces in [1, 40] {
        let (gateway, upstream) = limited();
        let mut socket = open(&gateway, REALTIME).await;
        let padding = "x".repeat((1 << 20) + 1);
        let text = format!(r#"{{"type":"session.update","session":{{"instructions":"{padding}","model":"m"}}}}"#);
        let cuts: Vec<usize> = (1..pieces).map(|piece| piece * text.len() / pieces).collect();
        for frame in fragments(Opcode::Text, text.as_bytes(), &cuts) {
            socket.send(&frame).await;
        }
        assert_eq!(socket.frame().await.code(), Some(1009));
        drop(socket);
        tokio::time::sleep(3 * TWO_SECONDS).await;
        assert_eq!(upstream.messages(), [Frame::close(1001, "")], "nothing of it");
        only_record(&gateway).await;
    }
    // Where any model may be named, it need not be held.
    let padding = "x".repeat(3 << 20);
    let text = format!(r#"{{"type":"session.update","session":{{"instructions":"{padding}","model":"any"}}}}"#);
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    let wire = Frame::text(&text).encode(Some([1, 2, 3, 4]));
    socket.send_raw(&wire).await;
    settle().await;
    assert_eq!(upstream.message_bytes(), wire);
    socket.leave().await;

    let (gateway, upstream) = limited();
    let mut socket = open(&gateway, REALTIME).await;
    let padding = "x".repeat((1 << 20) - 100);
    let text = format!(r#"{{"type":"session.update","session":{{"instructions":"{padding}","model":"m"}}}}"#);
    socket.send_text(&text).await;
    socket.leave().await;
    assert_eq!(upstream.texts(), [text], "just below");
}

#[tokio::test(start_paused = true)]
async fn what_the_key_may_use_is_what_it_may_use_now() {
    let (gateway, upstream) = limited();
    let mut socket = open(&gateway, REALTIME).await;
    let text = r#"{"type":"session.update","session":{"model":"m-2"}}"#;
    socket.send_text(text).await;
    settle().await;
    let listed = "models: [m, m-2, mm, 'm-t*', other]";
    let config = LIMITED.replace("models: {'m*': 'm*', nice: real-name, m-nice: m-real}", listed);
    gateway.reload(&config.replace("models: ['m*', nice]", "models: [m]"));
    socket.send_text(text).await;
    assert_eq!(error_code(&socket.frame().await), "model_not_allowed");
    socket.leave().await;
    assert_eq!(upstream.texts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_free_message_streams_on_before_it_is_whole() {
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    socket.send_fragment(Opcode::Text, false, br#"{"type":"input_audio_buffer.append","audio":"AA"#).await;
    settle().await;
    assert_eq!(upstream.messages().len(), 1, "before the message has ended");
    socket.send_fragment(Opcode::Continuation, true, br#"AA"}"#).await;
    socket.leave().await;
    assert_eq!(upstream.messages().len(), 3);
}
