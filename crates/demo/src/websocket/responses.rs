//! OpenAI Responses on a socket: many responses, each with the events of the HTTP stream (`protocols.md` §2.2).
//!
//! The socket remembers its latest responses, so that `previous_response_id` works on it; nothing outlives it.

use std::collections::VecDeque;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::outbox::{Lane, broken};
use super::plain::close_on_purpose;
use super::realtime::{error_event, not_text};
use super::{Dialogue, Outbox, Step};
use crate::call::Call;
use crate::magic::Magic;
use crate::openai::responses;
use crate::realtime::extend;
use crate::refusal::Refusal;
use crate::reply::Delay;
use crate::route::Dialect;

/// The oldest responses are forgotten beyond this many; one with more text than this is not remembered.
const MOST_REMEMBERED: usize = 8;
const LARGEST_REMEMBERED: usize = 1024 * 1024;
const EVENTS_BEFORE_ERROR: usize = 2;

/// A socket of the Responses API.
#[derive(Debug, Default)]
pub(super) struct Responses {
    /// Latest responses: id, and the items that the next one continues.
    remembered: VecDeque<(String, Vec<Value>)>,
    /// How many answers were begun: each is a lane of its own.
    made: Lane,
}

impl Dialogue for Responses {
    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        let Ok(event) = serde_json::from_str::<Value>(text) else {
            return outbox.event(error_event("invalid_json", "Could not parse the event as JSON."));
        };
        let steps = match event["type"].as_str() {
            Some("response.create") => self.create(&event),
            _ => Err(Refusal::new(400, "Unknown event type.").code("unknown_parameter").param("type")),
        };
        let steps = steps.unwrap_or_else(|refusal| vec![error(&refusal)]);
        let steps = steps.into_iter().map(|step| on_stream(step, &event["stream_id"])).collect();
        self.made += 1;
        outbox.weave(self.made, steps);
    }

    fn binary(&mut self, _bytes: &Bytes, outbox: &mut Outbox) {
        outbox.event(not_text());
    }
}

impl Responses {
    fn create(&mut self, event: &Value) -> Result<Vec<Step>, Refusal> {
        let model = event["model"].as_str().ok_or(Refusal::missing("model"))?;
        let magic = Magic::of(model);
        if let Some(refusal) = magic.refusal(model, Dialect::OpenAi) {
            return Err(refusal);
        }
        if let Magic::Close(code) = magic {
            return Ok(vec![close_on_purpose(code)]);
        }
        let mut body = event.clone();
        self.continue_previous(&mut body);
        let (parts, ()) = Request::new(()).into_parts();
        let mut events = responses::events(&Call::new(&parts, &Bytes::from(body.to_string())), model)?;
        if magic == Magic::ErrorInStream {
            events.truncate(EVENTS_BEFORE_ERROR);
            let message = Refusal::genuine(500, Dialect::OpenAi).message().to_owned();
            events.push(json!({"type": "error", "code": "server_error", "message": message, "param": null,
                "sequence_number": EVENTS_BEFORE_ERROR}));
        }
        self.remember(&body["input"], events.last());
        let steps: Vec<Step> = events.into_iter().map(Step::Event).collect();
        Ok(match (magic, magic.delay()) {
            (Magic::Break, _) => broken(steps),
            (_, Delay::None) => steps,
            (_, Delay::For(time)) => [vec![Step::Pause(time)], steps].concat(),
            (_, Delay::Forever) => Vec::new(),
        })
    }

    /// Puts what a remembered response was about before the input that continues it.
    fn continue_previous(&self, body: &mut Value) {
        let previous = body["previous_response_id"].as_str();
        let Some((_, items)) = self.remembered.iter().find(|(id, _)| Some(id.as_str()) == previous) else { return };
        let input = [items.clone(), items_of(&body["input"])].concat();
        extend(body, json!({"input": input, "previous_response_id": null}));
    }

    fn remember(&mut self, input: &Value, last: Option<&Value>) {
        let Some(response) = last.map(|last| &last["response"]) else { return };
        let Some(id) = response["id"].as_str() else { return };
        let items = [items_of(input), items_of(&response["output"])].concat();
        if json!(items).to_string().len() > LARGEST_REMEMBERED {
            return;
        }
        self.remembered.push_back((id.to_owned(), items));
        if self.remembered.len() > MOST_REMEMBERED {
            self.remembered.pop_front();
        }
    }
}

/// An input as items: a text is the message of a user.
fn items_of(input: &Value) -> Vec<Value> {
    match input {
        Value::Array(items) => items.clone(),
        Value::String(text) => vec![json!({"type": "message", "role": "user", "content": text})],
        _ => Vec::new(),
    }
}

/// The event that stands in for a response.
fn error(refusal: &Refusal) -> Step {
    let error = refusal.envelope(Dialect::OpenAi, "")["error"].take();
    Step::Event(json!({"type": "error", "status": refusal.status(), "error": error}))
}

/// The step with the id of the stream that the client chose.
fn on_stream(step: Step, stream_id: &Value) -> Step {
    match step {
        Step::Event(mut event) if stream_id.is_string() => {
            event["stream_id"] = stream_id.clone();
            Step::Event(event)
        }
        step => step,
    }
}
