use std::net::Ipv4Addr;

use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::caller::Caller;
use super::*;
use crate::realtime::RealtimeSession;

const WAIT: Duration = Duration::from_secs(30);

fn calls(tasks: &Tasks) -> Calls {
    Calls::new(tasks.clone(), Ipv4Addr::LOCALHOST.into(), Duration::ZERO)
}

/// A text question and the wish for an answer.
fn question() -> [Value; 2] {
    let content = json!([{"type": "input_text", "text": "What is the capital of France?"}]);
    let item = json!({"type": "message", "role": "user", "content": content});
    let response = json!({"output_modalities": ["text"]});
    [
        json!({"type": "conversation.item.create", "item": item}),
        json!({"type": "response.create", "response": response}),
    ]
}

/// What the session says that its answer to [`question`] costs.
fn cost() -> Value {
    let mut session = RealtimeSession::new("demo-realtime", None);
    session.opening();
    let events: Vec<_> = question().iter().flat_map(|event| session.client_event(event)).collect();
    let done = events.iter().find(|event| event["type"] == "response.done").unwrap();
    done["response"]["usage"].clone()
}

#[tokio::test]
async fn a_caller_talks_over_the_data_channel_and_hears_itself_until_it_is_hung_up() {
    let tasks = Tasks::new();
    let calls = calls(&tasks);
    let (mut caller, offer) = Caller::new().await;
    let answered = calls.answer(&offer, "demo-realtime", None).unwrap();
    assert!(answered.id.starts_with("rtc_demo_") && answered.sdp.starts_with("v=0\r\n"), "{}", answered.sdp);
    assert!(answered.sdp.contains("a=ice-lite\r\n") && answered.sdp.contains(" 127.0.0.1 "), "{}", answered.sdp);
    caller.take_answer(&answered.sdp);

    let created = caller.event("session.created").await;
    assert_eq!(created["session"]["model"], "demo-realtime");
    for event in question() {
        caller.send(&event.to_string());
    }
    let done = caller.event("response.done").await;
    assert_eq!((&done["response"]["status"], &done["response"]["usage"]), (&json!("completed"), &cost()));
    assert!(cost()["total_tokens"].as_u64().unwrap() > 0);

    let packets: Vec<Vec<u8>> = (0..20).map(|number| vec![number; 40 + usize::from(number)]).collect();
    for packet in &packets {
        caller.speak(packet);
    }
    caller.until(|caller| caller.sounds.len() >= packets.len()).await;
    assert_eq!(caller.sounds, packets);

    caller.send("{no JSON");
    assert_eq!(caller.event("error").await["error"]["code"], "invalid_json");

    assert!(calls.hang_up(&answered.id) && !calls.hang_up(&answered.id));
    caller.until(|caller| caller.is_closed).await;
    assert!(tasks.finished_within(WAIT).await);
}

#[tokio::test]
async fn a_browser_that_hides_its_address_gets_through() {
    let tasks = Tasks::new();
    let calls = calls(&tasks);
    let (mut caller, offer) = Caller::new().await;
    let address = format!(" {} {} typ host", caller.address().ip(), caller.address().port());
    let hidden = offer.replace(&address, " 6d1c5a5e-33f2-4e57-9a4c-0d4f6f3e7a11.local 51234 typ host");
    assert!(hidden != offer && !hidden.contains("candidate:127.0.0.1") && !hidden.contains(&address), "{hidden}");
    let answered = calls.answer(&hidden, "demo-realtime", None).unwrap();
    caller.take_answer(&answered.sdp);
    caller.event("session.created").await;
}

