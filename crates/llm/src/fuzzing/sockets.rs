//! The bodies for sockets: frames, and what is said in them.

use serde_json::Value;

use super::{ASKED, cut};
use crate::realtime::{self, ClientMessage, ClientReader, Protocol, SessionMeter, Stance, read_client_message};
use crate::websocket::{self, Control, Decoder, Head, Kind, Opcode, Sender, Utf8Check, Violation};

/// Frames of either side: cut anywhere; what was read, written anew, is what came, byte for byte. And as text, cut
/// anywhere, it is valid as far as `std` says so.
pub fn websocket(input: &[u8]) {
    let (data, pieces) = cut(input);
    for sender in [Sender::Client, Sender::Server] {
        let (frames, violation) = websocket_frames(sender, &[data]);
        let (cut_frames, cut_violation) = websocket_frames(sender, &pieces);
        assert_eq!((&frames, violation), (&cut_frames, cut_violation), "cut elsewhere");
        let mut rest = data;
        for frame in &frames {
            let written = frame.write(sender, rest);
            assert!(rest.starts_with(&written), "written anew");
            rest = &rest[written.len()..];
        }
        let ended = violation.is_some() || matches!(frames.last(), Some(WebsocketFrame::Control(Control::Close(_))));
        assert!(ended || rest.len() < 6 + 125, "only a head or a control frame is waited for");
    }

    let mut check = Utf8Check::default();
    let mut fed = 0;
    for piece in pieces {
        let valid = check.feed(piece);
        fed += piece.len();
        let expected = std::str::from_utf8(&data[..fed]);
        assert_eq!(valid, expected.map_or_else(|error| error.error_len().is_none(), |_| true));
        assert_eq!(check.is_whole(), expected.is_ok(), "may end here");
    }
}

#[derive(Debug, PartialEq)]
enum WebsocketFrame {
    Data { head: Vec<u8>, kind: Kind, starts: bool, ends: bool, length: u64, mask: Option<[u8; 4]>, plain: Vec<u8> },
    Control(Control),
}

impl WebsocketFrame {
    fn data(head: &Head) -> Self {
        Self::Data {
            head: head.wire().to_vec(),
            kind: head.kind(),
            starts: head.starts_message(),
            ends: head.ends_message(),
            length: head.length(),
            mask: head.mask(),
            plain: Vec::new(),
        }
    }

    /// As our encoder writes it. The mask of a control frame is looked up in what came, and that a data frame has no
    /// FIN, or not all of its payload, is done by hand.
    fn write(&self, sender: Sender, came: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let control_mask =
            came.get(2..).and_then(|rest| rest.first_chunk()).copied().filter(|_| sender == Sender::Client);
        match self {
            Self::Control(Control::Ping(payload)) => websocket::encode(Opcode::Ping, payload, control_mask, &mut out),
            Self::Control(Control::Pong(payload)) => websocket::encode(Opcode::Pong, payload, control_mask, &mut out),
            Self::Control(Control::Close(close)) => websocket::encode_close(close.as_ref(), control_mask, &mut out),
            Self::Data { head, kind, starts, ends, length, mask, plain } => {
                let opcode = match kind {
                    _ if !starts => Opcode::Continuation,
                    Kind::Text => Opcode::Text,
                    Kind::Binary => Opcode::Binary,
                };
                let mut payload = plain.clone();
                payload.resize(usize::try_from(*length).unwrap_or_default(), 0);
                websocket::encode(opcode, &payload, *mask, &mut out);
                out.truncate(head.len() + plain.len());
                if let Some(first) = out.first_mut().filter(|_| !ends) {
                    *first &= 0x7F;
                }
            }
        }
        out
    }

    fn control_size(control: &Control, sender: Sender) -> usize {
        let payload = match control {
            Control::Ping(payload) | Control::Pong(payload) => payload.len(),
            Control::Close(close) => close.as_ref().map_or(0, |close| 2 + close.reason.len()),
        };
        payload + if sender == Sender::Client { 6 } else { 2 }
    }
}

