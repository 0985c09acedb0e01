//! The events of a call: the session's, at their pace, on their way to the data channel and to every sideband.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_core::time::Instant;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::realtime::RealtimeSession;

/// Events of the session that wait for their time before sidebands must wait too.
const ROOM: usize = 1024;
/// Events of the session that may wait at all: a peer that asks for more without pause is cut off.
const MOST_UNSENT: usize = 16 * ROOM;
/// Bytes that the data channel may be behind.
const MOST_OUTBOX_BYTES: usize = 8 * 1024 * 1024;
/// What a WebSocket carries as events is heard on the call's audio track.
const HEARD: [&str; 2] = ["response.output_audio.delta", "response.audio.delta"];

/// One session and who hears it.
pub(super) struct Conversation {
    session: RealtimeSession,
    is_open: bool,
    pace: Duration,
    /// When the next event may go out.
    due: Option<Instant>,
    unsent: VecDeque<Value>,
    outbox: VecDeque<Arc<str>>,
    outbox_bytes: usize,
    sidebands: broadcast::Sender<Arc<str>>,
}

impl Conversation {
    /// A session that nobody has joined yet.
    pub(super) fn new(
        model: &str,
        session: Option<&Value>,
        pace: Duration,
        sidebands: broadcast::Sender<Arc<str>>,
    ) -> Self {
        Self {
            session: RealtimeSession::new(model, session),
            is_open: false,
            pace,
            due: None,
            unsent: VecDeque::new(),
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            sidebands,
        }
    }

    /// Somebody joined: the first one makes the session greet.
    pub(super) fn open(&mut self) {
        if !self.is_open {
            self.is_open = true;
            self.unsent.extend(self.session.opening());
        }
    }

    /// A client event from a sideband.
    pub(super) fn hear(&mut self, event: &Value) {
        self.open();
        self.session.client_event_over(event, &mut self.unsent);
    }

    /// A message from the data channel.
    pub(super) fn hear_text(&mut self, text: &[u8]) {
        match serde_json::from_slice(text) {
            Ok(event) => self.hear(&event),
            Err(_) => {
                self.open();
                self.unsent.push_back(not_json());
            }
        }
    }

    /// Sends all events whose time has come: to the sidebands, and into the data channel's outbox.
    pub(super) fn advance(&mut self, now: Instant) {
        while self.due.is_none_or(|due| due <= now) {
            let Some(event) = self.unsent.pop_front() else { return };
            if HEARD.contains(&event["type"].as_str().unwrap_or_default()) {
                continue;
            }
            let text: Arc<str> = event.to_string().into();
            self.outbox_bytes += text.len();
            self.outbox.push_back(text.clone());
            // An error means that no sideband listens.
            self.sidebands.send(text).ok();
            self.due = (!self.pace.is_zero()).then_some(now + self.pace);
        }
    }

    /// When [`Conversation::advance`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.unsent.is_empty())
    }

    /// The next message for the data channel.
    pub(super) fn first(&self) -> Option<&str> {
        self.outbox.front().map(|text| &**text)
    }

    /// The data channel took the next message, or never will.
    pub(super) fn remove_first(&mut self) {
        if let Some(text) = self.outbox.pop_front() {
            self.outbox_bytes -= text.len();
        }
    }

    /// Keeps the outbox small while there is no data channel: the oldest messages go.
    pub(super) fn forget_old(&mut self) {
        while self.outbox_bytes > MOST_OUTBOX_BYTES {
            self.remove_first();
        }
    }

    /// Whether a sideband's client event can be taken now.
    pub(super) fn has_room(&self) -> bool {
        self.unsent.len() < ROOM
    }

    /// Whether the peer asks for more, or takes less, than it can expect to get away with.
    pub(super) fn is_overrun(&self) -> bool {
        self.unsent.len() > MOST_UNSENT || self.outbox_bytes > MOST_OUTBOX_BYTES
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Conversation").field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

fn not_json() -> Value {
    let error = json!({"type": "invalid_request_error", "code": "invalid_json", "param": null, "event_id": null,
        "message": "We could not parse the JSON of your event."});
    json!({"type": "error", "event_id": format!("event_{}", Uuid::new_v4().simple()), "error": error})
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiproxy_core::time;

    const PACE: Duration = Duration::from_millis(20);

    fn conversation(pace: Duration) -> (Conversation, broadcast::Receiver<Arc<str>>) {
        let (sidebands, events) = broadcast::channel(1024);
        (Conversation::new("demo-realtime", None, pace, sidebands), events)
    }

    fn kinds(conversation: &mut Conversation) -> Vec<String> {
        let mut kinds = Vec::new();
        while let Some(text) = conversation.first() {
            kinds.push(serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap().to_owned());
            conversation.remove_first();
        }
        assert_eq!(conversation.outbox_bytes, 0);
        kinds
    }

    #[test]
    fn the_session_greets_once_and_first() {
        let (mut conversation, _events) = conversation(Duration::ZERO);
        conversation.hear_text(b"nothing");
        conversation.open();
        conversation.advance(time::now());
        let kinds = kinds(&mut conversation);
        assert_eq!((kinds[0].as_str(), kinds.last().unwrap().as_str()), ("session.created", "error"));
        assert_eq!(kinds.iter().filter(|kind| *kind == "session.created").count(), 1);
    }

    #[test]
    fn events_keep_their_pace() {
        let (mut conversation, mut events) = conversation(PACE);
        let now = time::now();
        conversation.open();
        conversation.hear_text(b"[");
        assert_eq!(conversation.due(), None, "the first event is due at once");
        conversation.advance(now);
        conversation.advance(now + PACE / 2);
        assert_eq!((events.len(), conversation.due()), (1, Some(now + PACE)));
        conversation.advance(now + PACE);
        assert_eq!(events.len(), 2);
        assert!(events.try_recv().unwrap().contains("session.created"));
    }

    #[test]
    fn a_caller_that_floods_or_never_reads_is_cut_off_and_an_absent_one_is_not() {
        let (mut conversation, _events) = conversation(PACE);
        assert!(conversation.has_room());
        (0..ROOM).for_each(|_| conversation.hear_text(b""));
        assert!(!conversation.has_room() && !conversation.is_overrun());
        (0..MOST_UNSENT).for_each(|_| conversation.hear_text(b""));
        assert!(conversation.is_overrun());

        let (mut conversation, _events) = self::conversation(Duration::ZERO);
        let long = Value::from("x".repeat(MOST_OUTBOX_BYTES / 4));
        for _ in 0..5 {
            conversation.unsent.push_back(json!({"type": "long", "text": long}));
            conversation.advance(time::now());
        }
        assert!(conversation.is_overrun());
        conversation.forget_old();
        assert!(!conversation.is_overrun());
        assert_eq!(kinds(&mut conversation), ["long"; 3]);
    }

    #[test]
    fn sound_is_not_sent_as_events() {
        let (mut conversation, events) = conversation(Duration::ZERO);
        conversation.unsent.extend(HEARD.map(|kind| json!({"type": kind, "delta": "AAAA"})));
        conversation.unsent.push_back(json!({"type": "response.output_audio.done"}));
        conversation.advance(time::now());
        assert_eq!((kinds(&mut conversation), events.len()), (vec!["response.output_audio.done".to_owned()], 1));
    }
}