#[tokio::test]
async fn a_call_ends_when_the_caller_leaves_or_the_tasks_stop() {
    let tasks = Tasks::new();
    let calls = calls(&tasks);
    let (mut caller, offer) = Caller::new().await;
    let answered = calls.answer(&offer, "demo-realtime", None).unwrap();
    caller.take_answer(&answered.sdp);
    caller.event("session.created").await;
    caller.leave();
    assert!(tasks.finished_within(WAIT).await);
    assert!(!calls.contains(&answered.id) && calls.attach(&answered.id).is_none());

    let tasks = Tasks::new();
    let calls = self::calls(&tasks);
    let (mut caller, offer) = Caller::new().await;
    let answered = calls.answer(&offer, "demo-realtime", None).unwrap();
    caller.take_answer(&answered.sdp);
    caller.event("session.created").await;
    tasks.stop();
    caller.until(|caller| caller.is_closed).await;
    assert!(tasks.finished_within(WAIT).await);
    assert_eq!(calls.answer(&offer, "demo-realtime", None).unwrap_err(), NoCall::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_comes_is_waited_for_half_a_minute() {
    let tasks = Tasks::new();
    let calls = calls(&tasks);
    let (_, offer) = Caller::new().await;
    let answered = calls.answer(&offer, "demo-realtime", None).unwrap();
    assert!(!tasks.finished_within(Duration::from_secs(29)).await && calls.contains(&answered.id));
    assert!(tasks.finished_within(Duration::from_secs(2)).await && !calls.contains(&answered.id));
}

#[tokio::test]
async fn a_caller_that_is_lost_is_waited_for_half_a_minute() {
    let tasks = Tasks::new();
    let calls = calls(&tasks);
    let (mut caller, offer) = Caller::new().await;
    let answered = calls.answer(&offer, "demo-realtime", None).unwrap();
    caller.take_answer(&answered.sdp);
    caller.event("session.created").await;
    tokio::time::pause();
    assert!(!tasks.finished_within(Duration::from_secs(27)).await && calls.contains(&answered.id));
    assert!(tasks.finished_within(Duration::from_secs(6)).await && !calls.contains(&answered.id));
}

/// The next event that a sideband receives.
async fn next(attachment: &mut Attachment) -> Value {
    let text = tokio::time::timeout(WAIT, attachment.events.recv()).await.unwrap().unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_sideband_sees_what_the_caller_sees_and_may_speak() {
    let tasks = Tasks::new();
    let calls = calls(&tasks);
    let (mut caller, offer) = Caller::new().await;
    let answered = calls.answer(&offer, "demo-realtime", Some(&json!({"instructions": "Be brief."}))).unwrap();
    let mut sideband = calls.attach(&answered.id).unwrap();

    // The sideband is there before the caller: what it starts waits for the data channel.
    for event in question() {
        sideband.client_events.send(event).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &Value| event["type"] != "response.done") {
        seen.push(next(&mut sideband).await);
    }
    assert_eq!(
        (&seen[0]["type"], &seen[0]["session"]["instructions"]),
        (&json!("session.created"), &json!("Be brief."))
    );
    caller.take_answer(&answered.sdp);
    caller.event("response.done").await;
    assert_eq!(caller.events, seen);

    caller.send(&json!({"type": "response.create"}).to_string());
    while next(&mut sideband).await["type"] != "response.done" {}
    let is_done = |event: &&Value| event["type"] == "response.done";
    caller.until(|caller| caller.events.iter().filter(is_done).count() == 2).await;
    assert!(!caller.kinds().contains(&"response.output_audio.delta"), "sound is heard, not read: {:?}", caller.kinds());

    assert!(calls.hang_up(&answered.id));
    let ended = tokio::time::timeout(WAIT, sideband.events.recv()).await.unwrap();
    assert_eq!(ended, Err(RecvError::Closed));
    tokio::time::timeout(WAIT, sideband.client_events.closed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn some_models_let_sidebands_in_late_or_never() {
    let calls = calls(&Tasks::new());
    let (_, offer) = Caller::new().await;
    let call = |model| calls.answer(&offer, model, None).unwrap().id;
    let (late, never, usual) = (call(LATE_MODEL), call(UNATTACHABLE_MODEL), call("demo-realtime"));
    assert!(calls.attach(&late).is_none() && calls.attach(&never).is_none() && calls.attach(&usual).is_some());
    tokio::time::advance(LATE).await;
    assert!(calls.attach(&late).is_some() && calls.attach(&never).is_none());
    assert!(calls.contains(&never) && calls.attach("rtc_demo_other").is_none());
}

#[tokio::test]
async fn offers_that_cannot_be_answered_leave_nothing_behind() {
    let tasks = Tasks::new();
    let calls = calls(&tasks);
    let (_, offer) = Caller::new().await;
    let without = |start: &str| offer.split_inclusive('\n').filter(|line| !line.starts_with(start)).collect::<String>();
    let lite = offer.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n");
    let no_lines = offer.split_once("m=").unwrap().0.to_owned();
    for bad in ["".to_owned(), "{}".to_owned(), without("a=fingerprint"), without("a=ice-"), lite, no_lines] {
        let error = calls.answer(&bad, "demo-realtime", None).unwrap_err();
        assert!(matches!(error, NoCall::BadOffer(_)), "{error:?}: {bad}");
    }
    assert!(tasks.is_empty());
}

#[tokio::test]
async fn no_offer_makes_it_panic() {
    let tasks = Tasks::new();
    let calls = calls(&tasks);
    let (_, offer) = Caller::new().await;
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..400 {
        let mut bytes = offer.clone().into_bytes();
        match random.u8(..3) {
            0 => bytes.truncate(random.usize(..bytes.len())),
            1 => drop(bytes.drain(random.usize(..bytes.len() / 2)..random.usize(bytes.len() / 2..bytes.len()))),
            _ => {
                for _ in 0..4 {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
            }
        }
        if let Ok(answered) = calls.answer(&String::from_utf8_lossy(&bytes), "demo-realtime", None) {
            assert!(calls.hang_up(&answered.id));
        }
    }
    assert!(tasks.finished_within(WAIT).await);
}

#[tokio::test]
async fn there_are_only_so_many_calls_at_once() {
    let calls = calls(&Tasks::new());
    let (_, offer) = Caller::new().await;
    let ids: Vec<_> = (0..MOST_CALLS).map(|_| calls.answer(&offer, "demo-realtime", None).unwrap().id).collect();
    assert_eq!(calls.answer(&offer, "demo-realtime", None).unwrap_err(), NoCall::Busy);
    assert!(calls.hang_up(&ids[0]) && calls.answer(&offer, "demo-realtime", None).is_ok());
}
