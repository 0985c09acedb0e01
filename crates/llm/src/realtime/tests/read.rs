use crate::realtime::{ModelRole, Protocol, Unreadable, Work, read_client_message, rename};

/// The models of a message, as `(prefix, name, role)`.
fn models(protocol: Protocol, message: &str) -> Vec<(String, String, ModelRole)> {
    let read = read_client_message(protocol, message.as_bytes()).unwrap();
    read.models.into_iter().map(|model| (model.prefix, model.name, model.role)).collect()
}

fn named(name: &str, role: ModelRole) -> (String, String, ModelRole) {
    (String::new(), name.to_owned(), role)
}

#[test]
fn openai_names_models_in_many_places() {
    let message = r#"{"type":"session.update","session":{"type":"realtime","audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}},"model":"gpt-realtime"}}"#;
    let expected = [named("gpt-4o-transcribe", ModelRole::Transcription), named("gpt-realtime", ModelRole::Main)];
    assert_eq!(models(Protocol::Realtime, message), expected, "in their order");
    let beta =
        r#"{"type":"transcription_session.update","session":{"input_audio_transcription":{"model":"whisper-1"}}}"#;
    assert_eq!(models(Protocol::Realtime, beta), [named("whisper-1", ModelRole::Transcription)]);
    let create = r#"{"type":"response.create","response":{"model":"gpt-a"},"model":"gpt-b","stream_id":"s"}"#;
    assert_eq!(models(Protocol::Responses, create), [named("gpt-a", ModelRole::Main), named("gpt-b", ModelRole::Main)]);
    let start = r#"{"type":"session.start","session":{"model":"gpt-live"}}"#;
    assert_eq!(models(Protocol::Live, start), [named("gpt-live", ModelRole::Main)]);
    assert_eq!(models(Protocol::Realtime, r#"{"type":"response.create"}"#), []);
    assert_eq!(models(Protocol::Realtime, r#"{"type":"session.update","session":{"model":null}}"#), []);
    assert_eq!(models(Protocol::Unread, "not read"), []);
}

#[test]
fn a_task_is_known_by_its_id() {
    let message = r#"{"header":{"action":"run-task","task_id":"2bf8","streaming":"duplex"},"payload":{"task_group":"audio","task":"tts","function":"SpeechSynthesizer","model":"cosyvoice-v2","parameters":{"model":"no"},"input":{}}}"#;
    let read = read_client_message(Protocol::DashscopeInference, message.as_bytes()).unwrap();
    assert_eq!(read.work, Some(Work::Begin { id: Some("2bf8".to_owned()) }));
    assert_eq!(models(Protocol::DashscopeInference, message), [named("cosyvoice-v2", ModelRole::Main)]);
    let long = format!(r#"{{"header":{{"action":"run-task","task_id":"{}"}}}}"#, "a".repeat(257));
    assert_eq!(read_client_message(Protocol::DashscopeInference, long.as_bytes()), Err(Unreadable::TooLong));
}

#[test]
fn work_is_told_from_setting_up() {
    for (protocol, message, work) in [
        (Protocol::Realtime, r#"{"type":"session.update"}"#, Some(Work::Other)),
        (Protocol::Realtime, r#"{"type":"response.create"}"#, Some(Work::Begin { id: None })),
        (Protocol::Live, r#"{"type":"session.start"}"#, Some(Work::Other)),
        (Protocol::GeminiLive, r#"{"setup":{}}"#, Some(Work::Other)),
        (Protocol::Realtime, r#"{"type":"something.else"}"#, None),
    ] {
        assert_eq!(read_client_message(protocol, message.as_bytes()).unwrap().work, work, "{message}");
    }
}

#[test]
fn geminis_names_are_paths() {
    for (full, prefix, name) in [
        ("models/x", "models/", "x"),
        ("projects/P/locations/L/publishers/google/models/x", "projects/P/locations/L/publishers/google/models/", "x"),
        ("publishers/google/models/x", "publishers/google/models/", "x"),
        ("x", "", "x"),
        ("tunedModels/x", "", "tunedModels/x"),
        ("mymodels/x", "", "mymodels/x"),
        ("models/", "models/", ""),
    ] {
        let message = format!(r#"{{"setup":{{"model":"{full}","generationConfig":{{}}}}}}"#);
        let expected = [(prefix.to_owned(), name.to_owned(), ModelRole::Main)];
        assert_eq!(models(Protocol::GeminiLive, &message), expected, "{full}");
    }
    let other = r#"{"type":"session.update","session":{"model":"models/x"}}"#;
    assert_eq!(models(Protocol::Realtime, other), [named("models/x", ModelRole::Main)]);
}

#[test]
fn a_repeated_key_makes_a_message_unreadable() {
    for (protocol, message) in [
        (Protocol::Realtime, r#"{"type":"session.update","session":{"model":"a","model":"b"}}"#),
        (Protocol::Realtime, r#"{"type":"session.update","session":{"model":"a"},"session":{}}"#),
        (Protocol::Realtime, r#"{"type":"session.update","session":{"audio":{},"audio":{}}}"#),
        (
            Protocol::Realtime,
            r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"a","mod\u0065l":"b"}}}}}"#,
        ),
        (Protocol::Responses, r#"{"type":"response.create","model":"a","input":"x","model":"a"}"#),
        (Protocol::Responses, r#"{"type":"a","type":"response.create"}"#),
        (Protocol::DashscopeInference, r#"{"header":{"action":"run-task"},"payload":{},"payload":{"model":"m"}}"#),
        (Protocol::DashscopeInference, r#"{"header":{"action":"run-task","task_id":"a","task_id":"b"}}"#),
        (Protocol::GeminiLive, r#"{"setup":{"model":"models/a","model":"models/b"}}"#),
    ] {
        assert_eq!(read_client_message(protocol, message.as_bytes()), Err(Unreadable::Contradiction), "{message}");
    }
    let elsewhere = r#"{"type":"response.create","input":[{"model":1,"model":2}],"metadata":1,"metadata":2}"#;
    assert!(read_client_message(Protocol::Responses, elsewhere.as_bytes()).is_ok(), "where none matters");
}

#[test]
fn what_is_no_message_is_refused_with_a_sentence() {
    for (message, expected) in [
        (&b"{\"type\":\"session.update\""[..], Unreadable::NotJson),
        (b"{\"type\":\"session.update\"} {}", Unreadable::NotJson),
        (b"{\"a\":NaN}", Unreadable::NotJson),
        (b"{\"a\":\"\xff\"}", Unreadable::NotJson),
        (b"[]", Unreadable::NotJson),
        (b"", Unreadable::NotJson),
        (b"{\"model\":5}", Unreadable::NotAName),
        (b"{\"model\":[\"gpt\"]}", Unreadable::NotAName),
        (b"{\"model\":\"\\ud800\"}", Unreadable::NotAName),
    ] {
        let error = read_client_message(Protocol::Responses, message).unwrap_err();
        assert_eq!(error, expected, "{}", String::from_utf8_lossy(message));
        assert!(error.as_str().ends_with('.'));
    }
    let deep = format!(r#"{{"type":"response.create","input":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert!(read_client_message(Protocol::Responses, deep.as_bytes()).is_ok(), "depth is no danger");
}

#[test]
fn a_new_name_changes_nothing_else() {
    let message = "{ \"session\" : {\"model\" : \"al\\u0069as\",\t\"x\":[1.0e3,\"\\u00e9\"],\"audio\":{\"input\":{\"transcription\":{\"model\":\"t\"}}}},\"type\":\"session.update\" }\n";
    let read = read_client_message(Protocol::Realtime, message.as_bytes()).unwrap();
    assert_eq!(read.models[0].name, "alias");
    let renamed = rename(message.as_bytes(), &read.models, &[Some("re\"al\n"), None]);
    let expected = message.replace("\"al\\u0069as\"", "\"re\\\"al\\n\"");
    assert_eq!(String::from_utf8(renamed).unwrap(), expected);
    assert_eq!(rename(message.as_bytes(), &read.models, &[]), message.as_bytes());
    let both = String::from_utf8(rename(message.as_bytes(), &read.models, &[Some("longer name"), Some("u")])).unwrap();
    assert_eq!(both, message.replace("\"al\\u0069as\"", "\"longer name\"").replace("\"t\"", "\"u\""));
}

#[test]
fn a_new_name_keeps_geminis_path() {
    let message = r#"{"setup":{"model":"projects/P/locations/L/publishers/google/models/alias"}}"#;
    let read = read_client_message(Protocol::GeminiLive, message.as_bytes()).unwrap();
    let renamed = String::from_utf8(rename(message.as_bytes(), &read.models, &[Some("gemini-live")])).unwrap();
    assert_eq!(renamed, message.replace("alias", "gemini-live"));
}
