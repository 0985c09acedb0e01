use super::{hear, only, say, tokens};
use crate::realtime::{Protocol, SessionMeter};
use crate::websocket::Kind;

fn meter() -> SessionMeter {
    SessionMeter::new(Protocol::DashscopeInference, None)
}

fn run(meter: &mut SessionMeter, id: &str, model: &str) {
    let message = format!(
        r#"{{"header":{{"action":"run-task","task_id":"{id}","streaming":"duplex"}},"payload":{{"task_group":"audio","task":"tts","function":"SpeechSynthesizer","model":"{model}","parameters":{{}},"input":{{}}}}}}"#
    );
    say(meter, Protocol::DashscopeInference, &message).unwrap();
}

fn event(id: &str, event: &str, payload: &str) -> String {
    format!(r#"{{"header":{{"task_id":"{id}","event":"{event}","attributes":{{}}}},"payload":{payload}}}"#)
}

fn characters(id: &str, count: u64) -> String {
    event(
        id,
        "result-generated",
        &format!(r#"{{"output":{{"sentence":{{"words":[]}}}},"usage":{{"characters":{count}}}}}"#),
    )
}

#[test]
fn the_latest_count_of_a_task_stands() {
    let mut meter = meter();
    run(&mut meter, "2bf8", "cosyvoice-v2");
    assert_eq!((meter.has_open_work(), meter.open_tasks()), (true, &["2bf8".to_owned()][..]));
    assert!(!hear(&mut meter, &event("2bf8", "task-started", "{}")));
    assert!(hear(&mut meter, &characters("2bf8", 5)));
    meter.feed(Kind::Binary, br#"{"header":{"task_id":"2bf8","event":"task-failed"}}"#);
    assert!(!meter.end(), "sound");
    assert!(!hear(&mut meter, &characters("2bf8", 5)), "nothing new");
    // Recorded.
    assert!(hear(
        &mut meter,
        r#"{"header":{"task_id":"2bf8","event":"task-finished","attributes":{"request_uuid":"0a9d"}},"payload":{"output":{"sentence":{"words":[]}},"usage":{"characters":13}}}"#
    ));
    assert_eq!((only(&meter).characters, meter.turns(), meter.has_open_work()), (Some(13), 1, false));
    assert_eq!(meter.used()[0].model.as_deref(), Some("cosyvoice-v2"));
    assert!(!hear(&mut meter, &event("2bf8", "task-finished", r#"{"usage":{"characters":13}}"#)), "the same again");
}

#[test]
fn null_in_the_last_event_keeps_what_was_reported() {
    let mut meter = meter();
    run(&mut meter, "t", "paraformer-realtime-v2");
    hear(&mut meter, &event("t", "result-generated", r#"{"output":{},"usage":{"duration":3}}"#));
    hear(&mut meter, &event("t", "result-generated", r#"{"output":{},"usage":null}"#));
    hear(&mut meter, &event("t", "task-finished", r#"{"output":{},"usage":null}"#));
    assert_eq!((only(&meter).seconds_ms, meter.flaw(), meter.has_open_work()), (Some(3000), None, false));
}

#[test]
fn tasks_run_at_once_and_each_counts_from_zero() {
    let mut meter = meter();
    run(&mut meter, "a", "cosyvoice-v2");
    run(&mut meter, "b", "cosyvoice-v3");
    hear(&mut meter, &characters("a", 10));
    hear(&mut meter, &characters("b", 3));
    hear(&mut meter, &characters("a", 20));
    hear(&mut meter, &event("a", "task-finished", "{}"));
    run(&mut meter, "c", "cosyvoice-v2");
    assert_eq!(meter.open_tasks(), ["b", "c"]);
    hear(&mut meter, &characters("c", 1));
    hear(&mut meter, &characters("b", 4));
    let sums: Vec<_> = meter.used().iter().map(|used| (used.model.as_deref(), used.usage.characters)).collect();
    assert_eq!(sums, [(Some("cosyvoice-v2"), Some(21)), (Some("cosyvoice-v3"), Some(4))]);
    assert_eq!(meter.turns(), 3);
}

#[test]
fn the_same_id_used_again_is_a_new_task() {
    let mut meter = meter();
    for _ in 0..3 {
        run(&mut meter, "t", "cosyvoice-v2");
        hear(&mut meter, &characters("t", 7));
        hear(&mut meter, &event("t", "task-finished", r#"{"usage":{"characters":8}}"#));
    }
    assert_eq!((only(&meter).characters, meter.turns()), (Some(24), 3));
}

#[test]
fn an_id_that_runs_is_not_begun_twice() {
    let mut meter = meter();
    run(&mut meter, "t", "cosyvoice-v2");
    hear(&mut meter, &characters("t", 7));
    run(&mut meter, "t", "cheaper");
    hear(&mut meter, &characters("t", 9));
    assert_eq!((only(&meter).characters, meter.open_tasks().len()), (Some(9), 1));
    assert_eq!(meter.used()[0].model.as_deref(), Some("cosyvoice-v2"));
}

#[test]
fn a_failed_task_has_ended_and_tells_why() {
    let mut meter = meter();
    run(&mut meter, "t", "cosyvoice-v2");
    hear(&mut meter, &characters("t", 7));
    let failed = r#"{"header":{"task_id":"t","event":"task-failed","error_code":"InvalidParameter","error_message":"Bad voice.","attributes":{}},"payload":{}}"#;
    assert!(!hear(&mut meter, failed));
    assert_eq!((meter.has_open_work(), only(&meter).characters), (false, Some(7)));
    let error = meter.error().unwrap();
    assert_eq!((error.code.as_deref(), error.message.as_deref()), (Some("InvalidParameter"), Some("Bad voice.")));
}

#[test]
fn a_result_of_an_unknown_task_counts_under_a_new_one() {
    let mut meter = SessionMeter::new(Protocol::DashscopeInference, Some("sambert"));
    hear(&mut meter, &characters("x", 7));
    hear(&mut meter, &characters("x", 8));
    hear(&mut meter, r#"{"header":{"event":"result-generated"},"payload":{"usage":{"characters":2}}}"#);
    assert_eq!((only(&meter).characters, meter.open_tasks()), (Some(10), &["x".to_owned(), String::new()][..]));
    assert_eq!(meter.used()[0].model.as_deref(), Some("sambert"));
}

#[test]
fn of_too_many_tasks_the_oldest_are_counted_as_ended() {
    let mut meter = meter();
    for number in 0..200 {
        run(&mut meter, &format!("t{number}"), "cosyvoice-v2");
        hear(&mut meter, &characters(&format!("t{number}"), 1));
    }
    assert_eq!((meter.open_tasks().len(), meter.open_tasks()[0].as_str()), (64, "t136"));
    assert_eq!((only(&meter).characters, meter.turns()), (Some(200), 200), "none is lost");
    assert_eq!(meter.cancel().len(), 64);
}

#[test]
fn running_tasks_can_be_cancelled() {
    let mut meter = meter();
    run(&mut meter, r#"t\"1"#, "cosyvoice-v2");
    let expected = serde_json::json!({
        "header": {"action": "finish-task", "task_id": "t\"1", "streaming": "duplex"},
        "payload": {"input": {"directive": "cancel"}},
    });
    assert_eq!(meter.cancel(), [expected.to_string()]);
}

#[test]
fn what_is_no_event_changes_nothing() {
    let mut meter = meter();
    for message in ["", "pong", "[]", "{}", r#"{"payload":{"usage":{"characters":1}}}"#, r#"{"header":[]}"#] {
        assert!(!hear(&mut meter, message), "{message}");
    }
    assert_eq!((tokens(&meter), meter.flaw(), meter.error()), (vec![], None, None));
}
