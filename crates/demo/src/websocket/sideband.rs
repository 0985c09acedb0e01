//! The sideband of a WebRTC call: all that the call says, and a second way to talk to it (`protocols.md` §5).

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::realtime::{error_event, not_text};
use super::{Conversation, Dialogue, Outbox};
use crate::openai;
use crate::refusal::Refusal;
use crate::webrtc::Calls;

/// Listens in on the call `call_id`.
pub(super) fn conversation(calls: &Calls, call_id: &str) -> Result<Conversation, Refusal> {
    let attachment = calls.attach(call_id).ok_or_else(|| openai::no_call(call_id))?;
    let dialogue = Sideband { client_events: attachment.client_events };
    Ok(Conversation { dialogue: Box::new(dialogue), heard: Some(attachment.events) })
}

struct Sideband {
    client_events: mpsc::Sender<Value>,
}

impl Dialogue for Sideband {
    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        let Ok(event) = serde_json::from_str(text) else {
            return outbox.event(error_event("invalid_json", "Could not parse the event as JSON."));
        };
        if self.client_events.try_send(event).is_err() {
            outbox.event(error_event("rate_limit_exceeded", "The call takes no more events for now."));
        }
    }

    fn binary(&mut self, _bytes: &Bytes, outbox: &mut Outbox) {
        outbox.event(not_text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::Step;
    use serde_json::json;

    #[test]
    fn client_events_reach_the_call_and_what_is_no_event_is_told() {
        let (client_events, mut call) = mpsc::channel(1);
        let mut sideband = Sideband { client_events };
        let mut outbox = Outbox::default();
        sideband.text("{\"type\": \"response.create\"}", &mut outbox);
        assert!(outbox.is_empty());
        sideband.text("{\"type\": \"response.create\"}", &mut outbox);
        sideband.text("{", &mut outbox);
        sideband.binary(&Bytes::new(), &mut outbox);
        let codes: Vec<_> = std::iter::from_fn(|| outbox.pop())
            .map(|step| match step {
                Step::Event(event) => event["error"]["code"].as_str().unwrap().to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(codes, ["rate_limit_exceeded", "invalid_json", "invalid_json"]);
        assert_eq!(call.try_recv().unwrap(), json!({"type": "response.create"}));
    }
}