fn websocket_frames(sender: Sender, pieces: &[&[u8]]) -> (Vec<WebsocketFrame>, Option<Violation>) {
    let mut decoder = Decoder::new(sender, 70_000);
    let mut frames = Vec::new();
    let mut scratch = Vec::new();
    let (mut start, mut handed_over) = (0, 0);
    for piece in pieces {
        let mut bytes = *piece;
        loop {
            let next = match decoder.next(&mut bytes) {
                Ok(next) => next,
                Err(violation) => {
                    assert_eq!(decoder.next(&mut bytes), Err(violation), "told again");
                    return (frames, Some(violation));
                }
            };
            let Some(next) = next else { break };
            let in_frame = match next {
                websocket::Piece::Head(head) => {
                    assert_eq!(head.carried(), usize::saturating_sub(start, handed_over), "carried");
                    handed_over += head.wire().len();
                    frames.push(WebsocketFrame::data(&head));
                    !head.ends_frame()
                }
                websocket::Piece::Payload(payload) => {
                    let Some(WebsocketFrame::Data { kind, ends, length, mask, plain, .. }) = frames.last_mut() else {
                        unreachable!("a head comes before its payload")
                    };
                    assert!(!payload.wire.is_empty(), "a piece of nothing");
                    assert_eq!(payload.offset, plain.len() as u64, "no gaps");
                    assert_eq!(
                        (payload.kind, payload.mask, payload.ends_message),
                        (*kind, *mask, *ends),
                        "as its head"
                    );
                    plain.extend_from_slice(payload.unmask_into(&mut scratch));
                    assert_eq!(payload.ends_frame, plain.len() as u64 == *length, "its end");
                    handed_over += payload.wire.len();
                    !payload.ends_frame
                }
                websocket::Piece::Control(control) => {
                    handed_over += WebsocketFrame::control_size(&control, sender);
                    frames.push(WebsocketFrame::Control(control));
                    false
                }
            };
            assert_eq!(decoder.is_between_frames(), !in_frame, "between frames");
            let is_data = |frame: &&WebsocketFrame| matches!(frame, WebsocketFrame::Data { .. });
            let last = frames.iter().rev().find(is_data);
            let in_message = in_frame || matches!(last, Some(WebsocketFrame::Data { ends: false, .. }));
            assert_eq!(decoder.is_between_messages(), !in_message, "between messages");
        }
        assert!(bytes.is_empty(), "all was taken");
        start += piece.len();
    }
    (frames, None)
}

const PROTOCOLS: [Protocol; 6] = [
    Protocol::Realtime,
    Protocol::Responses,
    Protocol::Live,
    Protocol::DashscopeInference,
    Protocol::GeminiLive,
    Protocol::Unread,
];

/// A client's message on a realtime socket: cut anywhere; and on valid JSON, that none that names a model is let go, and
/// that the new names stand where the old ones were, and nothing else changes.
pub fn realtime_client(input: &[u8]) {
    let (data, pieces) = cut(input);
    for protocol in PROTOCOLS {
        let stance = stance_of(protocol, &[data]);
        assert_eq!(stance, stance_of(protocol, &pieces), "cut elsewhere");
        assert_ne!(stance, Stance::Undecided, "the end decides");
        let message = read_client_message(protocol, data);
        if let Ok(message) = &message {
            assert_eq!(realtime::rename(data, &message.models, &[]), data, "untouched");
        }
        let Ok(value @ Value::Object(_)) = serde_json::from_slice::<Value>(data) else { continue };
        let text = |path: &str| value.pointer(path).and_then(Value::as_str);
        let may_name = match protocol {
            Protocol::Realtime | Protocol::Responses | Protocol::Live => text("/type").is_some_and(|kind| {
                ["session.update", "transcription_session.update", "response.create", "session.start"].contains(&kind)
            }),
            Protocol::DashscopeInference => text("/header/action") == Some("run-task"),
            Protocol::GeminiLive => value.get("setup").is_some(),
            Protocol::Unread => false,
        };
        assert!(!may_name || stance != Stance::Free, "it is not let go");
        assert!(stance != Stance::Held || may_name, "only what may name a model is held");
        if let Ok(message) = message {
            renamed_in_client_message(protocol, data, &message, value);
        }
    }
}

