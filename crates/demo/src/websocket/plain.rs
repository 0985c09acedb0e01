//! Sockets without a dialect, for conformance tests and benchmarks.

use bytes::Bytes;

use super::{Dialogue, Outbox, Step};

/// Sends every message back.
#[derive(Debug)]
pub(super) struct Echo;

impl Dialogue for Echo {
    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        outbox.push(Step::Text(text.into()));
    }

    fn binary(&mut self, bytes: &Bytes, outbox: &mut Outbox) {
        outbox.push(Step::Binary(bytes.clone()));
    }
}

/// The close that a model such as `demo-close-1011` asks for.
pub(super) fn close_on_purpose(code: u16) -> Step {
    Step::Close(code, format!("the demo closes with {code} on purpose"))
}

/// Closes at once with this code.
#[derive(Debug)]
pub(super) struct Closing(pub(super) u16);

impl Dialogue for Closing {
    fn opening(&mut self, outbox: &mut Outbox) {
        outbox.push(close_on_purpose(self.0));
    }

    fn text(&mut self, _text: &str, _outbox: &mut Outbox) {}

    fn binary(&mut self, _bytes: &Bytes, _outbox: &mut Outbox) {}
}
