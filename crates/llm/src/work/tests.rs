//! Given the answer that creates something and the path of a later call, then both name the same.

use proptest::prelude::*;

use super::*;
use crate::dialect::classify;

fn ids_of(route: &Route<'_>, kind: MeterKind, pieces: &[&[u8]]) -> Vec<String> {
    let Some(mut work) = WorkIds::of(route, "POST", kind) else { return Vec::new() };
    for piece in pieces {
        work.feed(piece);
    }
    work.finish()
}

fn created(path: &str, answer: &str) -> Vec<String> {
    ids_of(&classify("POST", path), MeterKind::Json, &[answer.as_bytes()])
}

fn streamed(path: &str, answer: &str) -> Vec<String> {
    ids_of(&classify("POST", path), MeterKind::Sse, &[answer.as_bytes()])
}

#[test]
fn what_one_call_creates_another_finds() {
    for (path, answer, later) in [
        ("/v1/files", r#"{"id":"file-1","object":"file","bytes":3}"#, "/v1/files/file-1/content"),
        ("/openai/files", r#"{"object":"file","id":"assistant-1"}"#, "/openai//files/assistant-1?api-version=x"),
        ("/compatible-mode/v1/files", r#"{"id":"file-fe-1","object":"file"}"#, "/compatible-mode/v1/files/file-fe-1"),
        ("/v1/uploads", r#"{"id":"upload_1","object":"upload","file":null}"#, "/v1/uploads/upload_1/parts"),
        (
            "/v1/uploads/upload_1/complete",
            r#"{"id":"upload_1","object":"upload","file":{"id":"file-2","object":"file"}}"#,
            "/v1/files/file-2",
        ),
        ("/v1/batches", r#"{"id":"batch_1","object":"batch"}"#, "/v1/batches/batch_1/cancel"),
        (
            "/v1/responses",
            r#"{"id":"resp_1","object":"response","status":"queued"}"#,
            "/v1/responses/resp_1/input_items",
        ),
        ("/responses", r#"{"id":"resp_1","object":"response"}"#, "//responses//resp_1"),
        ("/v1/videos", r#"{"id":"video_1","object":"video","status":"queued"}"#, "/v1/videos/video_1/content"),
        ("/v1/videos/video_1/remix", r#"{"id":"video_2","object":"video"}"#, "/v1/videos/video_2"),
        (
            "/v1/fine_tuning/jobs",
            r#"{"id":"ftjob-1","object":"fine_tuning.job"}"#,
            "/v1/fine_tuning/jobs/ftjob-1/events",
        ),
        ("/v1/vector_stores", r#"{"id":"vs_1","object":"vector_store","name":"a"}"#, "/v1/vector_stores/vs_1/search"),
        ("/v1/containers", r#"{"id":"cntr_1","object":"container"}"#, "/v1/containers/cntr_1/files"),
        ("/v1/conversations", r#"{"id":"conv_1","object":"conversation"}"#, "/v1/conversations/conv_1/items/msg_1"),
        ("/v1/evals", r#"{"object":"eval","id":"eval_1"}"#, "/v1/evals/eval_1/runs"),
        ("/v1/evals/eval_1/runs", r#"{"object":"eval.run","id":"evalrun_1"}"#, "/v1/evals/eval_1/runs/evalrun_1"),
        ("/v1/threads", r#"{"id":"thread_1","object":"thread"}"#, "/v1/threads/thread_1/messages"),
        ("/v1/threads/runs", r#"{"id":"run_1","object":"thread.run"}"#, "/v1/threads/thread_1/runs/run_1"),
        ("/v1/assistants", r#"{"id":"asst_1","object":"assistant"}"#, "/v1/assistants/asst_1"),
        (
            "/v1/messages/batches",
            r#"{"id":"msgbatch_1","type":"message_batch","processing_status":"in_progress"}"#,
            "/v1/messages/batches/msgbatch_1/results",
        ),
        ("/v1/files", r#"{"id":"file_1","type":"file","filename":"a"}"#, "/v1/files/file_1/content"),
        (
            "/api/v1/services/aigc/text2image/image-synthesis",
            r#"{"request_id":"r","output":{"task_id":"13b1848b-5493","task_status":"PENDING"}}"#,
            "/api/v1/tasks/13b1848b-5493",
        ),
        (
            "/api/v1/services/audio/asr/transcription",
            r#"{"output":{"task_status":"PENDING","task_id":"t1"},"request_id":"r"}"#,
            "/api/v1/tasks/t1/cancel",
        ),
        ("/upload/v1beta/files", r#"{"file":{"name":"files/abc-1","uri":"x"}}"#, "/v1beta/files/abc-1"),
        ("/upload/v1/files", r#"{"file":{"name":"files/abc-1"}}"#, "/v1/files/abc-1"),
        ("/upload/v1beta/files", r#"{"file":{"name":"files/abc-1"}}"#, "/v1beta/files/abc-1:download?alt=media"),
        (
            "/v1beta/models/gemini-x:batchGenerateContent",
            r#"{"name":"batches/b1","metadata":{"name":"batches/other"}}"#,
            "/v1beta/batches/b1:cancel",
        ),
        ("/v1beta/models/gemini-x:batchGenerateContent", r#"{"name":"batches/b1"}"#, "/v1/batches/b1"),
        ("/v1beta/models/gemini-x:asyncBatchEmbedContent", r#"{"name":"batches/b1"}"#, "/v1beta/batches/b1"),
        (
            "/v1beta/models/veo:predictLongRunning",
            r#"{"name":"models/veo/operations/o1"}"#,
            "/v1beta/models/veo/operations/o1",
        ),
        ("/v1beta/x:y", r#"{"name":"operations/o1"}"#, "/v1beta/operations/o1"),
        ("/v1beta/cachedContents", r#"{"name":"cachedContents/c1","model":"models/m"}"#, "/v1beta/cachedContents/c1"),
        (
            "/v1beta1/projects/p/locations/l/cachedContents",
            r#"{"name":"projects/1/locations/l/cachedContents/c1"}"#,
            "/v1beta1/projects/p/locations/l/cachedContents/c1",
        ),
        ("/v1beta/fileSearchStores", r#"{"name":"fileSearchStores/s1"}"#, "/v1beta/fileSearchStores/s1/documents/d"),
        ("/v1beta/interactions", r#"{"id":"v1_abc","status":"in_progress"}"#, "/v1beta/interactions/v1_abc/cancel"),
        ("/v1beta/openai/batches", r#"{"id":"batches/b1","object":"batch"}"#, "/v1beta/openai/batches/batches%2Fb1"),
        ("/v1beta/openai/batches", r#"{"id":"batches/b1","object":"batch"}"#, "/v1beta/openai/batches/batches/b1"),
    ] {
        let ids = created(path, answer);
        let found = ids_in_path(later);
        assert!(found.iter().any(|id| ids.contains(id)), "{path} creates {ids:?}, {later} names {found:?}");
    }
}

#[test]
fn paths_name_ids() {
    for (path, expected) in [
        ("/v1/responses/resp_1/cancel", vec!["resp_1"]),
        ("/v1beta/files/x", vec!["files/x"]),
        ("/v1/files/x", vec!["x"]),
        ("/prefix/v1/vector_stores/vs_1/files/file-1", vec!["vs_1", "file-1"]),
        ("/v1/realtime/calls/rtc_1/hangup", vec!["rtc_1"]),
        ("/v1/live/sessions/live_1/attach", vec!["live_1"]),
        ("/v1/files/a%20b%2", vec!["a b%2"]),
        ("/v1/files/%ff", vec!["%ff"]),
        ("/v1/files", vec![]),
        ("/v1/files/", vec![]),
        ("/v1/responses/compact", vec![]),
        ("/v1/responses/input_tokens", vec![]),
        ("/v1/threads/runs", vec![]),
        ("/v1/chat/completions", vec![]),
        ("/v1/messages/batches", vec![]),
        ("/api/v1/tasks", vec![]),
        ("/v1beta/models/gemini-x:generateContent", vec![]),
        ("/v1/chat/completions?x=/files/y", vec![]),
        ("files/a/files/b/files/c/files/d/files/e", vec!["a", "b", "c", "d"]),
        ("", vec![]),
    ] {
        assert_eq!(ids_in_path(path), expected, "{path}");
    }
    assert!(ids_in_path(&format!("/v1/files/{}", "x".repeat(257))).is_empty());
}

#[test]
fn calls_that_create_nothing_are_not_read() {
    for (method, path) in [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/files/file-1"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/images/generations"),
        ("POST", "/v1/audio/speech"),
        ("POST", "/v1/moderations"),
        ("POST", "/v1/messages"),
        ("POST", "/v1beta/models/m:generateContent"),
        ("POST", "/api/v1/tasks/t/cancel"),
    ] {
        assert!(WorkIds::of(&classify(method, path), method, MeterKind::Json).is_none(), "{method} {path}");
    }
    for (path, kind) in [
        ("/v1/responses", MeterKind::Other),
        ("/v1/responses", MeterKind::JsonArray),
        ("/api/v1/services/aigc/text-generation/generation", MeterKind::Sse),
    ] {
        assert!(WorkIds::of(&classify("POST", path), "POST", kind).is_none(), "{path} {kind:?}");
    }
}

#[test]
fn answers_that_name_nothing_give_nothing() {
    let long = format!(r#"{{"id":"{}","object":"file"}}"#, "x".repeat(257));
    for answer in
        [r#"{"id":"x"}"#, r#"{"id":7,"object":"file"}"#, r#"{"id":"","object":"file"}"#, "", "[]", "no", long.as_str()]
    {
        assert!(created("/v1/files", answer).is_empty(), "{answer}");
    }
    assert!(
        created("/v1/vector_stores", r#"{"name":"files/of-someone-else"}"#).is_empty(),
        "a name chosen by a caller"
    );
    assert!(created("/v1beta/x", r#"{"name":"plain"}"#).is_empty());
    let far = format!(r#"{{"text":"{}","id":"resp_1","object":"response"}}"#, "x".repeat(LOOKED_AT));
    assert!(created("/v1/responses", &far).is_empty(), "behind the first 64 KiB");
    assert_eq!(created("/v1/responses", r#"{"id":"resp_1","object":"response","output":["#), ["resp_1"], "cut off");
}

#[test]
fn streams_name_what_they_create_at_once() {
    let event = concat!(
        "event: response.created\n",
        "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\"}}\n\n",
    );
    let route = classify("POST", "/v1/responses");
    let mut work = WorkIds::of(&route, "POST", MeterKind::Sse).unwrap();
    work.feed(event.as_bytes());
    assert_eq!(work.ids(), ["resp_1"]);
    work.feed(event.replace("resp_1", "resp_2").as_bytes());
    assert_eq!(work.finish(), ["resp_1"]);

    let large = format!(
        "data: {{\"type\":\"response.created\",\"response\":{{\"id\":\"resp_1\",\"instructions\":\"{}\"}}}}\n\n",
        "x".repeat(2 * LOOKED_AT)
    );
    assert_eq!(streamed("/v1/responses", &large), ["resp_1"]);
    let run = concat!(
        "event: thread.created\ndata: {\"id\":\"thread_1\",\"object\":\"thread\"}\n\n",
        "event: thread.run.created\ndata: {\"id\":\"run_1\",\"object\":\"thread.run\"}\n\n",
        "data: [DONE]\n\n",
    );
    assert_eq!(streamed("/v1/threads/runs", run), ["thread_1", "run_1"]);
    let interaction =
        "data: {\"event_type\":\"interaction.start\",\"interaction\":{\"id\":\"v1_a\",\"status\":\"x\"}}\n\n";
    assert_eq!(streamed("/v1beta/interactions", interaction), ["v1_a"]);
}

fn answer() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        ",",
        "\n\n",
        "data: ",
        "data: {\"response\":{\"id\":\"resp_1\"}}\n\n",
        "\"id\":\"a\"",
        "\"id\":\"b\",",
        "\"object\":\"x\",",
        "\"file\":{\"id\":\"f\",\"name\":\"files/f\"},",
        "\"name\":\"batches/b\",",
        "[",
        "\"",
        "\"output\":{\"task_id\":\"t\"}",
        "data: {\"id\":\"r\",\"object\":\"thread.run\"}\n\n",
        ": ping\r\n\r\n",
    ]);
    prop::collection::vec(token, 0..12).prop_map(|tokens| format!("{{{}", tokens.concat()).replacen("{data", "data", 1))
}

proptest! {
    #[test]
    fn an_answer_cut_anywhere_is_the_same(text in answer(), size in 1_usize..24, padding in 0_usize..3) {
        let text = format!("{}{text}", ": ".repeat(padding * LOOKED_AT / 4 - usize::from(padding > 1) * 20));
        for path in ["/v1/responses", "/v1beta/files", "/api/v1/services/x/y", "/v1beta/interactions"] {
            for kind in [MeterKind::Json, MeterKind::Sse] {
                let route = classify("POST", path);
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                prop_assert_eq!(ids_of(&route, kind, &[text.as_bytes()]), ids_of(&route, kind, &pieces));
            }
        }
    }

    #[test]
    fn paths_never_panic_and_ids_are_bounded(
        path in "[a-z/%:?. é0-9]{0,60}|(/(files|batches|v1beta|openai|%2F|x:y|tasks|operations)){0,12}",
    ) {
        let ids = ids_in_path(&path);
        prop_assert!(ids.len() <= MOST_IDS && ids.iter().all(|id| (1..=LONGEST_ID).contains(&id.len())));
    }
}
