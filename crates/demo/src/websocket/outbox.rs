//! What is to be sent on a socket, step by step.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Beyond so many waiting steps, or so many bytes of messages in them, nothing more is read from the peer.
const MOST_STEPS: usize = 1024;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// A text message with this JSON; steps of this kind are paced.
    Event(Value),
    /// A binary message with the text of this JSON, as Google sends it; paced as well.
    BinaryEvent(Value),
    Text(Utf8Bytes),
    Binary(Bytes),
    /// Nothing for so long.
    Pause(Duration),
    Close(u16, String),
    /// Cuts the connection in the middle of a frame.
    Break,
}

impl Step {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// The steps that are not done yet, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    steps: VecDeque<(Lane, Step)>,
    bytes: usize,
}

/// What belongs together and keeps its order: a task, a response.
pub(crate) type Lane = u64;

/// Of steps that belong to nothing in particular.
const NO_LANE: Lane = 0;

/// The lane of what is called `name`.
pub(crate) fn lane(name: &str) -> Lane {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish().max(1)
}

impl Outbox {
    /// Adds a step at the end.
    pub(crate) fn push(&mut self, step: Step) {
        self.add(NO_LANE, step);
    }

    fn add(&mut self, lane: Lane, step: Step) {
        self.bytes += step.bytes();
        self.steps.push_back((lane, step));
    }

    /// Adds an event at the end.
    pub(crate) fn event(&mut self, event: Value) {
        self.push(Step::Event(event));
    }

    /// Adds steps so that they alternate with those that wait, as when a server does two things at once. Behind those of
    /// their own lane, and of none.
    pub(crate) fn weave(&mut self, lane: Lane, steps: Vec<Step>) {
        let mut waiting = std::mem::take(self).steps;
        let own = waiting.iter().rposition(|(other, _)| [lane, NO_LANE].contains(other)).map_or(0, |last| last + 1);
        waiting.drain(..own).for_each(|(lane, step)| self.add(lane, step));
        for step in steps {
            waiting.pop_front().into_iter().for_each(|(lane, step)| self.add(lane, step));
            self.add(lane, step);
        }
        waiting.into_iter().for_each(|(lane, step)| self.add(lane, step));
    }

    /// The next step.
    pub(crate) fn pop(&mut self) -> Option<Step> {
        let (_, step) = self.steps.pop_front()?;
        self.bytes -= step.bytes();
        Some(step)
    }

    /// Takes out every step that `is_taken_back`.
    pub(crate) fn take_back(&mut self, is_taken_back: impl Fn(&Step) -> bool) -> Vec<Step> {
        let waiting = std::mem::take(self).steps.into_iter();
        let (taken, kept): (Vec<_>, Vec<_>) = waiting.partition(|(_, step)| is_taken_back(step));
        kept.into_iter().for_each(|(lane, step)| self.add(lane, step));
        taken.into_iter().map(|(_, step)| step).collect()
    }

    /// Lets `change` work on the waiting events as a queue. Other steps that wait stay behind them.
    pub(crate) fn with_events(&mut self, change: impl FnOnce(&mut VecDeque<Value>)) {
        let waiting = std::mem::take(self).steps;
        let (mut events, mut others) = (VecDeque::new(), Vec::new());
        for (_, step) in waiting {
            match step {
                Step::Event(event) => events.push_back(event),
                other => others.push(other),
            }
        }
        change(&mut events);
        events.into_iter().map(Step::Event).chain(others).for_each(|step| self.push(step));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether what a further message asks for may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.steps.len() < MOST_STEPS && self.bytes < MOST_BYTES
    }
}

/// The first half of `steps`, then the end of the connection.
pub(crate) fn broken(mut steps: Vec<Step>) -> Vec<Step> {
    steps.truncate(steps.len() / 2 + 1);
    steps.push(Step::Break);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn events(names: &[&str]) -> Vec<Step> {
        names.iter().map(|name| Step::Event(json!(name))).collect()
    }

    fn outbox(names: &[&str]) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.weave(lane("a"), events(names));
        outbox
    }

    fn drain(mut outbox: Outbox) -> Vec<Step> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn two_answers_alternate() {
        let mut both = outbox(&["a1", "a2", "a3"]);
        both.weave(lane("b"), events(&["b1", "b2"]));
        assert_eq!(drain(both), events(&["a1", "b1", "a2", "b2", "a3"]));
        let mut both = outbox(&["a1"]);
        both.weave(lane("b"), events(&["b1", "b2"]));
        assert_eq!(drain(both), events(&["a1", "b1", "b2"]));
    }

    #[test]
    fn what_belongs_together_keeps_its_order() {
        let mut both = outbox(&["a1", "a2"]);
        both.weave(lane("b"), events(&["b1", "b2"]));
        both.weave(lane("a"), events(&["a3"]));
        assert_eq!(drain(both), events(&["a1", "b1", "a2", "b2", "a3"]));
    }

    #[test]
    fn room_ends_with_many_steps_or_large_ones_and_comes_back() {
        let mut full = outbox(&[]);
        assert!(full.has_room() && full.is_empty());
        full.push(Step::Binary(vec![0; MOST_BYTES].into()));
        assert!(!full.has_room());
        full.pop();
        assert!(full.has_room());
        let full = outbox(&["a"; MOST_STEPS]);
        assert!(!full.has_room());
    }

    #[test]
    fn events_are_taken_back_and_the_rest_stays() {
        let mut mixed = outbox(&["a", "b"]);
        mixed.push(Step::Break);
        mixed.with_events(|events| {
            events.pop_back();
            events.push_back(json!("c"));
        });
        assert_eq!(mixed.take_back(|step| *step == Step::Event(json!("a"))), events(&["a"]));
        assert_eq!(drain(mixed), [events(&["c"]), vec![Step::Break]].concat());
    }
}
