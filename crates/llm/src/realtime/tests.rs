//! The protocols as they were recorded, message by message.

mod client;
mod dashscope;
mod errors;
mod gemini;
mod live;
mod properties;
mod read;
mod realtime;
mod responses;

use super::{Protocol, SessionMeter, Unreadable, read_client_message};
use crate::usage::Usage;
use crate::websocket::Kind;

/// Gives the meter a whole upstream message in text; whether what was used has changed.
fn hear(meter: &mut SessionMeter, message: &str) -> bool {
    meter.feed(Kind::Text, message.as_bytes());
    meter.end()
}

/// Sends a held client message on, under the models that it names.
fn say(meter: &mut SessionMeter, protocol: Protocol, message: &str) -> Result<(), Unreadable> {
    let message = read_client_message(protocol, message.as_bytes())?;
    meter.client_message(&message, None);
    Ok(())
}

/// What was used, as `(model, input, output)`.
fn tokens(meter: &SessionMeter) -> Vec<(Option<&str>, Option<u64>, Option<u64>)> {
    meter.used().iter().map(|used| (used.model.as_deref(), used.usage.input, used.usage.output)).collect()
}

/// The only sum.
fn only(meter: &SessionMeter) -> Usage {
    assert_eq!(meter.used().len(), 1, "{:?}", meter.used());
    meter.used()[0].usage
}
