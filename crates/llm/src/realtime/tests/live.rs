use super::{hear, only, say, tokens};
use crate::realtime::{Protocol, SessionMeter};

fn started() -> SessionMeter {
    let mut meter = SessionMeter::new(Protocol::Live, None);
    say(&mut meter, Protocol::Live, r#"{"type":"session.start","session":{"model":"gpt-live"}}"#).unwrap();
    hear(&mut meter, r#"{"type":"session.started","session":{"id":"sess_1","model":"gpt-live-2026"}}"#);
    meter
}

#[test]
fn the_last_seconds_count_and_are_never_summed() {
    let mut meter = started();
    assert!(hear(&mut meter, r#"{"type":"session.usage.updated","usage":{"seconds":10}}"#));
    assert!(!hear(&mut meter, r#"{"type":"session.usage.updated","usage":{"seconds":10}}"#), "nothing new");
    assert!(hear(&mut meter, r#"{"type":"session.usage.updated","usage":{"seconds":20.5}}"#));
    assert!(hear(&mut meter, r#"{"type":"session.closed","reason":"done","usage":{"seconds":21}}"#));
    assert!(!hear(&mut meter, r#"{"type":"session.closed","reason":"done","usage":{"seconds":21}}"#));
    assert_eq!((only(&meter).seconds_ms, meter.turns(), meter.flaw()), (Some(21_000), 1, None));
    assert_eq!(meter.used()[0].model.as_deref(), Some("gpt-live-2026"));
}

#[test]
fn a_second_session_begins_anew() {
    let mut meter = started();
    hear(&mut meter, r#"{"type":"session.closed","usage":{"seconds":21}}"#);
    hear(&mut meter, r#"{"type":"session.started","session":{"model":"gpt-live-2026"}}"#);
    assert_eq!(only(&meter).seconds_ms, Some(21_000));
    hear(&mut meter, r#"{"type":"session.usage.updated","usage":{"seconds":3}}"#);
    hear(&mut meter, r#"{"type":"session.usage.updated","usage":{"seconds":4}}"#);
    assert_eq!((only(&meter).seconds_ms, meter.turns()), (Some(25_000), 2));
}

#[test]
fn delegated_work_counts_in_addition() {
    let mut meter = started();
    hear(&mut meter, r#"{"type":"session.usage.updated","usage":{"seconds":10}}"#);
    hear(
        &mut meter,
        r#"{"type":"response.event","event":{"type":"response.created","response":{"id":"resp_1","model":"gpt-x"}}}"#,
    );
    assert!(meter.has_open_work() && meter.cancel().is_empty());
    let completed = r#"{"type":"response.event","event":{"type":"response.completed","response":{"id":"resp_1","model":"gpt-x","usage":{"input_tokens":19,"output_tokens":10,"total_tokens":29}}}}"#;
    assert!(hear(&mut meter, completed));
    assert!(!hear(&mut meter, completed), "the same again");
    assert!(!meter.has_open_work());
    hear(&mut meter, r#"{"type":"session.usage.updated","usage":{"seconds":12}}"#);
    assert_eq!(tokens(&meter), [(Some("gpt-live-2026"), None, None), (Some("gpt-x"), Some(19), Some(10))]);
    assert_eq!((meter.used()[0].usage.seconds_ms, meter.turns()), (Some(12_000), 2));
    assert_eq!(meter.model(), Some("gpt-live-2026"), "a delegated response does not serve the session");
}

#[test]
fn a_decision_counts_with_its_last_report() {
    let mut meter = started();
    let wrapped = r#"{"type":"decision.event","event":{"type":"decision.updated","decision":{"id":"dec_1","usage":{"input_tokens":5,"output_tokens":1}}}}"#;
    assert!(hear(&mut meter, wrapped));
    assert!(hear(&mut meter, &wrapped.replace(":5,", ":7,")));
    assert!(!hear(&mut meter, &wrapped.replace(":5,", ":7,")));
    hear(&mut meter, r#"{"type":"session.usage.updated","usage":{"seconds":12}}"#);
    let bare = r#"{"type":"decision.completed","decision":{"id":"dec_2","model":"gpt-d","usage":{"input_tokens":3}}}"#;
    assert!(hear(&mut meter, bare));
    assert_eq!(tokens(&meter), [(Some("gpt-live-2026"), Some(7), Some(1)), (Some("gpt-d"), Some(3), None)]);
    assert_eq!((meter.used()[0].usage.seconds_ms, meter.turns()), (Some(12_000), 3));
}