fn stance_of(protocol: Protocol, pieces: &[&[u8]]) -> Stance {
    let mut reader = ClientReader::new(protocol);
    let mut before = Stance::Undecided;
    for piece in pieces {
        let now = reader.feed(piece);
        let stays = before == Stance::Undecided || before == now || now == Stance::Contradiction;
        assert!(stays, "once decided it stays so");
        before = now;
    }
    let end = reader.end();
    assert!(before == end || before == Stance::Undecided && end == Stance::Free, "the end changes nothing");
    assert_eq!(reader.end(), Stance::Free, "an empty message");
    end
}

fn renamed_in_client_message(protocol: Protocol, data: &[u8], message: &ClientMessage, mut expected: Value) {
    let places: &[&str] = match protocol {
        Protocol::Realtime | Protocol::Responses | Protocol::Live => &[
            "/model",
            "/response/model",
            "/session/model",
            "/session/audio/input/transcription/model",
            "/session/input_audio_transcription/model",
        ],
        Protocol::DashscopeInference => &["/payload/model"],
        Protocol::GeminiLive => &["/setup/model"],
        Protocol::Unread => &[],
    };
    let mut count = 0;
    for place in places {
        // A pointer leads through arrays, too, but not by these names.
        if let Some(Value::String(name)) = expected.pointer_mut(place) {
            let read = message.models.iter().find(|model| format!("{}{}", model.prefix, model.name) == *name);
            *name = format!("{}{ASKED}", read.map_or("not read", |model| model.prefix.as_str()));
            count += 1;
        }
    }
    assert_eq!(message.models.len(), count, "every name is read");
    let renamed = realtime::rename(data, &message.models, &vec![Some(ASKED); count]);
    assert_eq!(serde_json::from_slice::<Value>(&renamed).ok(), Some(expected), "renamed, and all else as it was");
}

/// What an upstream says on a realtime socket, a message on each line: cut anywhere, and bounded.
pub fn realtime_meter(input: &[u8]) {
    let (seed, data) = input.split_first().map_or((0, input), |(seed, data)| (*seed, data));
    for protocol in PROTOCOLS {
        for kind in [Kind::Text, Kind::Binary] {
            let mut whole = SessionMeter::new(protocol, Some("asked"));
            let mut cut = whole.clone();
            for message in data.split(|byte| *byte == b'\n') {
                if let Ok(sent) = read_client_message(protocol, message) {
                    whole.client_message(&sent, None);
                    cut.client_message(&sent, None);
                }
                let before = whole.used().to_vec();
                whole.feed(kind, message);
                for piece in message.chunks(1 + usize::from(seed % 32)) {
                    cut.feed(kind, piece);
                }
                let has_changed = whole.end();
                assert_eq!(has_changed, cut.end(), "cut elsewhere");
                assert!(has_changed || before == whole.used(), "a change is told");
            }
            assert_eq!(summary(&whole), summary(&cut), "cut elsewhere");
            assert!(whole.used().len() <= 40, "bounded");
            assert!(whole.open_tasks().len() <= 64 && whole.cancel().len() <= 64, "bounded");
            assert_eq!(whole.turns() == 0, whole.used().is_empty(), "who has reported is in the sums");
        }
    }
}

fn summary(meter: &SessionMeter) -> String {
    let state = (meter.used(), meter.model(), meter.has_open_work(), meter.open_tasks());
    format!("{state:?} {:?} {:?} {:?} {}", meter.flaw(), meter.cancel(), meter.error(), meter.turns())
}
